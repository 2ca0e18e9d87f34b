#include <limits>

#include "capacity_rules.hpp"

namespace switchyard::moe {
namespace {

// Where the assignment of a re-routed token now goes; remembers what had been chosen.
void move_to(std::size_t a, std::size_t t, Index expert, const CapacityInput& input, Assignments& list) {
  if (list.chosen_A.empty()) list.chosen_A = list.expert_A;
  list.expert_A[a] = static_cast<std::int32_t>(expert);
  list.score_A[a] = input.scores_TE(static_cast<Index>(t), expert);
  list.dropped_A[a] = 0;
  ++list.rerouted;
}

bool has_expert(const Assignments& list, std::size_t begin, std::size_t end, Index expert) {
  for (std::size_t a = begin; a < end; ++a)
    if (list.expert_A[a] == expert) return true;
  return false;
}

}  // namespace

void scale_down(const OverflowCall& call, const CapacityInput& input, Assignments& list) {
  if (list.factor_A.empty()) list.factor_A.assign(list.expert_A.size(), 1.0F);
  for (Index a = call.first; a < call.last; ++a) {
    if (!call.overflowed(list, a)) continue;
    list.dropped_A[static_cast<std::size_t>(a)] = 0;
    list.factor_A[static_cast<std::size_t>(a)] = input.config.capacity.overflow_scale;
  }
}

void reroute(const OverflowCall& call, const CapacityInput& input, Assignments& list) {
  const Index limited = input.config.router.experts, choices = input.scores_TE.cols;
  std::vector<Index> room_E(static_cast<std::size_t>(choices), std::numeric_limits<Index>::max());
  std::fill_n(room_E.begin(), limited, call.capacity);
  for (auto a = static_cast<std::size_t>(call.first); a < static_cast<std::size_t>(call.last); ++a)
    if (list.dropped_A[a] == 0) --room_E[static_cast<std::size_t>(list.expert_A[a])];
  for_tokens_between(list, call.first, call.last, [&](std::size_t t, std::size_t begin, std::size_t end) {
    for (std::size_t a = begin; a < end; ++a) {
      if (!call.overflowed(list, static_cast<Index>(a))) continue;
      const float* score_E = input.scores_TE.row(static_cast<Index>(t));
      Index best = -1;
      for (Index e = 0; e < choices; ++e) {
        // NaN is never larger, so it is never taken.
        if (room_E[static_cast<std::size_t>(e)] <= 0 ||
            !(best < 0 ? score_E[e] == score_E[e] : score_E[e] > score_E[best]))
          continue;
        if (!has_expert(list, begin, end, e)) best = e;
      }
      if (best < 0) continue;
      --room_E[static_cast<std::size_t>(best)];
      move_to(a, t, best, input, list);
    }
  });
}

void fall_back(const OverflowCall& call, const CapacityInput& input, Assignments& list) {
  const Index fallback = input.config.capacity.fallback_expert;
  if (fallback < 0) {
    list.fallback_T.resize(static_cast<std::size_t>(list.tokens));
    // What expert dropout took away falls back on nothing, and so has no gradient by way of the shared expert.
    if (list.factor_A.empty() && call.any_before) {
      list.factor_A.assign(list.expert_A.size(), 1.0F);
      for (std::size_t a = 0; a < list.factor_A.size(); ++a)
        if (call.dropped_before_A[a] != 0) list.factor_A[a] = 0.0F;
    }
  }
  for_tokens_between(list, call.first, call.last, [&](std::size_t t, std::size_t begin, std::size_t end) {
    for (std::size_t a = begin; a < end; ++a) {
      if (!call.overflowed(list, static_cast<Index>(a))) continue;
      if (fallback < 0) {
        list.fallback_T[t] += list.weight_A[a];
        ++list.rerouted;
      } else if (list.expert_A[a] == fallback) {
        list.dropped_A[a] = 0;
      } else if (!has_expert(list, begin, end, fallback)) {
        move_to(a, t, fallback, input, list);
      }
    }
  });
}

}  // namespace switchyard::moe
