#include "switchyard/model/transformer.hpp"

#include <algorithm>
#include <cmath>

#include "layer.hpp"
#include "parameter_table.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/elementwise.hpp"
#include "switchyard/kernels/matmul.hpp"

namespace switchyard::model {

using autograd::Parameter;
using autograd::ParameterRole;
using autograd::Tape;
using autograd::Value;

namespace {

constexpr Index kInitGrain = 4096;  // elements a task

// Fills with normal numbers; one that is cut off is drawn again. `number` tells the parameters apart.
void fill_normal(std::span<float> values, float std, float truncate, std::uint64_t seed, std::uint32_t number) {
  const RandomStream stream(seed, RandomPurpose::kInit, number);
  const auto count = static_cast<std::uint64_t>(values.size());
  parallel_for(static_cast<Index>(count), kInitGrain, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      auto at = static_cast<std::uint64_t>(i);
      float x = stream.normal(at);
      while (truncate > 0.0F && std::abs(x) > truncate) x = stream.normal(at += count);
      values[static_cast<std::size_t>(i)] = x * std;
    }
  });
}

void check_init(const InitConfig& init) {
  const auto check = [](const char* key, float value) {
    if (!(value >= 0.0F) || !std::isfinite(value))
      fail(ErrorKind::kBadInput, "init.{}: {}, expected a number of at least 0", key, value);
  };
  check("std", init.std);
  check("truncate", init.truncate);
  check("router_std", init.router_std);
  check("embedding_std", init.embedding_std);
  // Below this nearly every draw would be refused.
  if (init.truncate > 0.0F && init.truncate < 0.1F)
    fail(ErrorKind::kBadInput, "init.truncate: {} standard deviations, expected 0 (off) or at least 0.1",
         init.truncate);
}

}  // namespace

void check_ids(std::span<const std::int32_t> ids, Index vocab) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab)
      fail(ErrorKind::kBadInput, "token {} has id {}, expected 0 to {}", i, ids[i], vocab - 1);
  }
}

Transformer::Transformer(ModelConfig config, ParameterMemory memory) : config_(std::move(config)) {
  config_.validate();
  make_parameters(parameter_table(config_), memory, storage_, parameters_);
  embedding_ = find("embedding");
  final_norm_ = find("final_norm");
  final_norm_bias_ = find("final_norm_bias");
  output_bias_ = find("output_bias");
  output_ = config_.tied_embeddings ? embedding_ : find("output");
  for (std::size_t i = 0; i < config_.layers.size(); ++i) {
    const auto index = static_cast<Index>(i);
    std::unique_ptr<Layer> layer = make_layer(index, config_.layers[i], index);
    if (layer->config.moe && layer->config.moe->router.residual) {
      const auto before = std::find_if(layers_.rbegin(), layers_.rend(),
                                       [](const auto& other) { return other->config.moe.has_value(); });
      if (before != layers_.rend()) (*before)->next_reads_logits = true;
    }
    layers_.push_back(std::move(layer));
  }
  if (!config_.prediction) return;
  const auto behind = static_cast<Index>(layers_.size());
  const auto named = [&](std::string_view name) { return find(fmt::format("layers.{}.prediction.{}", behind, name)); };
  const auto norm = [&](const std::string& name) { return NormParameters{named(name), named(name + "_bias")}; };
  prediction_ = std::make_unique<Prediction>();
  prediction_->layer = make_layer(behind, config_.prediction->layer, 0);
  prediction_->embedding_norm = norm("embedding_norm");
  prediction_->hidden_norm = norm("hidden_norm");
  prediction_->final_norm = norm("final_norm");
  prediction_->projection = named("projection");
  prediction_->embedding = config_.prediction->embedding ? named("embedding") : embedding_;
  prediction_->output = config_.prediction->output ? named("output") : output_;
}

