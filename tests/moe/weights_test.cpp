#include "switchyard/moe/weights.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oracle/finite_difference.hpp"
#include "support.hpp"

namespace switchyard::moe {
namespace {

std::vector<float> positive_scores(Index count, std::uint32_t seed) {
  std::vector<float> values = oracle::random_values(count, seed);
  for (float& value : values) value = std::exp(value);
  return values;
}

constexpr float kNormP = 3.0F;

RouterConfig router_of(float scale) {
  RouterConfig router;
  router.scale = scale;
  router.norm_p = kNormP;
  return router;
}

std::vector<oracle::MoeChoice> weighed(std::vector<oracle::MoeChoice> choices, const WeightRule& rule, double scale) {
  oracle::weigh(std::string(rule.name), scale, choices, static_cast<double>(kNormP));
  return choices;
}

TEST(Weights, AgreeWithTheOracle) {
  for (const WeightRule& rule : weight_rules())
    for (const float scale : {1.0F, 2.5F})
      for (const Index k : {1, 2, 8, 17}) {
        SCOPED_TRACE(testing::Message() << rule.name << " scale " << scale << " K=" << k);
        Assignments list = select("top-k", positive_scores(33 * 17, 1), 17, k, {}, some_padding(33, 2));
        rule.forward(router_of(scale), list);
        oracle::Values expected;
        for (const auto& choice : weighed(choices_of(list), rule, static_cast<double>(scale)))
          expected.push_back(choice.weight);
        EXPECT_TRUE(oracle::close(list.weight_A, expected, oracle::sum_tolerance(k)));
      }
}

TEST(Weights, GradientIsThatOfTheOracle) {
  for (const WeightRule& rule : weight_rules())
    for (const Index k : {1, 2, 5}) {
      SCOPED_TRACE(testing::Message() << rule.name << " K=" << k);
      Assignments list = select("top-k", positive_scores(4 * 5, 3), 5, k, {}, {1, 1, 0, 1});
      rule.forward(router_of(2.5F), list);
      const std::vector<float> d_weight_A = oracle::random_values(list.size(), 4);
      std::vector<float> d_score_A(d_weight_A.size(), 1e9F);
      rule.backward(router_of(2.5F), list, d_weight_A, d_score_A);
      const auto f = [&](const std::vector<double>& scores) {
        std::vector<oracle::MoeChoice> choices = choices_of(list);
        for (std::size_t a = 0; a < choices.size(); ++a) choices[a].score = scores[a];
        double sum = 0.0;
        choices = weighed(choices, rule, 2.5);
        for (std::size_t a = 0; a < choices.size(); ++a) sum += static_cast<double>(d_weight_A[a]) * choices[a].weight;
        return sum;
      };
      // A single weight that is divided by itself has gradient 0; what is left is the rounding of d - d.
      const double absolute = 4.0 * oracle::kUnitRoundoff * 2.5 * oracle::max_abs(d_weight_A);
      EXPECT_TRUE(oracle::close(d_score_A, oracle::finite_difference(f, oracle::to_double(list.score_A)),
                                oracle::sum_tolerance(k, 2), absolute + 1e-9));
    }
}

TEST(Weights, SumOfScoresThatUnderflowedGivesZeroNotNan) {
  Assignments list = select("top-k", {0.0F, 0.0F, 0.0F}, 3, 2);
  find_weight_rule("sum").forward(router_of(1.0F), list);
  EXPECT_THAT(list.weight_A, testing::ElementsAre(0.0F, 0.0F));
}

TEST(Weights, NanScoresGiveNanWeights) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const WeightRule& rule : weight_rules()) {
    Assignments list = select("top-k", {nan, nan}, 2, 1);
    rule.forward(router_of(1.0F), list);
    EXPECT_TRUE(std::isnan(list.weight_A[0])) << rule.name;
  }
}

TEST(Weights, UnknownNameListsTheKnown) {
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [] { find_weight_rule("max"); }),
              testing::StartsWith(
                  "unknown normalisation of the router's weights 'max', expected one of none, sum, p-norm, softmax"));
}

}  // namespace
}  // namespace switchyard::moe
