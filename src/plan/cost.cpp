#include "switchyard/plan/cost.hpp"

#include <algorithm>
#include <cmath>

#include "switchyard/base/error.hpp"
#include "switchyard/model/kv_cache.hpp"
#include "switchyard/model/transformer.hpp"

namespace switchyard::plan {
namespace {

using model::ParameterPart;

constexpr auto kCacheBytes = static_cast<double>(model::KvCache::kNumberBytes);

double visible(const AttentionCost& layer, double positions) {
  return layer.window == 0 ? positions : std::min(positions, static_cast<double>(layer.window));
}

// Positions that each of the first n tokens of a text sees, summed.
double visible_sum(const AttentionCost& layer, double n) {
  const double growing = visible(layer, n);
  return growing * (growing + 1.0) / 2.0 + (n - growing) * growing;
}

AttentionCost attention_cost(const model::AttentionConfig& a) {
  AttentionCost cost;
  cost.cache_width = model::cached_key_width(a) + model::cached_value_width(a);
  cost.window = a.window;
  const auto heads = static_cast<double>(a.heads);
  const auto key = static_cast<double>(a.head_dim);
  cost.prefill_flops = cost.decode_flops = 2.0 * heads * 2.0 * key;
  if (a.latent) {
    // Decoding multiplies by the latent itself instead of by the keys and values made from it.
    const auto rank = static_cast<double>(a.latent->rank), rope = static_cast<double>(a.latent->rope_dim);
    cost.prefill_flops = 2.0 * heads * (key + static_cast<double>(a.latent->value_dim));
    cost.decode_flops = 2.0 * heads * (rank + rope + rank);
  }
  return cost;
}

// Bytes and parameters of the routed experts that `tokens` need together.
double experts_bytes(const CostModel& cost, double tokens) {
  double sum = 0.0;
  for (const ExpertsCost& e : cost.experts)
    sum += e.bytes * expected_experts(e.experts, e.top_k, tokens) / static_cast<double>(e.experts);
  return sum;
}
double active_layer_parameters(const CostModel& cost) {
  double sum = cost.layer_parameters;
  for (const ExpertsCost& e : cost.experts)
    sum += e.parameters * static_cast<double>(e.top_k) / static_cast<double>(e.experts);
  return sum;
}

}  // namespace

double expected_experts(Index experts, Index top_k, double tokens) {
  const auto e = static_cast<double>(experts);
  return -e * std::expm1(tokens * std::log1p(-static_cast<double>(top_k) / e));
}

double CostModel::bytes() const {
  double sum = layer_bytes + output_bytes + lookup_bytes;
  for (const ExpertsCost& e : experts) sum += e.bytes;
  return sum;
}

double CostModel::parameters() const {
  double sum = layer_parameters + output_parameters + lookup_parameters;
  for (const ExpertsCost& e : experts) sum += e.parameters;
  return sum;
}

CostModel CostModel::dense_of_total_size() const {
  CostModel dense = *this;
  for (const ExpertsCost& e : experts) {
    dense.layer_bytes += e.bytes;
    dense.layer_parameters += e.parameters;
  }
  dense.experts.clear();
  return dense;
}

CostModel CostModel::dense_of_active_size() const {
  CostModel dense = *this;
  for (const ExpertsCost& e : experts) {
    const double share = static_cast<double>(e.top_k) / static_cast<double>(e.experts);
    dense.layer_bytes += e.bytes * share;
    dense.layer_parameters += e.parameters * share;
  }
  dense.experts.clear();
  return dense;
}

CostModel cost_model(const model::ModelConfig& config, const WeightFormat& format) {
  CostModel cost;
  std::vector<ExpertsCost> experts(config.layers.size());
  for (const model::ParameterShape& parameter : model::parameter_shapes(config)) {
    const auto bytes = static_cast<double>(stored_bytes(format, parameter));
    const auto numel = static_cast<double>(parameter.shape.numel());
    // The one table of a tied model is the output projection, which every token needs whole.
    if (parameter.part == ParameterPart::kEmbedding && !config.tied_embeddings) {
      cost.lookup_bytes += bytes;
      cost.lookup_parameters += numel;
    } else if (parameter.part == ParameterPart::kEmbedding || parameter.part == ParameterPart::kOutput) {
      cost.output_bytes += bytes;
      cost.output_parameters += numel;
    } else if (parameter.part == ParameterPart::kRoutedExperts) {
      ExpertsCost& layer = experts[static_cast<std::size_t>(parameter.layer)];
      layer.bytes += bytes;
      layer.parameters += numel;
    } else {
      cost.layer_bytes += bytes;
      cost.layer_parameters += numel;
    }
  }
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const model::LayerConfig& layer = config.layers[i];
    cost.attention.push_back(attention_cost(layer.attention));
    if (!layer.moe) continue;
    experts[i].experts = layer.moe->router.experts;
    experts[i].top_k = std::min(layer.moe->router.top_k, layer.moe->router.experts);
    cost.experts.push_back(experts[i]);
  }
  return cost;
}

