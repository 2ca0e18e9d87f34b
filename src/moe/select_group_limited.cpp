#include <array>
#include <limits>
#include <vector>

#include "named_table.hpp"
#include "schemes.hpp"
#include "selection.hpp"

namespace switchyard::moe {
namespace {

constexpr float kLeast = -std::numeric_limits<float>::infinity();

// The sum of the `count` largest keys of a group; NaN counts as none. best: room for `count`.
float largest(const float* key_G, Index size, Index, float*) {
  float best = kLeast;
  for (Index i = 0; i < size; ++i) best = key_G[i] > best ? key_G[i] : best;
  return best;
}

float sum_of_two(const float* key_G, Index size, Index, float*) {
  float first = kLeast, second = kLeast;
  for (Index i = 0; i < size; ++i) {
    const float key = key_G[i];
    const float lower = key > first ? first : key;
    first = key > first ? key : first;
    second = lower > second ? lower : second;
  }
  return first + second;
}

float sum_of_largest(const float* key_G, Index size, Index count, float* best) {
  if (count == 1) return largest(key_G, size, count, best);
  if (count == 2) return sum_of_two(key_G, size, count, best);
  std::fill_n(best, count, kLeast);
  for (Index i = 0; i < size; ++i) {
    if (!(key_G[i] > best[count - 1])) continue;
    Index at = count - 1;
    for (; at > 0 && key_G[i] > best[at - 1]; --at) best[at] = best[at - 1];
    best[at] = key_G[i];
  }
  float sum = 0.0F;
  for (Index i = 0; i < count; ++i) sum += best[i];
  return sum;
}

struct GroupScore {
  std::string_view name;
  float (*score)(const float* key_G, Index size, Index count, float* best);
};
constexpr std::array kGroupScores = {
    GroupScore{"max", largest},
    GroupScore{"top-2-sum", sum_of_two},
    GroupScore{"top-share", sum_of_largest},
};

Index nearest_divisor(Index number, Index wanted) {
  for (Index step = 0; step < number; ++step) {
    if (wanted - step >= 1 && number % (wanted - step) == 0) return wanted - step;
    if (number % (wanted + step) == 0) return wanted + step;
  }
  return 1;
}

}  // namespace

// Experts of other groups are out of the question, as if masked to -inf: masking to 0 would prefer them to negative
// biased scores.
Assignments select_group_limited(const RouterConfig& router, const SelectionInput& input) {
  require_shapes(router, input);
  const Index experts = input.scores_TE.cols, groups = router.groups, kept = router.groups_kept;
  const Index size = experts / groups, k = router.top_k, share = std::max<Index>(1, k / kept);
  require(size * groups == experts && kept * size >= k, "{} groups, of which {} are kept, of {} experts for top-{}",
          groups, kept, experts, k);
  const auto score =
      require_row(std::span<const GroupScore>(kGroupScores), router.group_score, "score of a group").score;
  const float* bias_E = bias_of(input);

  Assignments list = k_assignments(k, input.scores_TE.rows, experts, input.valid_T);
  parallel_for(list.tokens, row_grain(3 * experts), [&](Index begin, Index end) {
    std::vector<float> key_E(static_cast<std::size_t>(experts)), group_score(static_cast<std::size_t>(groups)),
        best(static_cast<std::size_t>(std::max(k, kept))), kept_key(static_cast<std::size_t>(kept * size));
    std::vector<std::int32_t> group(static_cast<std::size_t>(kept));
    for (Index t = begin; t < end; ++t) {
      if (!is_valid(input.valid_T, t)) continue;
      const float* key = input.choice_TE.row(t);
      if (bias_E != nullptr) {
        for (Index e = 0; e < experts; ++e) key_E[static_cast<std::size_t>(e)] = key[e] + bias_E[e];
        key = key_E.data();
      }
      for (Index g = 0; g < groups; ++g)
        group_score[static_cast<std::size_t>(g)] = score(key + g * size, size, share, best.data());
      top_k_of_row(group_score.data(), nullptr, groups, kept, best.data(), group.data());
      std::sort(group.begin(), group.end());  // so that the lowest expert wins a tie
      for (std::size_t g = 0; g < group.size(); ++g)
        std::copy_n(key + group[g] * size, size, kept_key.data() + static_cast<Index>(g) * size);

      const auto first = static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t)]);
      std::int32_t* expert_K = list.expert_A.data() + first;
      top_k_of_row(kept_key.data(), nullptr, kept * size, k, best.data(), expert_K);
      for (Index i = 0; i < k; ++i) {
        const auto at = static_cast<Index>(expert_K[i]);
        expert_K[i] = static_cast<std::int32_t>(group[static_cast<std::size_t>(at / size)] * size + at % size);
        list.score_A[first + static_cast<std::size_t>(i)] = input.scores_TE(t, expert_K[i]);
      }
    }
  });
  return list;
}

void check_group_limited(const RouterConfig& router) {
  expect_gradient(router);
  expect_plain_experts(router, "0: select \"group-limited\" cuts experts with weights into groups");
  expect(router.experts % router.groups == 0, "groups", router.groups,
         fmt::format("a divisor of experts ({}), such as {}", router.experts,
                     nearest_divisor(router.experts, router.groups)));
  const Index size = router.experts / router.groups, room = size * router.groups_kept;
  expect(router.top_k <= room, "top_k", router.top_k,
         fmt::format("at most the {} experts of {} groups of {}, or groups_kept at least {}", room, router.groups_kept,
                     size, (router.top_k + size - 1) / size));
  expect(find_row(std::span<const GroupScore>(kGroupScores), router.group_score) != nullptr, "group_score",
         router.group_score, fmt::format("one of {}", row_names(std::span<const GroupScore>(kGroupScores))));
  expect(router.group_score != "top-2-sum" || size >= 2, "group_score", router.group_score,
         "max, or groups of at least 2 experts");
  expect(router.group_score != "top-share" || router.top_k >= router.groups_kept, "group_score", router.group_score,
         fmt::format("max, or top_k at least groups_kept ({})", router.groups_kept));
}

}  // namespace switchyard::moe
