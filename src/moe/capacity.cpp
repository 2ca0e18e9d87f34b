#include "switchyard/moe/capacity.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "named_table.hpp"
#include "rows.hpp"
#include "switchyard/moe/weights.hpp"

namespace switchyard::moe {
namespace {

// Drops, for every expert with more than `capacity` of the assignments [from, to), all but the first `capacity` of them
// after arrange(first, kept_end, last) has put those to keep in front. The list it gets is in token order.
template <class Arrange>
void drop_beyond(Index capacity, Index from, Index to, const CapacityInput& input, Assignments& list,
                 const Arrange& arrange) {
  const auto experts = static_cast<std::size_t>(input.config.router.experts);
  std::vector<std::vector<std::int32_t>> of_expert(experts);
  for (Index a = from; a < to; ++a) {
    const auto at = static_cast<std::size_t>(a);
    if (list.dropped_A[at] == 0 && static_cast<std::size_t>(list.expert_A[at]) < experts)
      of_expert[static_cast<std::size_t>(list.expert_A[at])].push_back(static_cast<std::int32_t>(a));
  }
  for (std::vector<std::int32_t>& chosen : of_expert) {
    if (static_cast<Index>(chosen.size()) <= capacity) continue;
    arrange(chosen.begin(), chosen.begin() + capacity, chosen.end());
    for (auto a = chosen.begin() + capacity; a != chosen.end(); ++a) list.dropped_A[static_cast<std::size_t>(*a)] = 1;
  }
}

void drop_lowest_score(Index capacity, Index from, Index to, const CapacityInput& input, Assignments& list) {
  // Assignments are numbered in token order, so the number breaks ties. NaN goes last: a sort needs a strict order.
  const auto goes_before = [&](std::int32_t a, std::int32_t b) {
    const float score_a = list.score_A[static_cast<std::size_t>(a)],
                score_b = list.score_A[static_cast<std::size_t>(b)];
    const bool nan_a = std::isnan(score_a), nan_b = std::isnan(score_b);
    if (nan_a != nan_b) return nan_b;
    if (!nan_a && score_a != score_b) return score_a > score_b;
    return a < b;
  };
  drop_beyond(capacity, from, to, input, list,
              [&](auto first, auto kept_end, auto last) { std::nth_element(first, kept_end, last, goes_before); });
}

void drop_latest(Index capacity, Index from, Index to, const CapacityInput& input, Assignments& list) {
  drop_beyond(capacity, from, to, input, list, [](auto, auto, auto) {});
}

constexpr std::array kDropRules = {
    DropRule{"probs", drop_lowest_score},
    DropRule{"position", drop_latest},
};

constexpr std::array kOverflowRules = {
    OverflowRule{"drop", nullptr, false},
};

// x times a factor that was rounded to float32, rounded up: 1.1 as a float32 is a little more than 1.1, and ceil would
// make a whole slot of it.
Index round_up_scaled(double x) { return static_cast<Index>(std::ceil(x * (1.0 - 0x1.0p-22))); }

Index megatron_capacity(double factor, const RouterConfig& router, Index tokens) {
  return round_up_scaled(static_cast<double>(tokens * router.top_k) / static_cast<double>(router.experts) * factor);
}

constexpr std::array kFormulas = {
    CapacityFormula{"megatron", megatron_capacity},
};

void drop_at_random(const CapacityInput& input, Assignments& list) {
  const auto rate = static_cast<float>(input.config.router.expert_dropout);
  for (std::size_t a = 0; a < list.dropped_A.size(); ++a)
    if (input.random.uniform(a) < rate) list.dropped_A[a] = 1;
}

}  // namespace

std::span<const CapacityFormula> capacity_formulas() { return kFormulas; }
std::span<const DropRule> drop_rules() { return kDropRules; }
std::span<const OverflowRule> overflow_rules() { return kOverflowRules; }

Index expert_capacity(const MoeConfig& config, Index tokens, bool training) {
  const CapacityConfig& capacity = config.capacity;
  const float factor = training ? capacity.factor : capacity.evaluation_factor;
  if (factor <= 0.0F) return -1;
  const auto& formula = require_row(capacity_formulas(), capacity.formula, "capacity formula");
  // No expert can get more than one assignment a token, which also keeps a huge factor inside Index.
  const auto bounded = std::min(static_cast<double>(factor), static_cast<double>(config.router.experts));
  return std::max(capacity.minimum, std::min(formula.capacity(bounded, config.router, tokens), tokens));
}

void apply_capacity(const CapacityInput& input, Assignments& list) {
  const MoeConfig& config = input.config;
  const bool dropout = input.training && config.router.expert_dropout > 0.0F;
  const float factor = input.training ? config.capacity.factor : config.capacity.evaluation_factor;
  if (!dropout && factor <= 0.0F) return;
  if (dropout) drop_at_random(input, list);

  bool again = config.capacity.renormalise;
  if (factor > 0.0F) {
    const DropRule& drop = require_row(drop_rules(), config.capacity.drop, "drop rule");
    const OverflowRule& overflow = require_row(overflow_rules(), config.capacity.overflow, "overflow rule");
    again = again || overflow.changes_experts;
    const bool whole = config.capacity.scope == "batch" || input.sequence <= 0;
    const Index part = whole ? list.tokens : input.sequence;
    for (Index t = 0; t < list.tokens; t += part) {
      const Index end = std::min(list.tokens, t + part);
      const auto valid = input.valid_T.empty()
                             ? input.valid_T
                             : input.valid_T.subspan(static_cast<std::size_t>(t), static_cast<std::size_t>(end - t));
      const Index capacity = expert_capacity(config, count_valid(valid, end - t), input.training);
      const Index first = list.offset_T1[static_cast<std::size_t>(t)],
                  last = list.offset_T1[static_cast<std::size_t>(end)];
      drop.apply(capacity, first, last, input, list);
      if (overflow.apply != nullptr) overflow.apply(capacity, first, last, input, list);
    }
  }
  if (again) {
    const WeightRule& rule = find_weight_rule(config.router.normalise);
    if (config.capacity.renormalise)
      for (std::size_t a = 0; a < list.dropped_A.size(); ++a)
        if (list.dropped_A[a] != 0) list.score_A[a] = rule.absent;
    rule.forward(config.router, list);
  }
  for (std::size_t a = 0; a < list.dropped_A.size(); ++a) {
    if (!list.factor_A.empty()) list.weight_A[a] *= list.factor_A[a];
    if (list.dropped_A[a] != 0) list.weight_A[a] = 0.0F;
  }
}

void apply_capacity_backward(const Assignments& list, std::span<const float> d_fallback_T,
                             std::span<float> d_weight_A) {
  if (!d_fallback_T.empty()) {
    for (std::size_t t = 0; t < static_cast<std::size_t>(list.tokens); ++t)
      for (auto a = static_cast<std::size_t>(list.offset_T1[t]); a < static_cast<std::size_t>(list.offset_T1[t + 1]);
           ++a)
        if (list.dropped_A[a] != 0) d_weight_A[a] += d_fallback_T[t];
  }
  for (std::size_t a = 0; a < list.factor_A.size(); ++a) d_weight_A[a] *= list.factor_A[a];
}

}  // namespace switchyard::moe
