#include "switch_transformers.hpp"

#include <array>
#include <nlohmann/json.hpp>

#include "common.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

using formats::JsonConfig;

// Alternatives of one table stand in the order in which they are looked for: transformers 5 reads `shared` of a model
// that is not tied, but does not use it.
constexpr std::array kNames = {
    TensorRule{"embedding", kEncoderTable},
    TensorRule{"embedding", kDecoderTable},
    TensorRule{"embedding", kSharedTable},
    TensorRule{"encoder.embedding", kEncoderTable},
    TensorRule{"decoder.embedding", kDecoderTable},
    TensorRule{"output", "lm_head.weight"},

    TensorRule{"encoder.relative_bias", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"},
    TensorRule{"encoder.layers.{i}.attention_norm", "encoder.block.{i}.layer.0.layer_norm.weight"},
    TensorRule{"encoder.layers.{i}.attention.q", "encoder.block.{i}.layer.0.SelfAttention.q.weight"},
    TensorRule{"encoder.layers.{i}.attention.k", "encoder.block.{i}.layer.0.SelfAttention.k.weight"},
    TensorRule{"encoder.layers.{i}.attention.v", "encoder.block.{i}.layer.0.SelfAttention.v.weight"},
    TensorRule{"encoder.layers.{i}.attention.o", "encoder.block.{i}.layer.0.SelfAttention.o.weight"},
    TensorRule{"encoder.layers.{i}.ffn_norm", "encoder.block.{i}.layer.1.layer_norm.weight"},
    TensorRule{"encoder.layers.{i}.ffn.up", "encoder.block.{i}.layer.1.mlp.wi.weight"},
    TensorRule{"encoder.layers.{i}.ffn.down", "encoder.block.{i}.layer.1.mlp.wo.weight"},
    TensorRule{"encoder.layers.{i}.moe.router", "encoder.block.{i}.layer.1.mlp.router.classifier.weight"},
    TensorRule{"encoder.layers.{i}.moe.router_bias", "encoder.block.{i}.layer.1.mlp.router.classifier.bias"},
    TensorRule{"encoder.layers.{i}.moe.experts.up", "encoder.block.{i}.layer.1.mlp.experts.expert_{e}.wi.weight",
               Layout::kPerExpert},
    TensorRule{"encoder.layers.{i}.moe.experts.down", "encoder.block.{i}.layer.1.mlp.experts.expert_{e}.wo.weight",
               Layout::kPerExpert},
    TensorRule{"encoder.final_norm", "encoder.final_layer_norm.weight"},

    TensorRule{"decoder.relative_bias", "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"},
    TensorRule{"decoder.layers.{i}.attention_norm", "decoder.block.{i}.layer.0.layer_norm.weight"},
    TensorRule{"decoder.layers.{i}.attention.q", "decoder.block.{i}.layer.0.SelfAttention.q.weight"},
    TensorRule{"decoder.layers.{i}.attention.k", "decoder.block.{i}.layer.0.SelfAttention.k.weight"},
    TensorRule{"decoder.layers.{i}.attention.v", "decoder.block.{i}.layer.0.SelfAttention.v.weight"},
    TensorRule{"decoder.layers.{i}.attention.o", "decoder.block.{i}.layer.0.SelfAttention.o.weight"},
    TensorRule{"decoder.layers.{i}.cross_norm", "decoder.block.{i}.layer.1.layer_norm.weight"},
    TensorRule{"decoder.layers.{i}.cross.q", "decoder.block.{i}.layer.1.EncDecAttention.q.weight"},
    TensorRule{"decoder.layers.{i}.cross.k", "decoder.block.{i}.layer.1.EncDecAttention.k.weight"},
    TensorRule{"decoder.layers.{i}.cross.v", "decoder.block.{i}.layer.1.EncDecAttention.v.weight"},
    TensorRule{"decoder.layers.{i}.cross.o", "decoder.block.{i}.layer.1.EncDecAttention.o.weight"},
    TensorRule{"decoder.layers.{i}.ffn_norm", "decoder.block.{i}.layer.2.layer_norm.weight"},
    TensorRule{"decoder.layers.{i}.ffn.up", "decoder.block.{i}.layer.2.mlp.wi.weight"},
    TensorRule{"decoder.layers.{i}.ffn.down", "decoder.block.{i}.layer.2.mlp.wo.weight"},
    TensorRule{"decoder.layers.{i}.moe.router", "decoder.block.{i}.layer.2.mlp.router.classifier.weight"},
    TensorRule{"decoder.layers.{i}.moe.router_bias", "decoder.block.{i}.layer.2.mlp.router.classifier.bias"},
    TensorRule{"decoder.layers.{i}.moe.experts.up", "decoder.block.{i}.layer.2.mlp.experts.expert_{e}.wi.weight",
               Layout::kPerExpert},
    TensorRule{"decoder.layers.{i}.moe.experts.down", "decoder.block.{i}.layer.2.mlp.experts.expert_{e}.wo.weight",
               Layout::kPerExpert},
    TensorRule{"decoder.final_norm", "decoder.final_layer_norm.weight"},
};

// Copies of the embedding are compared where the model is loaded. The bias of cross-attention is in the original
// checkpoints' conversions, where nothing reads it.
constexpr std::array<std::string_view, 4> kIgnored = {
    kSharedTable, kEncoderTable, kDecoderTable,
    "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"};

ModelConfig refuse(const JsonConfig& json) {
  fail(ErrorKind::kUnsupported,
       "{}: {} is an encoder-decoder: generate, logits, inspect, plan, doctor and tokenize know it; this needs a model "
       "that goes on from a text",
       json.origin(), json.get_string("model_type"));
}

nlohmann::ordered_json never_written(const ModelConfig&) {
  fail(ErrorKind::kUnsupported, "a decoder-only model cannot be written as an encoder-decoder");
}

kernels::Activation read_activation(const JsonConfig& json) {
  if (json.has("is_gated_act")) expect_bool(json, "is_gated_act", false);
  const std::string key = json.has("dense_act_fn") ? "dense_act_fn" : "feed_forward_proj";
  const std::string name = json.get_string_or(key, "relu");
  if (name == "relu") return kernels::Activation::kReLU;
  if (name == "gelu") return kernels::Activation::kGELU;
  fail(ErrorKind::kUnsupported, "{}: found {}, only relu and gelu are supported: experts have two matrices",
       json.where(key), name);
}

// The layers of one stack. As in the reference, a step says which are sparse: the key itself where the file has it,
// else what follows from the number of sparse layers. (So 0 sparse layers of several make the second one sparse.)
std::vector<FeedForwardConfig> read_stack(const JsonConfig& json, std::string_view layers_key, std::size_t layers,
                                          std::string_view sparse_key, std::string_view step_key,
                                          const DenseFfnConfig& dense, const moe::MoeConfig& moe) {
  constexpr Index kDefaultSparse = 3;
  const auto count = static_cast<Index>(layers);
  const Index sparse = json.has(sparse_key) ? read_count_or(json, sparse_key, 0) : kDefaultSparse;
  const Index step = read_count_or(json, step_key, sparse > 0 ? count / sparse : count);
  if (json.has(sparse_key) && sparse > count)
    fail(ErrorKind::kBadInput, "{}: found {}, expected at most {}, which is {}", json.where(sparse_key), sparse,
         layers_key, count);
  std::vector<FeedForwardConfig> rows(layers);
  for (Index i = 0; i < count; ++i) {
    FeedForwardConfig& row = rows[static_cast<std::size_t>(i)];
    if (step == 1 || (step > 0 && i % step == 1))
      row.moe = moe;
    else
      row.dense = dense;
  }
  return rows;
}

Index read_size_or(const JsonConfig& json, std::string_view key, Index otherwise) {
  return json.has(key) ? read_size(json, key) : otherwise;
}

}  // namespace

