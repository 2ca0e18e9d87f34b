#include "switchyard/moe/capacity.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "named_table.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::moe {
namespace {

// Drops, for every expert with more than `capacity` assignments, all but the first `capacity` of them after
// arrange(first, kept_end, last) has put those to keep in front. The list it gets is in token order.
template <class Arrange>
void drop_beyond(Index capacity, Assignments& list, const Arrange& arrange) {
  require(capacity >= 0, "a capacity of {}", capacity);
  DispatchPlan plan = make_dispatch_plan(list);
  parallel_for(list.experts, 1, [&](Index begin, Index end) {
    for (Index e = begin; e < end; ++e) {
      if (plan.load(e) <= capacity) continue;
      const auto first = plan.assignment_of_slot_S.begin() + plan.offset_E1[static_cast<std::size_t>(e)];
      const auto last = plan.assignment_of_slot_S.begin() + plan.offset_E1[static_cast<std::size_t>(e) + 1];
      arrange(first, first + capacity, last);
      for (auto a = first + capacity; a != last; ++a) {
        list.dropped_A[static_cast<std::size_t>(*a)] = 1;
        list.weight_A[static_cast<std::size_t>(*a)] = 0.0F;
      }
    }
  });
}

void drop_lowest_score(Index capacity, Assignments& list) {
  // Assignments are numbered in token order, so the number breaks ties. NaN goes last: a sort needs a strict order.
  const auto goes_before = [&](std::int32_t a, std::int32_t b) {
    const float score_a = list.score_A[static_cast<std::size_t>(a)],
                score_b = list.score_A[static_cast<std::size_t>(b)];
    const bool nan_a = std::isnan(score_a), nan_b = std::isnan(score_b);
    if (nan_a != nan_b) return nan_b;
    if (!nan_a && score_a != score_b) return score_a > score_b;
    return a < b;
  };
  drop_beyond(capacity, list,
              [&](auto first, auto kept_end, auto last) { std::nth_element(first, kept_end, last, goes_before); });
}

void drop_latest(Index capacity, Assignments& list) {
  drop_beyond(capacity, list, [](auto, auto, auto) {});
}

constexpr std::array kDropRules = {
    DropRule{"probs", drop_lowest_score},
    DropRule{"position", drop_latest},
};

}  // namespace

std::span<const DropRule> drop_rules() { return kDropRules; }

const DropRule& find_drop_rule(std::string_view name) { return require_row(drop_rules(), name, "drop rule"); }

Index expert_capacity(const CapacityConfig& capacity, const RouterConfig& router, Index tokens) {
  if (capacity.factor <= 0.0F) return -1;
  // 1.1 as a float32 is a little more than 1.1, and ceil would make a whole slot of it.
  const double factor = static_cast<double>(capacity.factor) * (1.0 - 0x1.0p-22);
  const double even = static_cast<double>(tokens * router.top_k) / static_cast<double>(router.experts) * factor;
  // No expert can get more than one assignment a token, which also keeps a huge factor inside Index.
  return std::max(capacity.minimum, static_cast<Index>(std::ceil(std::min(even, static_cast<double>(tokens)))));
}

}  // namespace switchyard::moe
