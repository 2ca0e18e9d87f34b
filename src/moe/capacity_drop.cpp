#include <cmath>

#include "capacity_rules.hpp"

namespace switchyard::moe {
namespace {

using Numbers = std::vector<std::int32_t>;

// Drops, for every expert with more than `capacity` of the assignments [from, to), all but the first `capacity` of them
// after arrange(first, kept_end, last) has put those to keep in front. The list it gets is in token order.
template <class Arrange>
void drop_beyond(Index capacity, Index from, Index to, const CapacityInput& input, Assignments& list,
                 const Arrange& arrange) {
  const auto experts = static_cast<std::size_t>(input.config.router.experts);
  std::vector<Numbers> of_expert(experts);
  for (Index a = from; a < to; ++a) {
    const auto at = static_cast<std::size_t>(a);
    if (list.dropped_A[at] == 0 && static_cast<std::size_t>(list.expert_A[at]) < experts)
      of_expert[static_cast<std::size_t>(list.expert_A[at])].push_back(static_cast<std::int32_t>(a));
  }
  for (Numbers& chosen : of_expert) {
    if (static_cast<Index>(chosen.size()) <= capacity) continue;
    arrange(chosen.begin(), chosen.begin() + capacity, chosen.end());
    for (auto a = chosen.begin() + capacity; a != chosen.end(); ++a) list.dropped_A[static_cast<std::size_t>(*a)] = 1;
  }
}

// Whether key a is kept rather than b. NaN goes last: a sort needs a strict order.
bool larger(float a, float b) {
  const bool nan_a = std::isnan(a), nan_b = std::isnan(b);
  return nan_a == nan_b ? a > b : nan_b;
}

// Assignments are numbered in token order, so the number breaks ties.
template <class Key>
void keep_largest(Index capacity, Index from, Index to, const CapacityInput& input, Assignments& list, const Key& key) {
  const auto goes_before = [&](std::int32_t a, std::int32_t b) {
    const float key_a = key(static_cast<std::size_t>(a)), key_b = key(static_cast<std::size_t>(b));
    if (larger(key_a, key_b)) return true;
    return !larger(key_b, key_a) && a < b;
  };
  drop_beyond(capacity, from, to, input, list,
              [&](auto first, auto kept_end, auto last) { std::nth_element(first, kept_end, last, goes_before); });
}

// The rank of each of the assignments [first, last) among its token's.
Numbers ranks(Index first, Index last, const Assignments& list) {
  Numbers rank(static_cast<std::size_t>(last - first));
  for_tokens_between(list, first, last, [&](std::size_t, std::size_t begin, std::size_t end) {
    for (std::size_t a = begin; a < end; ++a)
      rank[a - static_cast<std::size_t>(first)] = static_cast<std::int32_t>(a - begin);
  });
  return rank;
}

}  // namespace

void drop_lowest_score(Index capacity, Index first, Index last, const CapacityInput& input, Assignments& list) {
  keep_largest(capacity, first, last, input, list, [&](std::size_t a) { return list.score_A[a]; });
}

void drop_lowest_weight(Index capacity, Index first, Index last, const CapacityInput& input, Assignments& list) {
  keep_largest(capacity, first, last, input, list, [&](std::size_t a) { return list.weight_A[a]; });
}

void drop_latest(Index capacity, Index first, Index last, const CapacityInput& input, Assignments& list) {
  drop_beyond(capacity, first, last, input, list, [](auto, auto, auto) {});
}

void drop_latest_by_rank(Index capacity, Index first, Index last, const CapacityInput& input, Assignments& list) {
  const Numbers rank = ranks(first, last, list);
  const auto rank_of = [&](std::int32_t a) { return rank[static_cast<std::size_t>(a - first)]; };
  drop_beyond(capacity, first, last, input, list, [&](auto begin, auto kept_end, auto end) {
    std::nth_element(begin, kept_end, end, [&](std::int32_t a, std::int32_t b) {
      return rank_of(a) != rank_of(b) ? rank_of(a) < rank_of(b) : a < b;
    });
  });
}

void drop_at_random(Index capacity, Index first, Index last, const CapacityInput& input, Assignments& list) {
  // Expert dropout reads the stream from 0 on; no call has 2^32 assignments.
  constexpr std::uint64_t kOffset = std::uint64_t{1} << 32;
  keep_largest(capacity, first, last, input, list, [&](std::size_t a) { return input.random.uniform(kOffset + a); });
}

void drop_by_batch_priority(Index capacity, Index first, Index last, const CapacityInput& input, Assignments& list) {
  struct Place {
    std::int32_t rank;
    float best;  // largest score of the token's choices
  };
  std::vector<Place> place(static_cast<std::size_t>(last - first));
  for_tokens_between(list, first, last, [&](std::size_t, std::size_t begin, std::size_t end) {
    if (begin == end) return;
    float best = list.score_A[begin];
    for (std::size_t a = begin + 1; a < end; ++a)
      if (larger(list.score_A[a], best)) best = list.score_A[a];
    for (std::size_t a = begin; a < end; ++a)
      place[a - static_cast<std::size_t>(first)] = {static_cast<std::int32_t>(a - begin), best};
  });
  drop_beyond(capacity, first, last, input, list, [&](auto begin, auto kept_end, auto end) {
    std::nth_element(begin, kept_end, end, [&](std::int32_t a, std::int32_t b) {
      const Place &of_a = place[static_cast<std::size_t>(a - first)],
                  &of_b = place[static_cast<std::size_t>(b - first)];
      if (of_a.rank != of_b.rank) return of_a.rank < of_b.rank;
      if (larger(of_a.best, of_b.best)) return true;
      return !larger(of_b.best, of_a.best) && a < b;
    });
  });
}

}  // namespace switchyard::moe