// Defaults are those of the class in transformers.
EncoderDecoderConfig read_switch_config(const JsonConfig& json) {
  check_quantisation(json);
  EncoderDecoderConfig config;
  config.vocab = read_size_or(json, "vocab_size", 32128);
  config.width = read_size_or(json, json.find_first_of({"d_model", "hidden_size"}).value_or("d_model"), 768);
  config.head_dim = read_size_or(json, "d_kv", 64);
  config.heads = read_size_or(json, json.find_first_of({"num_heads", "num_attention_heads"}).value_or("num_heads"), 12);
  config.buckets.buckets = read_size_or(json, "relative_attention_num_buckets", 32);
  config.buckets.max_distance = read_size_or(json, "relative_attention_max_distance", 128);
  if (!config.buckets.valid())
    fail(ErrorKind::kBadInput,
         "{}: found {} with a relative_attention_max_distance of {}, expected at least 4, and a "
         "distance of more than half of it",
         json.where("relative_attention_num_buckets"), config.buckets.buckets, config.buckets.max_distance);
  config.norm_eps = static_cast<float>(json.get_float_or("layer_norm_epsilon", 1e-6));
  config.tied_embeddings = json.get_bool_or("tie_word_embeddings", true);
  expect_string(json, "router_dtype", "float32");
  constexpr std::string_view kStart = "decoder_start_token_id";
  const Index start = read_count_or(json, kStart, read_count_or(json, "pad_token_id", 0));
  if (start >= config.vocab)
    fail(ErrorKind::kBadInput, "{}: found {}, expected 0 to {}", json.where(kStart), start, config.vocab - 1);
  config.start_id = static_cast<std::int32_t>(start);

  DenseFfnConfig dense;
  dense.hidden = read_size_or(json, "d_ff", 2048);
  dense.activation = read_activation(json);
  moe::MoeConfig moe;
  moe.router.experts = read_size_or(json, "num_experts", 8);
  moe.router.top_k = 1;
  moe.router.logits_bias = json.get_bool_or("router_bias", false);
  moe.router.jitter = static_cast<float>(json.get_float_or("router_jitter_noise", 0.01));
  moe.expert.hidden = dense.hidden;
  moe.expert.activation = dense.activation;
  // In the encoder an expert takes the first expert_capacity tokens that choose it, and others pass it by, as
  // transformers has it since 5.23 and the paper before. The formula's own number is 1, so that the minimum decides.
  moe::MoeConfig limited = moe;
  limited.capacity.minimum = read_size_or(json, "expert_capacity", 64);
  limited.capacity.evaluation_factor = 1e-6F;
  limited.capacity.drop = "position";
  const auto layers = [&](std::string_view key, std::size_t otherwise) {
    return json.has(key) ? read_layers(json, key) : otherwise;
  };
  const std::size_t encoder =
      layers(json.find_first_of({"num_layers", "num_hidden_layers"}).value_or("num_layers"), 12);
  // Absent is 12; null is as many as the encoder has.
  const std::size_t decoder = layers("num_decoder_layers", json.is_null("num_decoder_layers") ? encoder : 12);
  config.encoder =
      read_stack(json, "num_layers", encoder, "num_sparse_encoder_layers", "encoder_sparse_step", dense, limited);
  config.decoder =
      read_stack(json, "num_decoder_layers", decoder, "num_sparse_decoder_layers", "decoder_sparse_step", dense, moe);
  config.validate(json.origin() + ": model");
  return config;
}

const Family kSwitchTransformers = {
    "switch_transformers", "SwitchTransformersForConditionalGeneration", refuse, never_written, kNames, kIgnored};

}  // namespace switchyard::model
