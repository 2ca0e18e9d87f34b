#pragma once
// One call of a selection rule, with all that it may ask for.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support.hpp"
#include "switchyard/moe/score.hpp"

namespace switchyard::moe {

struct SelectionCase {
  RouterConfig router;
  Index tokens = 0;
  std::vector<float> logits_TR, scores_TE, bias_E;
  std::vector<float> choice_TE;  // empty: the scores
  std::vector<std::uint8_t> valid_T;
  std::vector<std::int32_t> token_id_T;
  Assignments replayed;
  bool training = true;
  Index sequence = 0;
  std::uint64_t seed = 1;

  SelectionInput input() const {
    const ConstMatrix scores = matrix_of(scores_TE, router.choices());
    const Index logits = tokens == 0 ? router.choices() : static_cast<Index>(logits_TR.size()) / tokens;
    return {.logits_TR = matrix_of(logits_TR, logits),
            .scores_TE = scores,
            .choice_TE = choice_TE.empty() ? scores : matrix_of(choice_TE, router.choices()),
            .selection_bias_E = bias_E,
            .token_id_T = token_id_T,
            .valid_T = valid_T,
            .random = random(),
            .training = training,
            .sequence = sequence,
            .replayed = &replayed};
  }
  RandomStream random() const { return {seed, RandomPurpose::kRouter}; }
  Assignments run() const { return find_selection_rule(router.select).select(router, input()); }
  oracle::Values row(const std::vector<float>& matrix, Index t) const {
    const Index cols = static_cast<Index>(matrix.size()) / tokens;
    return oracle::to_double(
        std::span(matrix).subspan(static_cast<std::size_t>(t * cols), static_cast<std::size_t>(cols)));
  }
  // Keys are small multiples of 1/8: sums of them are exact.
  oracle::Values keys(Index t) const {
    oracle::Values key_E = row(choice_TE.empty() ? scores_TE : choice_TE, t);
    for (std::size_t e = 0; e < bias_E.size(); ++e) key_E[e] += static_cast<double>(bias_E[e]);
    return key_E;
  }
  bool valid(Index t) const { return valid_T.empty() || valid_T[static_cast<std::size_t>(t)] != 0; }
};

// A config that the rule accepts, as near to E and K as it goes.
inline RouterConfig router_for(const std::string& rule, Index experts, Index top_k) {
  RouterConfig router;
  router.select = rule;
  router.experts = experts;
  router.top_k = top_k;
  if (rule == "gshard") router.top_k = std::min<Index>(2, experts);
  if (rule == "base") router.top_k = 1;
  if (rule == "tree") {
    router.score = "tree";
    router.levels =
        experts % 2 == 0 && top_k % 2 == 0 ? std::vector<Index>{2, experts / 2} : std::vector<Index>{experts};
    router.level_top_k = router.levels.size() == 2 ? std::vector<Index>{2, top_k / 2} : std::vector<Index>{top_k};
  }
  if (rule == "group-limited" && experts % 2 == 0) {
    router.groups = 2;
    router.groups_kept = top_k * 2 > experts ? 2 : 1;
  }
  if (rule == "sparse-mixer") router.threshold = 0.3F;
  return router;
}

// Random logits and ids, scores made of them; a quarter of the tokens is padding where asked for. A routing to replay
// is the best expert of each token.
inline SelectionCase random_case(const RouterConfig& router, Index tokens, std::uint32_t seed, bool padded = false) {
  SelectionCase c;
  c.router = router;
  c.tokens = tokens;
  c.logits_TR = oracle::random_values(tokens * logits_of(router), seed, 2.0F);
  c.scores_TE.resize(static_cast<std::size_t>(tokens * router.choices()));
  find_score_function(router.score)
      .forward(router, matrix_of(c.logits_TR, logits_of(router)), matrix_of(c.scores_TE, router.choices()));
  if (padded) c.valid_T = some_padding(tokens, seed);
  const RandomStream ids(seed, RandomPurpose::kTest, 2);
  for (Index t = 0; t < tokens; ++t)
    c.token_id_T.push_back(static_cast<std::int32_t>(ids.below(static_cast<std::uint64_t>(t), 50)));
  c.replayed = select("top-k", c.scores_TE, router.choices(), 1);
  return c;
}

// Coarse scores with many ties instead, at R = E.
inline SelectionCase coarse_case(const RouterConfig& router, Index tokens, std::uint32_t seed, bool biased) {
  SelectionCase c = random_case(router, tokens, seed, biased);
  c.scores_TE = coarse_values(tokens * router.choices(), seed);
  c.choice_TE = coarse_values(tokens * router.choices(), seed + 100);
  if (biased) c.bias_E = coarse_values(router.choices(), seed + 200);
  return c;
}

inline std::vector<Index> experts_of(const Assignments& list, Index t) {
  return {list.expert_A.begin() + list.offset_T1[static_cast<std::size_t>(t)],
          list.expert_A.begin() + list.offset_T1[static_cast<std::size_t>(t) + 1]};
}

// The experts of each token as `expected(t)` says; the scores are those of the experts; padding has none.
template <class F>
void expect_experts(const SelectionCase& c, const Assignments& list, const F& expected) {
  ASSERT_EQ(list.tokens, c.tokens);
  ASSERT_EQ(list.experts, c.router.choices());
  for (Index t = 0; t < c.tokens; ++t) {
    ASSERT_EQ(experts_of(list, t), c.valid(t) ? expected(t) : std::vector<Index>{}) << "token " << t;
    for (auto a = static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t)]);
         a < static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t) + 1]); ++a)
      ASSERT_EQ(list.score_A[a], c.scores_TE[static_cast<std::size_t>(t * list.experts + list.expert_A[a])]);
  }
}

}  // namespace switchyard::moe
