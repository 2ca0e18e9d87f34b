#pragma once
// The drop and overflow rules that the tables in capacity.cpp list.

#include <algorithm>

#include "switchyard/moe/capacity.hpp"

namespace switchyard::moe {

// capacity_drop.cpp
void drop_lowest_score(Index capacity, Index first, Index last, const CapacityInput& input, Assignments& list);
void drop_lowest_weight(Index capacity, Index first, Index last, const CapacityInput& input, Assignments& list);
void drop_latest(Index capacity, Index first, Index last, const CapacityInput& input, Assignments& list);
void drop_latest_by_rank(Index capacity, Index first, Index last, const CapacityInput& input, Assignments& list);
void drop_at_random(Index capacity, Index first, Index last, const CapacityInput& input, Assignments& list);
void drop_by_batch_priority(Index capacity, Index first, Index last, const CapacityInput& input, Assignments& list);

// capacity_overflow.cpp
void scale_down(const OverflowCall& call, const CapacityInput& input, Assignments& list);
void reroute(const OverflowCall& call, const CapacityInput& input, Assignments& list);
void fall_back(const OverflowCall& call, const CapacityInput& input, Assignments& list);

// Calls f(token, begin, end) for every token whose assignments lie in [first, last).
template <class F>
void for_tokens_between(const Assignments& list, Index first, Index last, const F& f) {
  auto t = static_cast<std::size_t>(std::lower_bound(list.offset_T1.begin(), list.offset_T1.end(), first) -
                                    list.offset_T1.begin());
  for (; t < static_cast<std::size_t>(list.tokens) && list.offset_T1[t] < last; ++t)
    f(t, static_cast<std::size_t>(list.offset_T1[t]), static_cast<std::size_t>(list.offset_T1[t + 1]));
}

}  // namespace switchyard::moe
