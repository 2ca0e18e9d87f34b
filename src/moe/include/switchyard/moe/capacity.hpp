#pragma once
// Limits on how many assignments an expert takes, who goes when there are more, and where to.
//
// Formulas (tokens T without padding, K, E experts with weights, f the factor), at most T and at least `minimum`:
//   megatron    ceil(T K / E f)
//   deepspeed   ceil(T / E f K), the same number; its minimum is 4
//   tutel       K floor(f ceil(T / E)). Its f = 0 ("as many as there are") is our dropless; its f < 0 drops as -f does
//   fairscale   floor(2 T / E), whatever f
//   mesh        floor(T f / E), whatever K; its minimum is 4
//   flaxformer  T f / E rounded to the nearest, a half to the even number, whatever K; its minimum is 4
//
// Sources: the libraries of these names; mesh is mesh-tensorflow.
// Drop rules:
//   probs             each expert keeps the assignments with the largest scores (ties: the earlier token)
//   weights           with the largest weights, after normalisation (Megatron's "probs")
//   position          the earliest tokens
//   position-by-rank  the earliest first choices, then second choices and so on (GShard, fairscale, DeepSpeed). Whether
//                     the places of second choices are counted from all first choices (fairscale) or from the kept ones
//                     (mesh) makes no difference to who is kept.
//   batch-priority    likewise, but tokens in the order of their best score: V-MoE, arXiv 2106.05974; flaxformer, Tutel
//   random            any, each equally likely (DeepSpeed's random token selection)
// Overflow rules, for what was dropped:
//   drop        the token passes that expert by on the residual path
//   scale       it stays, with overflow_scale times the weight: no limit, but less of what is over it
//   reroute     to the expert with the next best score that has room and that the token does not have yet, earlier
//               tokens first; dropped where there is none. Weights are made of the new scores.
//   fallback    to fallback_expert, which then has no limit (dropped where the token has that expert already); with -1
//               the shared expert counts as much more for the token as the weight was.
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

// What a drop rule did: the assignments of [first, last) that are marked now and were not before.
struct OverflowCall {
  Index capacity, first, last;
  std::span<const std::uint8_t> dropped_before_A;  // by expert dropout
  bool any_before;

  bool overflowed(const Assignments& assignments, Index a) const {
    const auto at = static_cast<std::size_t>(a);
    return assignments.dropped_A[at] != 0 && dropped_before_A[at] == 0;
  }
};

struct OverflowRule {
  std::string_view name;
  // Edits what the drop rule marked; weights are made again where it changes experts. May be null: nothing more
  // happens.
  void (*apply)(const OverflowCall& call, const CapacityInput& input, Assignments& assignments);
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
