#pragma once
// What the tests of several stages share.

#include <string>
#include <vector>

#include "oracle/compare.hpp"
#include "oracle/moe.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/moe/assignments.hpp"
#include "switchyard/moe/select.hpp"

namespace switchyard::moe {

// Multiples of 1/8 between -1 and 1: sums of two are exact, and ties are frequent.
inline std::vector<float> coarse_values(Index count, std::uint32_t seed) {
  const RandomStream stream(seed, RandomPurpose::kTest);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = (static_cast<float>(stream.below(i, 17)) - 8.0F) / 8.0F;
  return values;
}

// About one token in four is padding.
inline std::vector<std::uint8_t> some_padding(Index tokens, std::uint32_t seed) {
  const RandomStream stream(seed, RandomPurpose::kTest, 1);
  std::vector<std::uint8_t> valid_T(static_cast<std::size_t>(tokens));
  for (std::size_t t = 0; t < valid_T.size(); ++t) valid_T[t] = stream.below(t, 4) == 0 ? 0 : 1;
  return valid_T;
}

inline ConstMatrix matrix_of(const std::vector<float>& values, Index cols) {
  return {values.data(), static_cast<Index>(values.size()) / cols, cols};
}
inline Matrix matrix_of(std::vector<float>& values, Index cols) {
  return {values.data(), static_cast<Index>(values.size()) / cols, cols};
}

inline Assignments select(const std::string& rule, const std::vector<float>& scores_TE, Index experts, Index top_k,
                          const std::vector<float>& bias_E = {}, const std::vector<std::uint8_t>& valid_T = {}) {
  RouterConfig router;
  router.experts = experts;
  router.top_k = top_k;
  const ConstMatrix scores = matrix_of(scores_TE, experts);
  return find_selection_rule(rule).select(router, {.logits_TR = scores,
                                                   .scores_TE = scores,
                                                   .choice_TE = scores,
                                                   .selection_bias_E = bias_E,
                                                   .token_id_T = {},
                                                   .valid_T = valid_T,
                                                   .random = RandomStream(1, RandomPurpose::kRouter),
                                                   .training = true,
                                                   .sequence = 0,
                                                   .replayed = nullptr});
}

inline std::vector<oracle::MoeChoice> choices_of(const Assignments& list) {
  std::vector<oracle::MoeChoice> choices;
  for (Index t = 0; t < list.tokens; ++t) {
    const auto end = static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t) + 1]);
    for (auto a = static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t)]); a < end; ++a) {
      const double factor = list.factor_A.empty() ? 1.0 : static_cast<double>(list.factor_A[a]);
      const bool dropped = list.dropped_A[a] != 0;
      choices.push_back({t, list.expert_A[a], static_cast<double>(list.score_A[a]),
                         static_cast<double>(list.weight_A[a]), dropped, factor,
                         dropped && !list.fallback_T.empty() && factor != 0.0, list.choices()[a]});
    }
  }
  return choices;
}

// What a bad call says; empty where it says nothing.
template <class F>
std::string error_of(ErrorKind kind, const F& f) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(kind)) << error.what();
    return error.what();
  }
  return {};
}

}  // namespace switchyard::moe
