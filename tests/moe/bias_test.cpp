#include "switchyard/moe/bias.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "oracle/balance.hpp"
#include "support.hpp"

namespace switchyard::moe {
namespace {

using testing::ElementsAre;

void move_by_sign(const std::vector<Index>& load_E, float rate, std::vector<float>& bias_E) {
  BalanceConfig balance;
  balance.bias_update_rate = rate;
  update_selection_bias(balance, 0, {.load_E = load_E, .target_E = {}}, bias_E);
}

TEST(SelectionBias, RisesForTheUnderloadedAndFallsForTheOverloaded) {
  std::vector<float> bias_E = {0.0F, 0.5F, -0.5F, 1.0F};
  move_by_sign({1, 10, 4, 5}, 0.25F, bias_E);  // mean 5
  EXPECT_THAT(bias_E, ElementsAre(0.25F, 0.25F, -0.25F, 1.0F));
}

TEST(SelectionBias, AMeanThatIsNoIntegerIsExact) {
  std::vector<float> bias_E = {0.0F, 0.0F, 0.0F};
  move_by_sign({3, 3, 4}, 1.0F, bias_E);  // mean 3.33
  EXPECT_THAT(bias_E, ElementsAre(1.0F, 1.0F, -1.0F));
}

TEST(SelectionBias, EvensOutAFixedPreference) {
  const std::vector<float> logits_E = {2.0F, 1.0F, 0.0F, -1.0F};
  std::vector<float> bias_E(4, 0.0F);
  std::vector<Index> total_E(4, 0);
  for (int step = 0; step < 2000; ++step) {
    std::vector<float> scores_TE;
    for (std::uint32_t t = 0; t < 64; ++t) {
      const std::vector<float> noise = oracle::random_values(4, static_cast<std::uint32_t>(step) * 64 + t, 0.5F);
      for (std::size_t e = 0; e < 4; ++e) scores_TE.push_back(1.0F / (1.0F + std::exp(-logits_E[e] - noise[e])));
    }
    std::vector<Index> load_E(4, 0);
    for (const std::int32_t e : select("top-k", scores_TE, 4, 1, bias_E).expert_A)
      ++load_E[static_cast<std::size_t>(e)];
    for (std::size_t e = 0; e < 4 && step >= 1000; ++e) total_E[e] += load_E[e];
    move_by_sign(load_E, 0.002F, bias_E);
  }
  for (const Index total : total_E) EXPECT_NEAR(static_cast<double>(total) / 64000.0, 0.25, 0.02);
}

TEST(SelectionBias, CentringTakesTheMeanOff) {
  BalanceConfig balance;
  balance.bias_update_rate = 0.5F;
  balance.bias_centre = true;
  std::vector<float> bias_E = {1.0F, 1.0F, 1.0F, 1.0F};
  update_selection_bias(balance, 0, {.load_E = std::vector<Index>{0, 4, 4, 4}, .target_E = {}}, bias_E);
  EXPECT_THAT(bias_E, ElementsAre(0.75F, -0.25F, -0.25F, -0.25F));
}

TEST(SelectionBias, FreezesAfterItsSteps) {
  BalanceConfig balance;
  balance.bias_update_rate = 1.0F;
  balance.bias_freeze_after = 3;
  std::vector<float> bias_E = {0.0F, 0.0F};
  for (Index step = 0; step < 6; ++step)
    update_selection_bias(balance, step, {.load_E = std::vector<Index>{1, 0}, .target_E = {}}, bias_E);
  EXPECT_THAT(bias_E, ElementsAre(-3.0F, 3.0F));
}

TEST(SelectionBias, ARateOfZeroDoesNothing) {
  BalanceConfig balance;
  balance.bias_centre = true;
  std::vector<float> bias_E = {1.0F, 2.0F};
  update_selection_bias(balance, 0, {.load_E = std::vector<Index>{1, 0}, .target_E = {}}, bias_E);
  EXPECT_THAT(bias_E, ElementsAre(1.0F, 2.0F));
}

TEST(QuantileBias, AgreesWithTheOracle) {
  for (const Index experts : {2, 3, 8, 17})
    for (const Index tokens : {1, 7, 33, 130})
      for (const Index k : {Index{1}, (experts + 1) / 2, experts - 1})
        for (const bool padded : {false, true}) {
          SCOPED_TRACE(testing::Message() << "E=" << experts << " T=" << tokens << " K=" << k << " padded " << padded);
          const std::vector<float> scores_TE = coarse_values(tokens * experts, 1), bias_E = coarse_values(experts, 2);
          const std::vector<std::uint8_t> valid_T = padded ? some_padding(tokens, 3) : std::vector<std::uint8_t>{};
          const std::vector<double> found = quantile_bias(matrix_of(scores_TE, experts), bias_E, valid_T, k);
          if (padded && std::count(valid_T.begin(), valid_T.end(), 1) == 0) {
            EXPECT_TRUE(found.empty());
            continue;
          }
          // Sums and differences of coarse values are exact.
          EXPECT_EQ(found, oracle::quantile_bias(oracle::to_double(scores_TE), oracle::to_double(bias_E), experts, k,
                                                 valid_T));
        }
}

TEST(QuantileBias, NothingToDoWithoutTokensOrWithEveryExpertChosen) {
  EXPECT_TRUE(quantile_bias(ConstMatrix{nullptr, 0, 4}, std::vector<float>(4), {}, 2).empty());
  const std::vector<float> scores_TE(8, 0.5F);
  EXPECT_TRUE(quantile_bias(matrix_of(scores_TE, 4), std::vector<float>(4), {}, 4).empty());
  const std::vector<std::uint8_t> padding = {0, 0};
  EXPECT_TRUE(quantile_bias(matrix_of(scores_TE, 4), std::vector<float>(4), padding, 2).empty());
}

TEST(QuantileBias, NanScoresDoNoHarm) {
  std::vector<float> scores_TE = coarse_values(64 * 4, 1);
  for (std::size_t i = 0; i < scores_TE.size(); i += 3) scores_TE[i] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(quantile_bias(matrix_of(scores_TE, 4), std::vector<float>(4), {}, 2).size(), 4U);
}

// One update from nothing evens out a strong preference.
TEST(QuantileBias, BalancesTheTokensThatItSaw) {
  constexpr Index kTokens = 512, kExperts = 8;
  std::vector<float> scores_TE = oracle::random_values(kTokens * kExperts, 1);
  for (std::size_t i = 0; i < scores_TE.size(); ++i) scores_TE[i] += 0.3F * static_cast<float>(i % kExperts);
  std::vector<float> bias_E(kExperts, 0.0F);
  const auto most_loaded = [&] {
    std::vector<Index> load_E(kExperts);
    for (const std::int32_t e : select("top-k", scores_TE, kExperts, 2, bias_E).expert_A)
      ++load_E[static_cast<std::size_t>(e)];
    return *std::max_element(load_E.begin(), load_E.end());
  };
  const Index before = most_loaded();
  BalanceConfig balance;
  balance.bias_update = "quantile";
  balance.bias_update_rate = 1.0F;
  balance.bias_centre = true;
  for (Index step = 0; step < 4; ++step) {
    const std::vector<double> target = quantile_bias(matrix_of(scores_TE, kExperts), bias_E, {}, 2);
    update_selection_bias(balance, step, {.load_E = {}, .target_E = target}, bias_E);
  }
  EXPECT_NEAR(std::accumulate(bias_E.begin(), bias_E.end(), 0.0), 0.0, 1e-5);
  EXPECT_GT(before, 200);
  EXPECT_LT(most_loaded(), 140);  // even: 128
}

TEST(QuantileBias, IsMixedInByItsRateAndAveragedOverCalls) {
  BalanceConfig balance;
  balance.bias_update = "quantile";
  balance.bias_update_rate = 0.25F;
  std::vector<float> bias_E = {1.0F, 0.0F};
  update_selection_bias(balance, 0, {.load_E = {}, .target_E = std::vector<double>{2.0, -4.0}}, bias_E);
  EXPECT_THAT(bias_E, ElementsAre(1.25F, -1.0F));
  update_selection_bias(balance, 0, {.load_E = {}, .target_E = {}}, bias_E);
  EXPECT_THAT(bias_E, ElementsAre(1.25F, -1.0F));

  MoeConfig config;
  config.router.top_k = 1;
  config.router.selection_bias = true;
  config.balance = balance;
  const std::vector<float> first_TE = coarse_values(6 * 3, 1), second_TE = coarse_values(5 * 3, 2), no_bias_E(3);
  const Assignments list;
  const DispatchPlan plan;
  BiasTargets targets;
  const auto see = [&](Index layer, const std::vector<float>& scores_TE) {
    targets.on_routing({.layer = layer,
                        .config = config,
                        .logits_TE = matrix_of(scores_TE, 3),
                        .scores_TE = matrix_of(scores_TE, 3),
                        .assignments = list,
                        .plan = plan,
                        .token_id_T = {},
                        .valid_T = {},
                        .losses = {},
                        .training = true,
                        .selection_bias_E = no_bias_E});
  };
  see(2, first_TE);
  see(2, second_TE);
  see(5, second_TE);
  const auto first = quantile_bias(matrix_of(first_TE, 3), no_bias_E, {}, 1),
             second = quantile_bias(matrix_of(second_TE, 3), no_bias_E, {}, 1);
  ASSERT_EQ(targets.target(2).size(), 3U);
  for (std::size_t e = 0; e < 3; ++e) EXPECT_DOUBLE_EQ(targets.target(2)[e], (first[e] + second[e]) / 2.0);
  EXPECT_EQ(targets.target(5), second);
  EXPECT_TRUE(targets.target(0).empty());
  config.balance.bias_update = "sign";
  see(7, first_TE);
  EXPECT_TRUE(targets.target(7).empty());
}

}  // namespace
}  // namespace switchyard::moe
