#pragma once
// Limits on how many assignments an expert takes, who goes when there are more, and where to.
//
// Formulas (tokens T without padding, K, E experts with weights, f the factor), all at least `minimum`:
//   megatron    ceil(T K / E * f)
//   ...
// Drop rules:
//   probs       each expert keeps the assignments with the largest scores (ties: the earlier token)
//   position    each expert keeps the earliest tokens
// Overflow rules, for what was dropped:
//   drop        the token passes that expert by on the residual path
// Experts without weights have no limit.

#include <span>
#include <string_view>

#include "switchyard/base/random.hpp"
#include "switchyard/moe/assignments.hpp"
#include "switchyard/moe/config.hpp"
#include "switchyard/tensor/view.hpp"

namespace switchyard::moe {

struct CapacityInput {
  const MoeConfig& config;
  ConstMatrix scores_TE;  // for an overflow rule that looks for another expert
  std::span<const std::uint8_t> valid_T;
  Index sequence = 0;  // tokens a sequence; 0 = one sequence
  bool training = true;
  RandomStream random;
};

struct CapacityFormula {
  std::string_view name;
  // Assignments an expert takes of so many tokens.
  Index (*capacity)(double factor, const RouterConfig& router, Index tokens);
};
std::span<const CapacityFormula> capacity_formulas();

struct DropRule {
  std::string_view name;
  // Marks dropped_A so that no expert keeps more than `capacity` of the assignments [first, last).
  void (*apply)(Index capacity, Index first, Index last, const CapacityInput& input, Assignments& assignments);
};
std::span<const DropRule> drop_rules();

struct OverflowRule {
  std::string_view name;
  // Edits what the drop rule marked. May be null: nothing more happens to them.
  void (*apply)(Index capacity, Index first, Index last, const CapacityInput& input, Assignments& assignments);
  bool changes_experts;  // weights have to be made again
};
std::span<const OverflowRule> overflow_rules();

// The whole step: capacity, drops, overflow, expert dropout. weight_A must have been filled and is right again
// afterwards: zero where dropped.
void apply_capacity(const CapacityInput& input, Assignments& assignments);
// dL/d(what the weight rule made) from dL/d(weight_A), in place, and from dL/d(fallback_T), empty where nothing fell
// back.
void apply_capacity_backward(const Assignments& assignments, std::span<const float> d_fallback_T,
                             std::span<float> d_weight_A);

// What the formula, factor and minimum of the config come to; -1: no limit. The rounding of factor to float32 does not
// count: 80 tokens, one expert of 8 each, 1.1 times is 11. Never more than the tokens there are.
Index expert_capacity(const MoeConfig& config, Index tokens, bool training);

}  // namespace switchyard::moe
