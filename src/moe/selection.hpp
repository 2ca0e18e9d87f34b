#pragma once
// What the selection rules share.

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "rows.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/moe/select.hpp"

namespace switchyard::moe {

// Any number goes before NaN, so that one bad score cannot push a good expert out.
inline bool goes_before(float a, float b) { return a > b || (b != b && a == a); }

// choice + selection bias, what most rules rank by.
inline float key_of(const SelectionInput& input, Index t, Index e) {
  const float choice = input.choice_TE(t, e);
  return input.selection_bias_E.empty() ? choice : choice + input.selection_bias_E[static_cast<std::size_t>(e)];
}

inline const float* bias_of(const SelectionInput& input) {
  return input.selection_bias_E.empty() ? nullptr : input.selection_bias_E.data();
}

inline void require_shapes(const RouterConfig& router, const SelectionInput& input) {
  const Index experts = input.scores_TE.cols;
  require(router.top_k >= 1 && router.top_k <= experts, "top-k of {} among {} experts", router.top_k, experts);
  require(input.choice_TE.rows == input.scores_TE.rows && input.choice_TE.cols == experts,
          "a choice of [{}, {}] for scores of [{}, {}]", input.choice_TE.rows, input.choice_TE.cols,
          input.scores_TE.rows, experts);
  require(input.selection_bias_E.empty() || static_cast<Index>(input.selection_bias_E.size()) == experts,
          "a selection bias of {} values for {} experts", input.selection_bias_E.size(), experts);
}

// Calls pick(t, expert_K) for every valid token, in parallel: it writes the token's k experts, best first. Their scores
// are scores_TE. `cost`: operations a token.
template <class Pick>
Assignments assign_k(Index k, Index cost, const SelectionInput& input, const Pick& pick) {
  Assignments list = k_assignments(k, input.scores_TE.rows, input.scores_TE.cols, input.valid_T);
  parallel_for(list.tokens, row_grain(cost), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      if (!is_valid(input.valid_T, t)) continue;
      const auto first = static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t)]);
      pick(t, list.expert_A.data() + first);
      for (std::size_t a = first; a < first + static_cast<std::size_t>(k); ++a)
        list.score_A[a] = input.scores_TE(t, list.expert_A[a]);
    }
  });
  return list;
}

// The same where a token has at most `most` experts: pick(t, expert_K) returns how many it wrote.
template <class Pick>
Assignments assign_up_to(Index most, Index cost, const SelectionInput& input, const Pick& pick) {
  Assignments list;
  list.tokens = input.scores_TE.rows;
  list.experts = input.scores_TE.cols;
  const auto tokens = static_cast<std::size_t>(list.tokens);
  std::vector<std::int32_t> expert_TK(static_cast<std::size_t>(list.tokens * most)), count_T(tokens);
  parallel_for(list.tokens, row_grain(cost), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t)
      if (is_valid(input.valid_T, t))
        count_T[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(pick(t, expert_TK.data() + t * most));
  });
  Index size = 0;
  for (const std::int32_t count : count_T) size += count;
  list.resize(size);
  list.offset_T1.assign(tokens + 1, 0);
  for (std::size_t t = 0; t < tokens; ++t) list.offset_T1[t + 1] = list.offset_T1[t] + count_T[t];
  for (std::size_t t = 0; t < tokens; ++t) {
    const std::int32_t* expert_K = expert_TK.data() + t * static_cast<std::size_t>(most);
    for (std::int32_t i = 0; i < count_T[t]; ++i) {
      const auto a = static_cast<std::size_t>(list.offset_T1[t] + i);
      list.expert_A[a] = expert_K[i];
      list.score_A[a] = input.scores_TE(static_cast<Index>(t), expert_K[i]);
    }
  }
  return list;
}

// A negative logarithm of a negative logarithm of a uniform draw. uniform() may be 0 and is never 1; half a step keeps
// both logarithms finite.
inline float gumbel_of(float uniform) {
  return static_cast<float>(-std::log(-std::log(static_cast<double>(uniform) + 0x1.0p-25)));
}

// k different experts, uniformly at random and in random order, from draws first, first + 1, ... of the stream.
inline void distinct_experts(const RandomStream& random, std::uint64_t first, Index experts, Index k,
                             std::int32_t* expert_K, std::vector<std::int32_t>& taken) {
  taken.clear();  // in ascending order
  for (Index i = 0; i < k; ++i) {
    // The place among the experts that are left becomes an index by stepping over those that are not.
    auto expert = static_cast<std::int32_t>(
        random.below(first + static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(experts - i)));
    auto at = taken.begin();
    for (; at != taken.end() && *at <= expert; ++at) ++expert;
    taken.insert(at, expert);
    expert_K[i] = expert;
  }
}

// ---- what checks share

template <class Value>
void expect(bool good, std::string_view key, const Value& found, std::string_view expected) {
  if (!good) fail(ErrorKind::kBadInput, "router.{}: {}, expected {}", key, found, expected);
}

// For rules that are about experts with weights alone.
inline void expect_plain_experts(const RouterConfig& router, std::string_view why) {
  expect(router.zero_experts == 0, "zero_experts", router.zero_experts, why);
  expect(router.copy_experts == 0, "copy_experts", router.copy_experts, why);
  expect(router.constant_experts == 0, "constant_experts", router.constant_experts, why);
}

// For rules that do not look at choice + bias: what would change nothing is refused.
inline void expect_no_choice(const RouterConfig& router) {
  expect(!router.selection_bias, "selection_bias", router.selection_bias,
         fmt::format("false: select \"{}\" does not look at it", router.select));
  expect(router.uniform_warmup == 0, "uniform_warmup", router.uniform_warmup,
         fmt::format("0: select \"{}\" does not look at what warm-up changes", router.select));
  expect(router.noise == "none" || router.noise_on == "scores", "noise_on", router.noise_on,
         fmt::format("scores: select \"{}\" does not look at noise on the selection", router.select));
}

// For rules that leave a token with one expert at top_k 1.
void expect_gradient(const RouterConfig& router);

// For rules that read logits, one an expert.
void expect_logit_an_expert(const RouterConfig& router);

}  // namespace switchyard::moe
