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

void validate_attention(const AttentionConfig& attention, const std::string& where) {
  check_size(where + ".heads", attention.heads);
  check_size(where + ".kv_heads", attention.kv_heads);
  check_size(where + ".head_dim", attention.head_dim);
  if (attention.heads % attention.kv_heads != 0)
    fail(ErrorKind::kBadInput, "{}.kv_heads: {}, expected a divisor of heads, which is {}", where, attention.kv_heads,
         attention.heads);
  if (attention.head_dim % 2 != 0)
    fail(ErrorKind::kBadInput, "{}.head_dim: {}, expected an even number, because rotary embedding turns pairs", where,
         attention.head_dim);
  if (attention.heads > kLargestSize / attention.head_dim)
    fail(ErrorKind::kBadInput, "{}: {} heads of {} elements, expected at most {} elements together", where,
         attention.heads, attention.head_dim, kLargestSize);
  if (!(attention.rope_theta > 0.0) || !std::isfinite(attention.rope_theta))
    fail(ErrorKind::kBadInput, "{}.rope_theta: {}, expected a number above 0", where, attention.rope_theta);
}

}  // namespace

void ModelConfig::validate(const std::string& where) const {
  check_size(where + ".vocab", vocab);
  check_size(where + ".width", width);
  check_size(where + ".max_positions", max_positions);
  if (!(norm_eps > 0.0F) || !std::isfinite(norm_eps))
    fail(ErrorKind::kBadInput, "{}.norm_eps: {}, expected a number above 0", where, norm_eps);
  if (!(dropout >= 0.0F && dropout < 1.0F))
    fail(ErrorKind::kBadInput, "{}.dropout: {}, expected a number from 0 to below 1", where, dropout);
  if (layers.empty()) fail(ErrorKind::kBadInput, "{}.layers: none, expected at least one", where);
  Index logits_before = 0;  // of the MoE layer before
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const LayerConfig& layer = layers[i];
    const std::string row = fmt::format("{}.layers[{}]", where, i);
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
  }
}

bool ModelConfig::has_moe() const {
  return std::any_of(layers.begin(), layers.end(), [](const LayerConfig& layer) { return layer.moe.has_value(); });
}

ParameterCounts count_parameters(const ModelConfig& config) {
  ParameterCounts counts;
  for (const ParameterRow& row : parameter_table(config)) {
    if (row.role == autograd::ParameterRole::kBuffer) continue;
    const Index numel = row.shape.numel();
    counts.total += numel;
    if (row.of_experts) {
      const moe::RouterConfig& router = config.layers[static_cast<std::size_t>(row.layer)].moe->router;
      counts.active += numel / router.experts * router.top_k;
    } else {
      counts.active += numel;
    }
    if (row.role == autograd::ParameterRole::kEmbedding || row.role == autograd::ParameterRole::kOutput)
      counts.embedding += numel;
  }
  return counts;
}

}  // namespace switchyard::model
