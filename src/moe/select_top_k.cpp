#include <vector>

#include "rows.hpp"
#include "schemes.hpp"
#include "selection.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::moe {
// Experts are met in ascending order and displace only what they go strictly before.
void top_k_of_row(const float* choice_E, const float* bias_E, Index experts, Index k, float* key_K,
                  std::int32_t* expert_K) {
  Index count = 0;
  for (Index e = 0; e < experts; ++e) {
    const float key = bias_E == nullptr ? choice_E[e] : choice_E[e] + bias_E[e];
    if (count == k && !goes_before(key, key_K[k - 1])) continue;
    Index at = count < k ? count++ : k - 1;
    for (; at > 0 && goes_before(key, key_K[at - 1]); --at) {
      key_K[at] = key_K[at - 1];
      expert_K[at] = expert_K[at - 1];
    }
    key_K[at] = key;
    expert_K[at] = static_cast<std::int32_t>(e);
  }
}

Assignments k_assignments(Index k, Index tokens, Index experts, std::span<const std::uint8_t> valid_T) {
  Assignments list;
  list.tokens = tokens;
  list.experts = experts;
  list.resize(k * count_valid(valid_T, tokens));
  list.offset_T1.resize(static_cast<std::size_t>(tokens) + 1);
  std::int32_t next = 0;
  for (Index t = 0; t < tokens; ++t) {
    list.offset_T1[static_cast<std::size_t>(t)] = next;
    if (is_valid(valid_T, t)) next += static_cast<std::int32_t>(k);
  }
  list.offset_T1.back() = next;
  return list;
}

Assignments select_top_k(const RouterConfig& router, const SelectionInput& input) {
  const ConstMatrix scores_TE = input.scores_TE;
  const Index tokens = scores_TE.rows, experts = scores_TE.cols, k = router.top_k;
  require(k >= 1 && k <= experts, "top-k of {} among {} experts", k, experts);
  require(input.selection_bias_E.empty() || static_cast<Index>(input.selection_bias_E.size()) == experts,
          "a selection bias of {} values for {} experts", input.selection_bias_E.size(), experts);
  const float* bias_E = input.selection_bias_E.empty() ? nullptr : input.selection_bias_E.data();

  Assignments list = k_assignments(k, tokens, experts, input.valid_T);
  parallel_for(tokens, row_grain(2 * experts), [&](Index begin, Index end) {
    std::vector<float> key_K(static_cast<std::size_t>(k));
    for (Index t = begin; t < end; ++t) {
      if (!is_valid(input.valid_T, t)) continue;
      const Index first = list.offset_T1[static_cast<std::size_t>(t)];
      const float* score_E = scores_TE.row(t);
      std::int32_t* expert_K = list.expert_A.data() + first;
      top_k_of_row(input.choice_TE.row(t), bias_E, experts, k, key_K.data(), expert_K);
      for (Index i = 0; i < k; ++i) list.score_A[static_cast<std::size_t>(first + i)] = score_E[expert_K[i]];
    }
  });
  return list;
}

}  // namespace switchyard::moe
