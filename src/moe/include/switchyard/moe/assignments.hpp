#pragma once
// What every selection rule yields: a list of (token, expert, weight), grouped by token. A token may have any number
// of assignments, also none.

#include <cstdint>
#include <vector>

#include "switchyard/base/index.hpp"

namespace switchyard::moe {

// A = assignments. Those of token t are [offset_T1[t], offset_T1[t + 1]), best first. The arrays with A have one
// length.
struct Assignments {
  Index tokens = 0;
  Index experts = 0;
  std::vector<std::int32_t> offset_T1;
  std::vector<std::int32_t> expert_A;
  std::vector<float> score_A;           // the chosen expert's score, before normalisation and without selection bias
  std::vector<float> weight_A;          // what the expert's output is multiplied by
  std::vector<std::uint8_t> dropped_A;  // 1 where it was refused: it reaches no expert and has weight 0
  std::vector<float> factor_A;          // what capacity multiplied weights by; empty = 1 everywhere
  std::vector<float> fallback_T;        // weight of a token's share that goes to the shared expert; empty = 0
  std::vector<std::int32_t> chosen_A;   // what had been chosen before overflow re-routed; empty = expert_A
  Index rerouted = 0;                   // that went elsewhere than to the expert that was chosen

  Index size() const { return static_cast<Index>(expert_A.size()); }
  const std::vector<std::int32_t>& choices() const { return chosen_A.empty() ? expert_A : chosen_A; }
  // Gives every array with A this length; what is new is zero. Throws kInternal beyond 2^31 - 1.
  void resize(Index assignments);
};

// The assignments that were kept, sorted by expert with a counting sort; within an expert in token order. Experts and
// combine read nothing else. Slots are numbered 0..S-1.
struct DispatchPlan {
  std::vector<std::int32_t> offset_E1;  // slots of expert e: [offset_E1[e], offset_E1[e + 1])
  std::vector<std::int32_t> token_of_slot_S;
  std::vector<float> weight_of_slot_S;
  std::vector<std::int32_t> assignment_of_slot_S;
  std::vector<std::int32_t> slot_of_assignment_A;  // -1 where dropped

  Index slots() const { return static_cast<Index>(token_of_slot_S.size()); }
  Index load(Index expert) const {
    const auto e = static_cast<std::size_t>(expert);
    return offset_E1[e + 1] - offset_E1[e];
  }
};

DispatchPlan make_dispatch_plan(const Assignments& assignments);

}  // namespace switchyard::moe
