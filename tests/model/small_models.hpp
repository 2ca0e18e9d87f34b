#pragma once
// Tiny transformers of every kind, and what tests of them share.

#include <ostream>
#include <string>
#include <vector>

#include "oracle/compare.hpp"
#include "oracle/transformer.hpp"
#include "switchyard/model/transformer.hpp"

namespace switchyard::model {

inline LayerConfig dense_layer(Index heads, Index kv_heads, Index head_dim, Index hidden,
                               kernels::Activation activation = kernels::Activation::kSwiGLU) {
  LayerConfig layer;
  layer.attention.heads = heads;
  layer.attention.kv_heads = kv_heads;
  layer.attention.head_dim = head_dim;
  layer.dense = DenseFfnConfig{hidden, activation};
  return layer;
}

inline LayerConfig moe_layer(Index heads, Index kv_heads, Index head_dim, Index experts, Index top_k, Index hidden) {
  LayerConfig layer = dense_layer(heads, kv_heads, head_dim, 1);
  layer.dense.reset();
  layer.moe.emplace();
  layer.moe->router.experts = experts;
  layer.moe->router.top_k = top_k;
  layer.moe->expert.hidden = hidden;
  return layer;
}

inline ModelConfig model_of(Index vocab, Index width, std::vector<LayerConfig> layers) {
  ModelConfig config;
  config.vocab = vocab;
  config.width = width;
  config.max_positions = 64;
  config.layers = std::move(layers);
  return config;
}

struct NamedModel {
  std::string name;
  ModelConfig config;
};
inline void PrintTo(const NamedModel& model, std::ostream* out) { *out << model.name; }

// One model for each thing that a row can say, and one that mixes them.
inline std::vector<NamedModel> small_models() {
  std::vector<NamedModel> models;
  models.push_back({"dense", model_of(13, 12, {dense_layer(3, 3, 4, 10), dense_layer(3, 3, 4, 10)})});

  ModelConfig tied = model_of(11, 8, {dense_layer(4, 2, 6, 9, kernels::Activation::kGELU)});
  tied.tied_embeddings = true;
  tied.norm_eps = 1e-3F;
  tied.layers[0].attention.qkv_bias = true;
  tied.layers[0].attention.output_bias = true;
  tied.layers[0].attention.rope_pairing = kernels::RopePairing::kInterleaved;
  models.push_back({"tied_grouped_biased_gelu", tied});

  ModelConfig normed = model_of(9, 10, {dense_layer(6, 2, 2, 7, kernels::Activation::kReLU)});
  normed.layers[0].attention.qk_norm = true;
  normed.layers[0].attention.rope_theta = 50.0;
  models.push_back({"qk_norm_relu", normed});

  ModelConfig softmax = model_of(12, 8, {moe_layer(2, 1, 4, 5, 2, 6)});
  softmax.layers[0].moe->balance.load_balance = 0.1F;
  softmax.layers[0].moe->balance.z_loss = 0.05F;
  models.push_back({"moe_softmax", softmax});

  ModelConfig renormalised = softmax;
  renormalised.layers[0].moe->router.normalise = "sum";
  renormalised.layers[0].moe->router.logits_bias = true;
  renormalised.layers[0].moe->expert.activation = kernels::Activation::kGELU;
  renormalised.layers[0].moe->capacity.factor = 0.8F;
  models.push_back({"moe_renormalised_capacity_gelu", renormalised});

  ModelConfig sigmoid = model_of(12, 8, {moe_layer(2, 2, 4, 6, 3, 5)});
  sigmoid.layers[0].moe->router.score = "sigmoid";
  sigmoid.layers[0].moe->router.normalise = "sum";
  sigmoid.layers[0].moe->router.scale = 2.5F;
  sigmoid.layers[0].moe->router.selection_bias = true;
  sigmoid.layers[0].moe->shared.hidden = 7;
  models.push_back({"moe_sigmoid_shared", sigmoid});

  ModelConfig biased = model_of(12, 8, {moe_layer(2, 1, 4, 5, 2, 6)});
  biased.layers[0].moe->router.normalise = "sum";
  biased.layers[0].moe->router.logits_bias = true;
  biased.layers[0].moe->expert.activation = kernels::Activation::kClampedSwiGLU;
  biased.layers[0].moe->expert.bias = true;
  biased.layers[0].moe->shared.hidden = 3;
  models.push_back({"moe_biased_experts_clamped", biased});

  ModelConfig mixed =
      model_of(17, 12, {dense_layer(2, 1, 6, 16), moe_layer(4, 2, 4, 3, 1, 8), moe_layer(2, 2, 6, 7, 3, 4)});
  mixed.tied_embeddings = true;
  mixed.layers[1].moe->shared.hidden = 5;
  mixed.layers[1].moe->shared.gated = true;
  mixed.layers[1].moe->balance.load_balance = 0.02F;
  mixed.layers[2].attention.qk_norm = true;
  mixed.layers[2].moe->balance.z_loss = 0.01F;
  mixed.layers[2].moe->capacity.factor = 1.0F;
  mixed.layers[2].moe->capacity.drop = "position";
  models.push_back({"mixed_rows", mixed});
  return models;
}

// Weights of about the size that keeps every layer's output near 1, and norms and biases that are not trivial, so
// that no term of a formula is multiplied by nearly nothing.
inline void randomize(Transformer& transformer, std::uint32_t seed) {
  for (autograd::Parameter* parameter : transformer.parameters()) {
    const Shape& shape = parameter->value.shape();
    const Index inputs = shape[shape.rank() - 1];
    const bool is_norm = parameter->role == autograd::ParameterRole::kNorm;
    const float scale = shape.rank() >= 2 ? 1.0F / std::sqrt(static_cast<float>(inputs)) : is_norm ? 0.2F : 0.1F;
    const std::vector<float> random = oracle::random_values(parameter->value.numel(), ++seed, scale);
    for (std::size_t i = 0; i < random.size(); ++i) parameter->value.f32()[i] = random[i] + (is_norm ? 1.0F : 0.0F);
  }
}

inline oracle::Parameters parameters_in_double(const Transformer& transformer) {
  oracle::Parameters parameters;
  for (const autograd::Parameter* parameter : transformer.parameters())
    parameters[parameter->name] = oracle::to_double(parameter->value.f32());
  return parameters;
}

// A rule that looks ahead, on every layer with experts.
inline void let_experts_choose(ModelConfig& config) {
  for (LayerConfig& layer : config.layers) {
    if (!layer.moe) continue;
    layer.moe->router.select = "expert-choice";
    layer.moe->router.selection_bias = false;
    layer.moe->balance.bias_update_rate = 0.0F;
    layer.moe->capacity.factor = 0.0F;
  }
}

// LongRoPE with a border that a text of ten tokens crosses.
inline void rotate_long_texts_otherwise(LayerConfig& layer) {
  const auto pairs = static_cast<std::size_t>(rotary_elements(layer.attention) / 2);
  kernels::RopeScaling& scaling = layer.attention.rope_scaling;
  scaling.kind = "longrope";
  scaling.original_positions = 9.0;
  scaling.short_factors.assign(pairs, 1.0);
  scaling.long_factors.assign(pairs, 3.0);
  scaling.magnitude = 1.1;
  scaling.long_magnitude = 1.3;
}

inline std::vector<std::int32_t> random_ids(Index count, Index vocab, std::uint32_t seed) {
  const RandomStream stream(seed, RandomPurpose::kTest, 77);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<std::int32_t>(stream.below(i, static_cast<std::uint64_t>(vocab)));
  return ids;
}

// The relative tolerance of what a whole model computes. Every layer is six sums of at most `terms` products one after
// the other, with a root or an exponential between; the errors of the stages are independent of each other, so they
// add like the sides of right angles.
inline double model_tolerance(const ModelConfig& config, int passes = 1) {
  Index terms = config.width;
  for (const LayerConfig& layer : config.layers) {
    terms = std::max(terms, layer.attention.heads * layer.attention.head_dim);
    terms = std::max(terms, layer.dense ? layer.dense->hidden : layer.moe->expert.hidden * layer.moe->router.top_k);
  }
  const double stages = 6.0 * static_cast<double>(config.layers.size()) + 2.0;
  return oracle::sum_tolerance(terms) * std::sqrt(stages * passes);
}

}  // namespace switchyard::model
