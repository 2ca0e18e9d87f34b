#include "switchyard/moe/score.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "oracle/finite_difference.hpp"
#include "support.hpp"

namespace switchyard::moe {
namespace {

using oracle::random_values;

// A tree has one level here; see score_tree_test.cpp.
RouterConfig router_of(const ScoreFunction& score, Index experts) {
  RouterConfig router;
  router.experts = experts;
  if (score.name == "tree") router.levels = {experts};
  return router;
}

std::vector<float> scores_of(const ScoreFunction& score, const std::vector<float>& logits_TE, Index experts) {
  std::vector<float> scores_TE(logits_TE.size());
  score.forward(router_of(score, experts), matrix_of(logits_TE, experts), matrix_of(scores_TE, experts));
  return scores_TE;
}

TEST(Score, AgreesWithTheOracle) {
  for (const ScoreFunction& score : score_functions())
    for (const Index experts : {1, 2, 3, 8, 17, 64, 129})
      for (const Index tokens : {0, 1, 2, 7, 33, 130}) {
        SCOPED_TRACE(testing::Message() << score.name << " E=" << experts << " T=" << tokens);
        const std::vector<float> logits_TE = random_values(tokens * experts, 1, 3.0F);
        const oracle::Values expected =
            oracle::moe_scores(std::string(score.name), oracle::to_double(logits_TE), experts);
        EXPECT_TRUE(oracle::close(scores_of(score, logits_TE, experts), expected, oracle::sum_tolerance(experts)));
      }
}

TEST(Score, GradientAddsToWhatIsThere) {
  for (const ScoreFunction& score : score_functions())
    for (const Index experts : {1, 2, 3, 17}) {
      SCOPED_TRACE(testing::Message() << score.name << " E=" << experts);
      const Index tokens = 5;
      const std::vector<float> logits_TE = random_values(tokens * experts, 2, 2.0F);
      const std::vector<float> d_scores_TE = random_values(tokens * experts, 3);
      const std::vector<float> scores_TE = scores_of(score, logits_TE, experts);
      std::vector<float> d_logits_TE(logits_TE.size(), 1.0F);
      score.backward(router_of(score, experts), matrix_of(logits_TE, experts), matrix_of(scores_TE, experts),
                     matrix_of(d_scores_TE, experts), matrix_of(d_logits_TE, experts));
      // The sum of all logits has gradient 1: what was there before.
      const auto f = [&](const std::vector<double>& x) {
        return oracle::dot(d_scores_TE, oracle::moe_scores(std::string(score.name), x, experts)) +
               std::accumulate(x.begin(), x.end(), 0.0);
      };
      EXPECT_TRUE(oracle::is_gradient(d_logits_TE, f, logits_TE, experts, 2));
    }
}

TEST(Score, ExtremeLogitsStayFinite) {
  const std::vector<float> logits_TE = {1e4F, -1e4F, 0.0F, -1e4F, -1e4F, -1e4F};
  const std::vector<float> softmax = scores_of(find_score_function("softmax"), logits_TE, 3);
  EXPECT_THAT(std::vector<float>(softmax.begin(), softmax.begin() + 3), testing::ElementsAre(1.0F, 0.0F, 0.0F));
  for (std::size_t i = 3; i < 6; ++i) EXPECT_FLOAT_EQ(softmax[i], 1.0F / 3.0F);
  const std::vector<float> sigmoid = scores_of(find_score_function("sigmoid"), logits_TE, 3);
  EXPECT_THAT(sigmoid, testing::ElementsAre(1.0F, 0.0F, 0.5F, 0.0F, 0.0F, 0.0F));

  const ScoreFunction& sqrt_softplus = find_score_function("sqrt-softplus");
  const std::vector<float> scores = scores_of(sqrt_softplus, logits_TE, 3);
  EXPECT_THAT(std::vector<float>(scores.begin(), scores.begin() + 2), testing::ElementsAre(100.0F, 0.0F));
  std::vector<float> d_logits_TE(6, 0.0F);
  sqrt_softplus.backward({}, matrix_of(logits_TE, 3), matrix_of(scores, 3), matrix_of(std::vector<float>(6, 1.0F), 3),
                         matrix_of(d_logits_TE, 3));
  EXPECT_FLOAT_EQ(d_logits_TE[0], 1.0F / 200.0F);
  EXPECT_EQ(d_logits_TE[1], 0.0F);
}

TEST(Score, NanStaysInItsRow) {
  std::vector<float> logits_TE = random_values(3 * 5, 4);
  logits_TE[7] = std::nanf("");
  for (const ScoreFunction& score : score_functions()) {
    const std::vector<float> scores_TE = scores_of(score, logits_TE, 5);
    EXPECT_TRUE(std::isnan(scores_TE[7])) << score.name;
    for (const std::size_t i : {0, 1, 2, 3, 4, 10, 11, 12, 13, 14}) EXPECT_TRUE(std::isfinite(scores_TE[i]));
  }
}

TEST(Score, OnlyDistributionsSayTheyAre) {
  const std::vector<float> logits_TE = random_values(8, 5);
  for (const ScoreFunction& score : score_functions()) {
    const std::vector<float> scores_TE = scores_of(score, logits_TE, 8);
    const double sum = std::accumulate(scores_TE.begin(), scores_TE.end(), 0.0);
    EXPECT_EQ(score.probabilities == Probabilities::kScores, std::abs(sum - 1.0) < 1e-6) << score.name;
  }
}

TEST(Score, UnknownNameListsTheKnown) {
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [] { find_score_function("softmix"); }),
              testing::StartsWith("unknown router score 'softmix', expected one of softmax, sigmoid, "));
}

}  // namespace
}  // namespace switchyard::moe
