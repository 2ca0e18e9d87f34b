#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "oracle/finite_difference.hpp"
#include "oracle/routing.hpp"
#include "support.hpp"
#include "switchyard/moe/score.hpp"

namespace switchyard::moe {
namespace {

const std::vector<std::vector<Index>> kTrees = {{1}, {5}, {2, 3}, {1, 4}, {4, 1}, {3, 2, 4}, {2, 2, 2, 2}, {8, 16}};

RouterConfig tree_of(const std::vector<Index>& levels) {
  RouterConfig router;
  router.score = "tree";
  router.levels = levels;
  router.experts = std::accumulate(levels.begin(), levels.end(), Index{1}, std::multiplies<>());
  return router;
}

std::vector<float> scores_of(const RouterConfig& router, const std::vector<float>& logits_TR, Index tokens) {
  std::vector<float> scores_TE(static_cast<std::size_t>(tokens * router.experts));
  find_score_function("tree").forward(router, matrix_of(logits_TR, logits_of(router)),
                                      matrix_of(scores_TE, router.experts));
  return scores_TE;
}

TEST(ScoreTree, AgreesWithTheOracle) {
  for (const std::vector<Index>& levels : kTrees)
    for (const Index tokens : {0, 1, 7, 130}) {
      SCOPED_TRACE(testing::Message() << testing::PrintToString(levels) << " T=" << tokens);
      const RouterConfig router = tree_of(levels);
      const std::vector<float> logits_TR = oracle::random_values(tokens * logits_of(router), 1, 3.0F);
      EXPECT_TRUE(oracle::close(scores_of(router, logits_TR, tokens),
                                oracle::tree_scores(oracle::to_double(logits_TR), levels),
                                oracle::sum_tolerance(router.experts, static_cast<int>(levels.size()))));
    }
}

TEST(ScoreTree, GradientAddsToWhatIsThere) {
  for (const std::vector<Index>& levels : kTrees) {
    SCOPED_TRACE(testing::PrintToString(levels));
    const RouterConfig router = tree_of(levels);
    const Index tokens = 3;
    const std::vector<float> logits_TR = oracle::random_values(tokens * logits_of(router), 2, 2.0F);
    const std::vector<float> d_scores_TE = oracle::random_values(tokens * router.experts, 3);
    const std::vector<float> scores_TE = scores_of(router, logits_TR, tokens);
    std::vector<float> d_logits_TR(logits_TR.size(), 1.0F);
    find_score_function("tree").backward(router, matrix_of(logits_TR, logits_of(router)),
                                         matrix_of(scores_TE, router.experts), matrix_of(d_scores_TE, router.experts),
                                         matrix_of(d_logits_TR, logits_of(router)));
    const auto f = [&](const std::vector<double>& x) {
      return oracle::dot(d_scores_TE, oracle::tree_scores(x, levels)) + std::accumulate(x.begin(), x.end(), 0.0);
    };
    EXPECT_TRUE(oracle::is_gradient(d_logits_TR, f, logits_TR, router.experts, static_cast<int>(levels.size()) + 1));
  }
}

TEST(ScoreTree, NanAndExtremesStayInTheirRow) {
  const RouterConfig router = tree_of({2, 3});
  std::vector<float> logits_TR = oracle::random_values(3 * 8, 4);
  logits_TR[9] = std::nanf("");
  for (std::size_t i = 16; i < 24; ++i) logits_TR[i] = i % 2 == 0 ? 1e30F : -1e30F;
  const std::vector<float> scores_TE = scores_of(router, logits_TR, 3);
  EXPECT_TRUE(std::isnan(scores_TE[6]) || std::isnan(scores_TE[9]));
  for (const std::size_t i : {0U, 1U, 2U, 3U, 4U, 5U, 12U, 13U, 14U, 15U, 16U, 17U})
    EXPECT_TRUE(std::isfinite(scores_TE[i])) << i;
}

}  // namespace
}  // namespace switchyard::moe