std::unique_ptr<Transformer::Layer> Transformer::make_layer(Index index, const LayerConfig& row, Index cache_row) {
  const auto named = [&](std::string_view name) { return find(fmt::format("layers.{}.{}", index, name)); };
  auto layer = std::make_unique<Layer>();
  layer->index = index;
  layer->config = row;
  const auto norm = [&](const std::string& name) { return NormParameters{named(name), named(name + "_bias")}; };
  layer->attention_norm = norm("attention_norm");
  layer->attention_post_norm = norm("attention_post_norm");
  layer->ffn_norm = norm("ffn_norm");
  layer->ffn_post_norm = norm("ffn_post_norm");
  AttentionParameters attention;
  attention.q = named("attention.q");
  attention.k = named("attention.k");
  attention.v = named("attention.v");
  attention.o = named("attention.o");
  attention.q_bias = named("attention.q_bias");
  attention.k_bias = named("attention.k_bias");
  attention.v_bias = named("attention.v_bias");
  attention.o_bias = named("attention.o_bias");
  attention.q_norm = named("attention.q_norm");
  attention.k_norm = named("attention.k_norm");
  attention.sinks = named("attention.sinks");
  attention.q_a = named("attention.q_a");
  attention.q_a_norm = named("attention.q_a_norm");
  attention.q_b = named("attention.q_b");
  attention.kv_a = named("attention.kv_a");
  attention.q_a_bias = named("attention.q_a_bias");
  attention.kv_a_bias = named("attention.kv_a_bias");
  attention.kv_a_norm = named("attention.kv_a_norm");
  attention.kv_b = named("attention.kv_b");
  layer->attention = Attention(cache_row, layer->config.attention, attention);
  layer->dense = {named("ffn.gate"), named("ffn.up"), named("ffn.down")};
  layer->moe.router_ED = named("moe.router");
  layer->moe.router_bias_E = named("moe.router_bias");
  if (layer->config.moe)
    for (const moe::RouterPartShape& part : moe::router_parts(layer->config.moe->router, config_.width))
      layer->moe.router_parts[static_cast<std::size_t>(part.part)] = named(fmt::format("moe.{}", part.name));
  layer->moe.selection_bias_E = named("moe.selection_bias");
  layer->moe.gate_EFD = named("moe.experts.gate");
  layer->moe.up_EFD = named("moe.experts.up");
  layer->moe.down_EDF = named("moe.experts.down");
  layer->moe.gate_bias_EF = named("moe.experts.gate_bias");
  layer->moe.up_bias_EF = named("moe.experts.up_bias");
  layer->moe.down_bias_ED = named("moe.experts.down_bias");
  layer->moe.shared = {named("moe.shared.gate"), named("moe.shared.up"), named("moe.shared.down")};
  layer->moe.shared_gate_D = named("moe.shared_gate");
  return layer;
}

Transformer::Transformer(Transformer&&) noexcept = default;
Transformer& Transformer::operator=(Transformer&&) noexcept = default;
Transformer::~Transformer() = default;

std::span<const Parameter* const> Transformer::parameters() const { return {parameters_.data(), parameters_.size()}; }

Parameter* Transformer::find(std::string_view name) {
  const auto at =
      std::find_if(parameters_.begin(), parameters_.end(), [&](const Parameter* p) { return p->name == name; });
  return at == parameters_.end() ? nullptr : *at;
}

void Transformer::initialize(const InitConfig& init, std::uint64_t seed) {
  check_init(init);
  const std::vector<ParameterRow> rows = parameter_table(config_);
  const auto residual_factor = static_cast<float>(1.0 / std::sqrt(2.0 * static_cast<double>(config_.layers.size())));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::span<float> values = parameters_[i]->value.f32();
    float std = init.std;
    switch (rows[i].role) {
      case ParameterRole::kNorm:
        std::fill(values.begin(), values.end(), 1.0F);
        continue;
      case ParameterRole::kBias:
      case ParameterRole::kBuffer:
        std::fill(values.begin(), values.end(), 0.0F);
        continue;
      case ParameterRole::kEmbedding:
        if (init.embedding_std > 0.0F) std = init.embedding_std;
        break;
      case ParameterRole::kRouter:
        if (init.router_std > 0.0F) std = init.router_std;
        break;
      case ParameterRole::kOutput:
      case ParameterRole::kMatrix:
      case ParameterRole::kExpert:
        break;
    }
    if (init.scale_residual && rows[i].writes_to_residual) std *= residual_factor;
    fill_normal(values, std, init.truncate, seed, static_cast<std::uint32_t>(i));
  }
}

