#include "switchyard/moe/losses.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "oracle/finite_difference.hpp"
#include "support.hpp"

namespace switchyard::moe {
namespace {

LossInput input_of(const MoeConfig& config, const std::vector<float>& logits_TE, const std::vector<float>& scores_TE,
                   Index experts, const Assignments& list, const std::vector<std::uint8_t>& valid_T = {}) {
  return {.config = config,
          .logits_TR = matrix_of(logits_TE, experts),
          .scores_TE = matrix_of(scores_TE, experts),
          .assignments = list,
          .valid_T = valid_T,
          .sequence = 0,
          .load_before_E = {},
          .clean_logits_TR = {},
          .noise_std_TR = {}};
}

struct Case {
  MoeConfig config;
  const ScoreFunction& score;
  Index experts;
  std::vector<float> logits_TE, scores_TE;
  Assignments list;
  std::vector<std::uint8_t> valid_T;

  Case(const ScoreFunction& function, Index tokens, Index expert_count, Index k, bool padded)
      : score(function), experts(expert_count), logits_TE(oracle::random_values(tokens * expert_count, 1, 2.0F)) {
    if (padded) valid_T = some_padding(tokens, 2);
    scores_TE.resize(logits_TE.size());
    config.router.score = std::string(score.name);
    config.router.experts = experts;
    if (score.name == "tree") config.router.levels = {experts};
    score.forward(config.router, matrix_of(logits_TE, experts), matrix_of(scores_TE, experts));
    list = select("top-k", scores_TE, experts, k, {}, valid_T);
  }
  LossInput input() const { return input_of(config, logits_TE, scores_TE, experts, list, valid_T); }
  // What losses take as probabilities: scores, but for those that may be negative.
  oracle::Values probabilities(const oracle::Values& logits) const {
    return oracle::moe_scores(score.name == "logits" ? "softmax" : std::string(score.name), logits, experts);
  }
};

TEST(Losses, AgreeWithTheOracle) {
  for (const ScoreFunction& score : score_functions())
    for (const Index experts : {1, 2, 8, 17, 64})
      for (const Index tokens : {0, 1, 7, 33, 130})
        for (const bool padded : {false, true}) {
          SCOPED_TRACE(testing::Message() << score.name << " E=" << experts << " T=" << tokens << " padded " << padded);
          const Case c(score, tokens, experts, (experts + 1) / 2, padded);
          const double balance = oracle::load_balance_loss(c.probabilities(oracle::to_double(c.logits_TE)), experts,
                                                           choices_of(c.list), c.valid_T);
          EXPECT_NEAR(load_balance_loss(c.input()), balance, balance * oracle::sum_tolerance(experts, 2));
          const double z = oracle::z_loss(oracle::to_double(c.logits_TE), experts, c.valid_T);
          EXPECT_NEAR(z_loss(c.input()), z, z * oracle::sum_tolerance(experts, 2));
        }
}

// Both start from a gradient of one everywhere, that of the plain sum.
TEST(Losses, GradientsAddToWhatIsThere) {
  for (const ScoreFunction& score : score_functions())
    for (const Index experts : {1, 2, 5, 17})
      for (const bool padded : {false, true}) {
        SCOPED_TRACE(testing::Message() << score.name << " E=" << experts << " padded " << padded);
        const Case c(score, 6, experts, (experts + 1) / 2, padded);
        const std::vector<oracle::MoeChoice> choices = choices_of(c.list);

        // By way of the logits: the oracle divides by a row's sum even where that is 1.
        std::vector<float> d_scores_TE(c.scores_TE.size(), 1.0F), d_logits_TE(c.logits_TE.size(), 0.0F);
        load_balance_backward(c.input(), 3.0F, {matrix_of(d_scores_TE, experts), matrix_of(d_logits_TE, experts), {}});
        score.backward(c.config.router, c.input().logits_TR, c.input().scores_TE, matrix_of(d_scores_TE, experts),
                       matrix_of(d_logits_TE, experts));
        const auto balance = [&](const std::vector<double>& logits) {
          const oracle::Values scores = oracle::moe_scores(std::string(score.name), logits, experts);
          return 3.0 * oracle::load_balance_loss(c.probabilities(logits), experts, choices, c.valid_T) +
                 std::accumulate(scores.begin(), scores.end(), 0.0);
        };
        // A softmax's gradient is a difference of terms of about the size of p, at most 1.
        const double rounding = oracle::sum_tolerance(experts, 3);
        EXPECT_TRUE(oracle::close(d_logits_TE, oracle::finite_difference(balance, oracle::to_double(c.logits_TE)),
                                  rounding, rounding));

        std::fill(d_logits_TE.begin(), d_logits_TE.end(), 1.0F);
        z_loss_backward(c.input(), 3.0F, {{}, matrix_of(d_logits_TE, experts), {}});
        const auto z = [&](const std::vector<double>& logits) {
          return 3.0 * oracle::z_loss(logits, experts, c.valid_T) + std::accumulate(logits.begin(), logits.end(), 0.0);
        };
        EXPECT_TRUE(oracle::is_gradient(d_logits_TE, z, c.logits_TE, experts, 2));
      }
}

// Two experts, scores given outright: f = (3/4, 1/4), P = (0.55, 0.45).
TEST(Losses, LoadBalanceByHand) {
  const std::vector<float> scores_TE = {0.6F, 0.4F, 0.7F, 0.3F, 0.8F, 0.2F, 0.1F, 0.9F};
  const Assignments list = select("top-k", scores_TE, 2, 1);
  const MoeConfig softmax;
  const LossInput input = input_of(softmax, scores_TE, scores_TE, 2, list);
  EXPECT_FLOAT_EQ(load_balance_loss(input), 2.0F * (0.75F * 0.55F + 0.25F * 0.45F));
}

TEST(Losses, LoadBalanceIsOneWhenEvenAndEWhenCollapsed) {
  const std::vector<float> even_TE = {0.5F, 0.5F, 0.5F, 0.5F};
  Assignments list = select("top-k", even_TE, 2, 1);
  list.expert_A = {0, 1};
  const MoeConfig softmax;
  EXPECT_FLOAT_EQ(load_balance_loss(input_of(softmax, even_TE, even_TE, 2, list)), 1.0F);
  const std::vector<float> collapsed_TE = {1.0F, 0.0F, 0.0F, 1.0F, 0.0F, 0.0F};
  list = select("top-k", collapsed_TE, 3, 1);
  EXPECT_FLOAT_EQ(load_balance_loss(input_of(softmax, collapsed_TE, collapsed_TE, 3, list)), 3.0F);
}

TEST(Losses, DroppedAssignmentsStillCount) {
  Case c(find_score_function("softmax"), 33, 4, 2, false);
  const float before = load_balance_loss(c.input());
  for (std::uint8_t& dropped : c.list.dropped_A) dropped = 1;
  EXPECT_EQ(load_balance_loss(c.input()), before);
}

TEST(Losses, ZLossByHand) {
  // logsumexp(0, 0) = log 2; logsumexp(1000, -1000) = 1000.
  const std::vector<float> logits_TE = {0.0F, 0.0F, 1000.0F, -1000.0F};
  const Assignments list = select("top-k", logits_TE, 2, 1);
  const MoeConfig softmax;
  const LossInput input = input_of(softmax, logits_TE, logits_TE, 2, list);
  const float log2 = std::log(2.0F);
  EXPECT_FLOAT_EQ(z_loss(input), (log2 * log2 + 1e6F) / 2.0F);
}

TEST(Losses, OnlyPaddingIsNoLoss) {
  Case c(find_score_function("softmax"), 3, 4, 2, false);
  c.valid_T = {0, 0, 0};
  c.list = select("top-k", c.scores_TE, 4, 2, {}, c.valid_T);
  EXPECT_EQ(load_balance_loss(c.input()), 0.0F);
  EXPECT_EQ(z_loss(c.input()), 0.0F);
  std::vector<float> d(12, 0.0F);
  load_balance_backward(c.input(), 1.0F, {matrix_of(d, 4), {}, {}});
  z_loss_backward(c.input(), 1.0F, {{}, matrix_of(d, 4), {}});
  EXPECT_THAT(d, testing::Each(0.0F));
}

}  // namespace
}  // namespace switchyard::moe