double PassCost::seconds(const Machine& machine) const {
  return std::max((weight_bytes + cache_bytes) / machine.bandwidth, flops / machine.arithmetic);
}

bool PassCost::waits_for_memory(const Machine& machine) const {
  return (weight_bytes + cache_bytes) / machine.bandwidth >= flops / machine.arithmetic;
}

PassCost decode_cost(const CostModel& cost, Index batch, Index context) {
  const auto texts = static_cast<double>(batch), before = static_cast<double>(context);
  PassCost pass;
  pass.weight_bytes = cost.layer_bytes + cost.output_bytes + experts_bytes(cost, texts);
  pass.flops = 2.0 * texts * (active_layer_parameters(cost) + cost.output_parameters);
  for (const AttentionCost& layer : cost.attention) {
    const double seen = visible(layer, before + 1.0);
    pass.cache_bytes += texts * seen * kCacheBytes * static_cast<double>(layer.cache_width);
    pass.flops += texts * seen * layer.decode_flops;
  }
  return pass;
}

PassCost prefill_cost(const CostModel& cost, Index tokens) {
  PassCost pass;
  pass.weight_bytes = cost.output_bytes;
  pass.flops = 2.0 * (static_cast<double>(tokens) * active_layer_parameters(cost) + cost.output_parameters);
  // Sums over whole chunks, then the rest, in closed form: a prompt of any length is predicted at once.
  const auto all = static_cast<double>(tokens), chunk = static_cast<double>(model::kPrefillChunk);
  const auto chunks = static_cast<double>(tokens / model::kPrefillChunk),
             rest = static_cast<double>(tokens % model::kPrefillChunk);
  pass.weight_bytes += chunks * (cost.layer_bytes + experts_bytes(cost, chunk));
  if (rest > 0.0) pass.weight_bytes += cost.layer_bytes + experts_bytes(cost, rest);
  for (const AttentionCost& layer : cost.attention) {
    pass.flops += layer.prefill_flops * visible_sum(layer, all);
    // A chunk reads the rows up to its end, or as far back as its first token sees.
    const double before = layer.window == 0 ? all : static_cast<double>(layer.window - 1);
    const double growing = std::min(chunks, std::floor((chunk + before) / chunk));
    double rows = chunk * growing * (growing + 1.0) / 2.0 + (chunks - growing) * (chunk + before);
    if (rest > 0.0) rows += std::min(all, rest + before);
    pass.cache_bytes += rows * kCacheBytes * static_cast<double>(layer.cache_width);
  }
  return pass;
}

Index cached_numbers(const model::ModelConfig& config, Index positions, bool windows_bound) {
  Index sum = 0;
  for (const model::LayerConfig& layer : config.layers) {
    const model::AttentionConfig& a = layer.attention;
    const Index width = model::cached_key_width(a) + model::cached_value_width(a);
    const Index rows = windows_bound && a.window != 0 ? std::min(positions, a.window) : positions;
    Index numbers = 0;
    if (__builtin_mul_overflow(width, rows, &numbers) || __builtin_add_overflow(sum, numbers, &sum))
      fail(ErrorKind::kBadInput, "a cache of {} positions: the number of bytes overflows", positions);
  }
  return sum;
}

}  // namespace switchyard::plan
