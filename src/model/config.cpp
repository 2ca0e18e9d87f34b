#include "switchyard/model/config.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "parameter_table.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/moe/score.hpp"

namespace switchyard::model {
namespace {

// Token ids and row numbers are 32 bits wide, and products of two sizes must fit an Index.
constexpr Index kLargestSize = std::numeric_limits<std::int32_t>::max();

void check_size(const std::string& key, Index value) {
  if (value < 1 || value > kLargestSize)
    fail(ErrorKind::kBadInput, "{}: {}, expected a number from 1 to {}", key, value, kLargestSize);
}

void check_positive(const std::string& key, double value) {
  if (!(value > 0.0) || !std::isfinite(value))
    fail(ErrorKind::kBadInput, "{}: {}, expected a number above 0", key, value);
}

// 0 stands for "not" or for a default.
void check_not_negative(const std::string& key, double value) {
  if (!(value >= 0.0) || !std::isfinite(value))
    fail(ErrorKind::kBadInput, "{}: {}, expected a number of at least 0", key, value);
}

void check_finite(const std::string& key, double value) {
  if (!std::isfinite(value)) fail(ErrorKind::kBadInput, "{}: {}, expected a finite number", key, value);
}

void validate_latent(const AttentionConfig& attention, const std::string& where) {
  const LatentConfig& latent = *attention.latent;
  check_size(where + ".latent.rank", latent.rank);
  check_size(where + ".latent.rope_dim", latent.rope_dim);
  check_size(where + ".latent.value_dim", latent.value_dim);
  if (latent.query_rank != 0) check_size(where + ".latent.query_rank", latent.query_rank);
  check_positive(where + ".latent.norm_eps", latent.norm_eps);
  if (latent.rope_dim % 2 != 0 || latent.rope_dim >= attention.head_dim)
    fail(ErrorKind::kBadInput, "{}.latent.rope_dim: {}, expected an even number below head_dim, which is {}", where,
         latent.rope_dim, attention.head_dim);
  if (attention.heads > kLargestSize / (attention.head_dim + latent.value_dim))
    fail(ErrorKind::kBadInput, "{}: {} heads of {} and {} elements, expected at most {} elements together", where,
         attention.heads, attention.head_dim, latent.value_dim, kLargestSize);
  if (attention.heads != attention.kv_heads || attention.qk_norm || attention.qk_norm_whole || attention.clip != 0.0F ||
      attention.sinks || attention.rotary_dim != 0)
    fail(ErrorKind::kUnsupported,
         "{}: latent attention has a key head for every head, no q/k norms, clip, sinks or rotary_dim", where);
}

void validate_attention(const AttentionConfig& attention, const std::string& where) {
  check_size(where + ".heads", attention.heads);
  check_size(where + ".kv_heads", attention.kv_heads);
  check_size(where + ".head_dim", attention.head_dim);
  if (attention.heads % attention.kv_heads != 0)
    fail(ErrorKind::kBadInput, "{}.kv_heads: {}, expected a divisor of heads, which is {}", where, attention.kv_heads,
         attention.heads);
  if (attention.head_dim % 2 != 0 && attention.rotary_dim == 0 && !attention.latent)
    fail(ErrorKind::kBadInput, "{}.head_dim: {}, expected an even number, because rotary embedding turns pairs", where,
         attention.head_dim);
  if (attention.heads > kLargestSize / attention.head_dim)
    fail(ErrorKind::kBadInput, "{}: {} heads of {} elements, expected at most {} elements together", where,
         attention.heads, attention.head_dim, kLargestSize);
  if (attention.rotary_dim % 2 != 0 || attention.rotary_dim < 0 || attention.rotary_dim > attention.head_dim)
    fail(ErrorKind::kBadInput, "{}.rotary_dim: {}, expected an even number of at most head_dim, which is {}", where,
         attention.rotary_dim, attention.head_dim);
  check_positive(where + ".rope_theta", attention.rope_theta);
  if (attention.qk_norm && attention.qk_norm_whole)
    fail(ErrorKind::kBadInput, "{}: both qk_norm and qk_norm_whole, expected one of them", where);
  check_not_negative(where + ".clip", attention.clip);
  check_finite(where + ".scale", attention.scale);
  check_not_negative(where + ".softcap", attention.softcap);
  check_not_negative(where + ".window", static_cast<double>(attention.window));
  if (attention.latent) validate_latent(attention, where);
  try {
    kernels::rope_table(rotary_elements(attention), attention.rope_theta, attention.rope_scaling);
  } catch (const Error& error) {
    fail(error.kind(), "{}.rope_scaling: {}", where, error.what());
  }
}

}  // namespace

void ModelConfig::validate(const std::string& where) const {
  check_size(where + ".vocab", vocab);
  check_size(where + ".width", width);
  check_size(where + ".max_positions", max_positions);
  check_positive(where + ".norm_eps", norm_eps);
  if (norm != "rms" && norm != "layer") fail(ErrorKind::kBadInput, "{}.norm: {}, expected rms or layer", where, norm);
  if (norm_bias && norm != "layer")
    fail(ErrorKind::kUnsupported, "{}.norm_bias: true, expected false: only LayerNorm has one", where);
  check_finite(where + ".embedding_scale", embedding_scale);
  check_finite(where + ".residual_scale", residual_scale);
  check_finite(where + ".logit_scale", logit_scale);
  if (!(dropout >= 0.0F && dropout < 1.0F))
    fail(ErrorKind::kBadInput, "{}.dropout: {}, expected a number from 0 to below 1", where, dropout);
  if (layers.empty()) fail(ErrorKind::kBadInput, "{}.layers: none, expected at least one", where);
  Index logits_before = 0;  // of the MoE layer before
  const auto check_layer = [&](const LayerConfig& layer, const std::string& row) {
    validate_attention(layer.attention, row + ".attention");
    if (layer.dense.has_value() == layer.moe.has_value())
      fail(ErrorKind::kBadInput, "{}: {}, expected either a dense or a MoE feed-forward network", row,
           layer.dense.has_value() ? "both dense and moe" : "neither dense nor moe");
    if (layer.dense) check_size(row + ".dense.hidden", layer.dense->hidden);
    if (layer.moe) {
      layer.moe->validate(row + ".moe");
      const Index logits = moe::logits_of(layer.moe->router);
      if (layer.moe->router.residual && logits_before != 0 && logits != logits_before)
        fail(ErrorKind::kBadInput,
             "{}.moe.router.residual: true, expected false: this router has {} logits, that of the MoE layer before {}",
             row, logits, logits_before);
      logits_before = logits;
      check_size(row + ".moe.expert.hidden", layer.moe->expert.hidden);
      if (layer.moe->shared.hidden != 0) check_size(row + ".moe.shared.hidden", layer.moe->shared.hidden);
    }
  };
  for (std::size_t i = 0; i < layers.size(); ++i) check_layer(layers[i], fmt::format("{}.layers[{}]", where, i));
  if (!prediction) return;
  check_layer(prediction->layer, where + ".prediction.layer");
  if (prediction->layer.moe && prediction->layer.moe->router.residual)
    fail(ErrorKind::kUnsupported, "{}.prediction.layer.moe.router.residual: true, expected false", where);
}

Index rotary_elements(const AttentionConfig& attention) {
  if (attention.latent) return attention.latent->rope_dim;
  return attention.rotary_dim == 0 ? attention.head_dim : attention.rotary_dim;
}

Index cached_key_width(const AttentionConfig& attention) {
  if (attention.latent) return attention.latent->rank + attention.latent->rope_dim;
  return attention.kv_heads * attention.head_dim;
}

Index cached_value_width(const AttentionConfig& attention) {
  return attention.latent ? 0 : attention.kv_heads * attention.head_dim;
}

bool ModelConfig::has_moe() const {
  return std::any_of(layers.begin(), layers.end(), [](const LayerConfig& layer) { return layer.moe.has_value(); });
}

bool reads_long_text(const ModelConfig& config, Index positions) {
  return std::any_of(config.layers.begin(), config.layers.end(), [&](const LayerConfig& layer) {
    const kernels::RopeScaling& scaling = layer.attention.rope_scaling;
    return scaling.kind == "longrope" && static_cast<double>(positions) > scaling.original_positions;
  });
}

std::string_view parameter_part_name(ParameterPart part) {
  constexpr std::array<std::string_view, kParameterParts> kNames = {
      "embedding", "attention", "router", "routed experts", "shared experts", "dense", "norms", "output"};
  return kNames[static_cast<std::size_t>(part)];
}

ParameterCounts count_rows(const std::vector<ParameterRow>& rows, bool tied_embeddings, const RouterOfRow& router_of) {
  ParameterCounts counts;
  for (const ParameterRow& row : rows) {
    const Index numel = row.shape.numel();
    if (__builtin_add_overflow(counts.total, numel, &counts.total))
      fail(ErrorKind::kBadInput, "the number of parameters overflows at {} {}", row.name, row.shape.to_string());
    counts.parts[static_cast<std::size_t>(row.part)] += numel;
    if (row.part == ParameterPart::kRoutedExperts) {
      const moe::RouterConfig& router = router_of(row);
      counts.active_experts += numel / router.experts * std::min(router.top_k, router.experts);
    }
  }
  const auto part = [&](ParameterPart p) { return counts.parts[static_cast<std::size_t>(p)]; };
  counts.active = counts.total - part(ParameterPart::kRoutedExperts) + counts.active_experts;
  counts.embedding = part(ParameterPart::kEmbedding) + part(ParameterPart::kOutput);
  counts.active_in_layers = counts.active - counts.embedding;
  counts.active_without_lookup = counts.active - (tied_embeddings ? 0 : part(ParameterPart::kEmbedding));
  return counts;
}

ParameterCounts count_parameters(const ModelConfig& config) {
  return count_rows(
      parameter_table(config), config.tied_embeddings, [&](const ParameterRow& row) -> const moe::RouterConfig& {
        const auto layer = static_cast<std::size_t>(row.layer);
        return (layer < config.layers.size() ? config.layers[layer] : config.prediction->layer).moe->router;
      });
}

}  // namespace switchyard::model
