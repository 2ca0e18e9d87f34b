#include "switchyard/moe/capacity.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "capacity_rules.hpp"
#include "named_table.hpp"
#include "rows.hpp"
#include "switchyard/moe/weights.hpp"

namespace switchyard::moe {
namespace {

constexpr std::array kDropRules = {
    DropRule{"probs", drop_lowest_score},
    DropRule{"weights", drop_lowest_weight},
    DropRule{"position", drop_latest},
    DropRule{"position-by-rank", drop_latest_by_rank},
    DropRule{"batch-priority", drop_by_batch_priority},
    DropRule{"random", drop_at_random},
};

constexpr std::array kOverflowRules = {
    OverflowRule{"drop", nullptr},
    OverflowRule{"scale", scale_down},
    OverflowRule{"reroute", reroute},
    OverflowRule{"fallback", fall_back},
};

// The decimal number that was written where a float32 was read: 1.1 and not what 1.1 is as a float32.
double decimal_of(float value) {
  std::array<char, 64> text;
  const char* end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  double decimal = 0.0;
  std::from_chars(text.data(), end, decimal);
  return decimal;
}

// Of numbers that would be whole, or half, but for the rounding of a few operations in double.
constexpr double kRounding = 1e-12;
Index round_up(double x) { return static_cast<Index>(std::ceil(x * (1.0 - kRounding))); }
Index round_down(double x) { return static_cast<Index>(std::floor(x * (1.0 + kRounding))); }
Index round_half_to_even(double x) {
  const double nearest_half = std::round(2.0 * x) / 2.0;
  return static_cast<Index>(std::nearbyint(std::abs(x - nearest_half) <= kRounding * x ? nearest_half : x));
}

double per_expert(Index count, const RouterConfig& router) {
  return static_cast<double>(count) / static_cast<double>(router.experts);
}

Index megatron_capacity(double factor, const RouterConfig& router, Index tokens) {
  return round_up(per_expert(tokens * router.top_k, router) * factor);
}
Index tutel_capacity(double factor, const RouterConfig& router, Index tokens) {
  return router.top_k * round_down(factor * static_cast<double>(ceil_div(tokens, router.experts)));
}
Index fairscale_capacity(double, const RouterConfig& router, Index tokens) { return 2 * tokens / router.experts; }
Index mesh_capacity(double factor, const RouterConfig& router, Index tokens) {
  return round_down(per_expert(tokens, router) * factor);
}
Index flaxformer_capacity(double factor, const RouterConfig& router, Index tokens) {
  return round_half_to_even(per_expert(tokens, router) * factor);
}

constexpr std::array kFormulas = {
    CapacityFormula{"megatron", megatron_capacity}, CapacityFormula{"deepspeed", megatron_capacity},
    CapacityFormula{"tutel", tutel_capacity},       CapacityFormula{"fairscale", fairscale_capacity},
    CapacityFormula{"mesh", mesh_capacity},         CapacityFormula{"flaxformer", flaxformer_capacity},
};

// One draw a token and expert, so that a change of rank among a token's experts does not change who goes.
void drop_out(const CapacityInput& input, Assignments& list) {
  const float rate = input.config.router.expert_dropout;
  for (std::size_t t = 0; t < static_cast<std::size_t>(list.tokens); ++t)
    for (auto a = static_cast<std::size_t>(list.offset_T1[t]); a < static_cast<std::size_t>(list.offset_T1[t + 1]); ++a)
      if (input.random.uniform(t * static_cast<std::size_t>(list.experts) +
                               static_cast<std::size_t>(list.expert_A[a])) < rate)
        list.dropped_A[a] = 1;
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
  const double bounded = std::min(decimal_of(factor), static_cast<double>(config.router.experts));
  return std::max(capacity.minimum, std::min(formula.capacity(bounded, config.router, tokens), tokens));
}

void apply_capacity(const CapacityInput& input, Assignments& list) {
  const MoeConfig& config = input.config;
  const bool dropout = input.training && config.router.expert_dropout > 0.0F;
  const float factor = input.training ? config.capacity.factor : config.capacity.evaluation_factor;
  if (!dropout && factor <= 0.0F) return;
  if (dropout) drop_out(input, list);

  bool again = config.capacity.renormalise;
  if (factor > 0.0F) {
    const DropRule& drop = require_row(drop_rules(), config.capacity.drop, "drop rule");
    const OverflowRule& overflow = require_row(overflow_rules(), config.capacity.overflow, "overflow rule");
    std::vector<std::uint8_t> before;
    if (overflow.apply != nullptr) before = list.dropped_A;
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
      if (overflow.apply != nullptr) overflow.apply({capacity, first, last, before, dropout}, input, list);
    }
    again = again || !list.chosen_A.empty();
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
