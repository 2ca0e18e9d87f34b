#include "switchyard/moe/bias.hpp"

#include <algorithm>
#include <array>

#include "named_table.hpp"
#include "rows.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/moe/select.hpp"

namespace switchyard::moe {
namespace {

void move_by_sign(float rate, const BiasInput& input, std::span<float> bias_E) {
  require(input.load_E.size() == bias_E.size(), "{} loads for a selection bias of {} values", input.load_E.size(),
          bias_E.size());
  Index total = 0;
  for (const Index load : input.load_E) total += load;
  for (std::size_t e = 0; e < bias_E.size(); ++e) {
    // load < mean, without the rounding of a division.
    const Index scaled = input.load_E[e] * static_cast<Index>(bias_E.size());
    if (scaled < total) bias_E[e] += rate;
    if (scaled > total) bias_E[e] -= rate;
  }
}

void move_to_quantile(float rate, const BiasInput& input, std::span<float> bias_E) {
  if (input.target_E.empty()) return;
  require(input.target_E.size() == bias_E.size(), "{} targets for a selection bias of {} values", input.target_E.size(),
          bias_E.size());
  for (std::size_t e = 0; e < bias_E.size(); ++e) {
    const auto bias = static_cast<double>(bias_E[e]);
    bias_E[e] = static_cast<float>(bias + static_cast<double>(rate) * (input.target_E[e] - bias));
  }
}

// Any number goes before NaN: a sort needs a strict order.
bool goes_before(float a, float b) { return a > b || (b != b && a == a); }

constexpr std::array kBiasRules = {
    BiasRule{"sign", false, move_by_sign},
    BiasRule{"quantile", true, move_to_quantile},
};

}  // namespace

std::span<const BiasRule> bias_rules() { return kBiasRules; }
const BiasRule& find_bias_rule(std::string_view name) { return require_row(bias_rules(), name, "bias update"); }

void update_selection_bias(const BalanceConfig& balance, Index step, const BiasInput& input, std::span<float> bias_E) {
  if (balance.bias_update_rate == 0.0F) return;
  if (balance.bias_freeze_after > 0 && step >= balance.bias_freeze_after) return;
  find_bias_rule(balance.bias_update).update(balance.bias_update_rate, input, bias_E);
  if (!balance.bias_centre) return;
  double mean = 0.0;
  for (const float bias : bias_E) mean += static_cast<double>(bias) / static_cast<double>(bias_E.size());
  for (float& bias : bias_E) bias = static_cast<float>(static_cast<double>(bias) - mean);
}

std::vector<double> quantile_bias(ConstMatrix scores_TE, std::span<const float> bias_E,
                                  std::span<const std::uint8_t> valid_T, Index top_k) {
  const Index tokens = scores_TE.rows, experts = scores_TE.cols, real = count_valid(valid_T, tokens);
  if (real == 0 || top_k >= experts) return {};
  std::vector<float> cutoff_T(static_cast<std::size_t>(tokens));
  parallel_for(tokens, row_grain(2 * experts), [&](Index begin, Index end) {
    std::vector<float> key(static_cast<std::size_t>(top_k) + 1);
    std::vector<std::int32_t> expert(key.size());
    for (Index t = begin; t < end; ++t) {
      if (!is_valid(valid_T, t)) continue;
      top_k_of_row(scores_TE.row(t), bias_E.data(), experts, top_k + 1, key.data(), expert.data());
      cutoff_T[static_cast<std::size_t>(t)] = key.back();
    }
  });
  const Index share = real * top_k / experts;  // below `real`, because top_k is below the experts
  std::vector<double> target_E(static_cast<std::size_t>(experts));
  parallel_for(experts, row_grain(4 * tokens), [&](Index begin, Index end) {
    std::vector<float> margin;
    for (Index e = begin; e < end; ++e) {
      margin.clear();
      for (Index t = 0; t < tokens; ++t)
        if (is_valid(valid_T, t)) margin.push_back(scores_TE(t, e) - cutoff_T[static_cast<std::size_t>(t)]);
      std::nth_element(margin.begin(), margin.begin() + share, margin.end(), goes_before);
      target_E[static_cast<std::size_t>(e)] = -static_cast<double>(margin[static_cast<std::size_t>(share)]);
    }
  });
  return target_E;
}

void BiasTargets::on_routing(const RoutingEvent& event) {
  if (!event.training || event.selection_bias_E.empty() || event.config.balance.bias_update_rate == 0.0F) return;
  if (!find_bias_rule(event.config.balance.bias_update).wants_target) return;
  const std::vector<double> target_E =
      quantile_bias(event.scores_TE, event.selection_bias_E, event.valid_T, event.config.router.top_k);
  if (target_E.empty()) return;
  Sum& sum = layers_[event.layer];
  sum.bias_E.resize(target_E.size());
  for (std::size_t e = 0; e < target_E.size(); ++e) sum.bias_E[e] += target_E[e];
  ++sum.calls;
}

std::vector<double> BiasTargets::target(Index layer) const {
  const auto found = layers_.find(layer);
  if (found == layers_.end()) return {};
  std::vector<double> mean_E = found->second.bias_E;
  for (double& bias : mean_E) bias /= static_cast<double>(found->second.calls);
  return mean_E;
}

}  // namespace switchyard::moe
