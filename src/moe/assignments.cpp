#include "switchyard/moe/assignments.hpp"

#include <limits>

#include "switchyard/base/error.hpp"

namespace switchyard::moe {

void Assignments::resize(Index assignments) {
  require(assignments >= 0 && assignments <= std::numeric_limits<std::int32_t>::max(),
          "{} assignments in one call, expected at most 2^31 - 1", assignments);
  const auto size = static_cast<std::size_t>(assignments);
  expert_A.resize(size);
  score_A.resize(size);
  weight_A.resize(size);
  dropped_A.resize(size);
}

DispatchPlan make_dispatch_plan(const Assignments& list) {
  DispatchPlan plan;
  const std::size_t assignments = list.expert_A.size();
  plan.offset_E1.assign(static_cast<std::size_t>(list.experts) + 1, 0);
  plan.slot_of_assignment_A.assign(assignments, -1);
  for (std::size_t a = 0; a < assignments; ++a)
    if (list.dropped_A[a] == 0) ++plan.offset_E1[static_cast<std::size_t>(list.expert_A[a]) + 1];
  for (std::size_t e = 0; e < static_cast<std::size_t>(list.experts); ++e) plan.offset_E1[e + 1] += plan.offset_E1[e];

  const auto slots = static_cast<std::size_t>(plan.offset_E1.back());
  plan.token_of_slot_S.resize(slots);
  plan.weight_of_slot_S.resize(slots);
  plan.assignment_of_slot_S.resize(slots);
  std::vector<std::int32_t> next_E(plan.offset_E1.begin(), plan.offset_E1.end() - 1);
  for (std::size_t t = 0; t < static_cast<std::size_t>(list.tokens); ++t) {
    const auto end = static_cast<std::size_t>(list.offset_T1[t + 1]);
    for (auto a = static_cast<std::size_t>(list.offset_T1[t]); a < end; ++a) {
      if (list.dropped_A[a] != 0) continue;
      const std::int32_t slot = next_E[static_cast<std::size_t>(list.expert_A[a])]++;
      const auto s = static_cast<std::size_t>(slot);
      plan.token_of_slot_S[s] = static_cast<std::int32_t>(t);
      plan.weight_of_slot_S[s] = list.weight_A[a];
      plan.assignment_of_slot_S[s] = static_cast<std::int32_t>(a);
      plan.slot_of_assignment_A[a] = slot;
    }
  }
  return plan;
}

}  // namespace switchyard::moe