ForwardResult Transformer::forward(std::span<const std::int32_t> id_T, const ForwardCall& call) {
  require(call.batch >= 1 && call.sequence >= 1 && static_cast<Index>(id_T.size()) == call.batch * call.sequence,
          "{} ids for {} sequences of {}", id_T.size(), call.batch, call.sequence);
  require(call.valid_T.empty() || call.valid_T.size() == id_T.size(), "{} marks of padding for {} ids",
          call.valid_T.size(), id_T.size());
  require(call.cache == nullptr || (call.batch == 1 && call.tape == nullptr), "a cache needs batch 1 and no tape");
  require(call.cache != nullptr || !call.one_by_one, "one by one needs a cache");
  const auto pass = std::make_shared<Pass>();
  pass->batch = call.batch;
  pass->sequence = call.sequence;
  pass->training = call.training;
  pass->dropout = call.training ? config_.dropout : 0.0F;
  pass->config = &config_;
  pass->seed = call.seed;
  pass->step = call.step;
  pass->cache = call.cache;
  pass->one_by_one = call.one_by_one;
  pass->observer = call.observer;
  pass->inspect = call.inspect;
  pass->id_T.assign(id_T.begin(), id_T.end());
  pass->valid_T.assign(call.valid_T.begin(), call.valid_T.end());
  if (call.load_before != nullptr) pass->load_before = *call.load_before;
  const Index past = call.cache == nullptr ? 0 : call.cache->length();
  pass->long_text = reads_long_text(config_, std::max(past + call.sequence, call.text_length));
  pass->position_T.reserve(id_T.size());
  for (Index b = 0; b < call.batch; ++b)
    for (Index s = 0; s < call.sequence; ++s) pass->position_T.push_back(static_cast<std::int32_t>(past + s));

  Value h = autograd::embedding(call.tape, *embedding_, id_T);
  if (call.inspect != nullptr) (*call.inspect)("embedding", h.tensor().f32());
  if (call.cache != nullptr) call.cache->reserve(call.sequence);
  h = autograd::scale(call.tape, std::move(h), config_.embedding_scale);
  h = autograd::dropout(call.tape, std::move(h), pass->dropout, dropout_stream(*pass, 0, DropoutSite::kEmbedding));
  ForwardResult result;
  std::shared_ptr<Value> previous_logits;  // lives as long as a layer that may be recomputed from it
  for (const std::unique_ptr<Layer>& owned : layers_) {
    const Layer* layer = owned.get();
    std::vector<Value> outputs;
    if (call.recompute && call.tape != nullptr) {
      outputs =
          autograd::recompute(call.tape, h, [layer, pass, previous_logits](Tape* tape, const Value& x, bool again) {
            return layer->forward(tape, x, previous_logits.get(), *pass, again);
          });
    } else {
      outputs = layer->forward(call.tape, h, previous_logits.get(), *pass, false);
    }
    h = std::move(outputs[0]);
    if (outputs.size() > 1) result.router_losses.push_back(std::move(outputs[1]));
    if (outputs.size() > 2) previous_logits = std::make_shared<Value>(std::move(outputs[2]));
  }
  h = normalise(call.tape, std::move(h), {final_norm_, final_norm_bias_}, config_);
  // Here, so that logits and loss both see it.
  result.hidden_TD = autograd::scale(call.tape, std::move(h), config_.logit_scale);
  if (call.inspect != nullptr) (*call.inspect)("final_norm", result.hidden_TD.tensor().f32());
  if (call.cache != nullptr) call.cache->advance(call.sequence);
  return result;
}

Tensor Transformer::logits(ConstMatrix hidden_TD) const {
  Tensor result = Tensor::uninitialized(DType::kF32, {hidden_TD.rows, config_.vocab});
  kernels::matmul_nt(hidden_TD, output_->weight(), result.matrix());
  if (output_bias_ != nullptr) kernels::add_bias(result.matrix(), std::as_const(output_bias_->value).f32());
  return result;
}

Value Transformer::loss(Tape* tape, const Value& hidden_TD, std::span<const std::int32_t> target_T, Index* count) {
  return autograd::cross_entropy(tape, hidden_TD, *output_, output_bias_, target_T, count);
}

void Transformer::set_expert_store(Index layer, std::unique_ptr<moe::ExpertStore> store) {
  const auto count = static_cast<Index>(layers_.size());
  require(layer >= 0 && layer < count + (prediction_ ? 1 : 0), "no layer {} of {}", layer, count);
  Layer& target = layer == count ? *prediction_->layer : *layers_[static_cast<std::size_t>(layer)];
  require(target.config.moe.has_value(), "layer {} is not MoE: it has no expert store", layer);
  require(store == nullptr || store->experts() == target.config.moe->router.experts,
          "an expert store for another number of experts");
  target.store = std::move(store);
}

}  // namespace switchyard::model
