// Presets that choose by chance, by the token's id or by looking at all tokens, against their published formulas: what
// is certain exactly, what is drawn by its frequency. A frequency may be off by 4.5 standard deviations; with the fixed
// seed of the test that either holds or does not.

#include <gtest/gtest.h>

#include <set>

#include "preset_routing.hpp"

namespace switchyard::moe {
namespace {

constexpr double kDeviations = 4.5;

Row row_of(const std::vector<float>& logits, Index t, Index experts) {
  return {logits.begin() + t * experts, logits.begin() + (t + 1) * experts};
}

// _top_2_gating of mesh-tensorflow: the second of the best two is kept with probability min(1, g2 / threshold), g2
// its share of both; both weights are shares of both, kept or not.
class GshardTest : public testing::TestWithParam<const char*> {};

TEST_P(GshardTest, TakesTheSecondAsOftenAsItsShareSays) {
  constexpr Index kExperts = 8, kTokens = 4000;
  const MoeConfig config = config_of(GetParam(), kExperts);
  const std::vector<float> logits = oracle::random_values(kTokens * kExperts, 21, 1.5F);
  const Assignments list = assignments_of(config, logits);
  ASSERT_EQ(list.size(), 2 * kTokens);
  double expected = 0.0, variance = 0.0, kept = 0.0;
  for (Index t = 0; t < kTokens; ++t) {
    const Row p = softmax(row_of(logits, t, kExperts));
    const std::vector<Index> two = best(p, 2);
    const auto a = static_cast<std::size_t>(2 * t);
    ASSERT_EQ(list.expert_A[a], two[0]);
    ASSERT_EQ(list.expert_A[a + 1], two[1]);
    const double sum = at(p, two[0]) + at(p, two[1]), share = at(p, two[1]) / sum;
    EXPECT_NEAR(static_cast<double>(list.weight_A[a]), 1.0 - share, 4.0 * oracle::sum_tolerance(kExperts));
    const double q = std::min(1.0, share / static_cast<double>(config.router.threshold));
    expected += q;
    variance += q * (1.0 - q);
    kept += list.dropped_A[a + 1] != 0 ? 0.0 : 1.0;
    EXPECT_EQ(list.dropped_A[a], 0);
    if (list.dropped_A[a + 1] == 0) {
      EXPECT_NEAR(static_cast<double>(list.weight_A[a + 1]), share, 4.0 * oracle::sum_tolerance(kExperts));
    }
  }
  EXPECT_GT(variance, 100.0);  // the draw matters
  EXPECT_NEAR(kept, expected, kDeviations * std::sqrt(variance));
}

INSTANTIATE_TEST_SUITE_P(Presets, GshardTest, testing::Values("gshard", "st-moe"),
                         [](const auto& test) { return std::string(test.param) == "gshard" ? "Gshard" : "StMoe"; });

// Top2Gate of fairscale and top2gating of DeepSpeed: the largest of logits + Gumbel noise among the others is a draw
// from their softmax.
class GumbelTest : public testing::TestWithParam<const char*> {};

TEST_P(GumbelTest, DrawsTheSecondFromTheSoftmaxOfTheOthers) {
  constexpr Index kExperts = 6, kTokens = 12000;
  const MoeConfig config = config_of(GetParam(), kExperts);
  const std::vector<float> one = oracle::random_values(kExperts, 22, 1.0F);
  std::vector<float> logits;
  for (Index t = 0; t < kTokens; ++t) logits.insert(logits.end(), one.begin(), one.end());
  const Assignments list = assignments_of(config, logits);
  ASSERT_EQ(list.size(), 2 * kTokens);
  const Row p = softmax(row_of(logits, 0, kExperts));
  const Index first = best(p, 1)[0];
  std::vector<double> count(kExperts);
  for (Index t = 0; t < kTokens; ++t) {
    const auto a = static_cast<std::size_t>(2 * t);
    const Index second = list.expert_A[a + 1];
    ASSERT_EQ(list.expert_A[a], first);
    ++count[static_cast<std::size_t>(second)];
    EXPECT_NEAR(static_cast<double>(list.weight_A[a + 1]), at(p, second) / (at(p, first) + at(p, second)),
                4.0 * oracle::sum_tolerance(kExperts));
  }
  EXPECT_EQ(at(count, first), 0.0);
  for (Index e = 0; e < kExperts; ++e) {
    if (e == first) continue;
    const double q = at(p, e) / (1.0 - at(p, first));
    EXPECT_NEAR(at(count, e), kTokens * q, kDeviations * std::sqrt(kTokens * q * (1.0 - q))) << "expert " << e;
  }
}

INSTANTIATE_TEST_SUITE_P(Presets, GumbelTest, testing::Values("fairscale-top2", "deepspeed-top2"),
                         [](const auto& test) {
                           return std::string(test.param) == "fairscale-top2" ? "Fairscale" : "Deepspeed";
                         });

// ParlAI's random hash: every id of the vocabulary has one expert, drawn once, whatever the text around it.
TEST(SampledPresets, HashLayersGiveEachIdOneExpertOfARandomTable) {
  constexpr Index kExperts = 16, kIds = 8000;
  const MoeConfig config = config_of("hash-layers", kExperts);
  std::vector<std::int32_t> ids;
  for (Index pass = 0; pass < 2; ++pass)
    for (Index id = 0; id < kIds; ++id) ids.push_back(static_cast<std::int32_t>(pass == 0 ? id : kIds - 1 - id));
  const std::vector<float> logits = oracle::random_values(2 * kIds * kExperts, 23, 1.0F);
  const Assignments list = assignments_of(config, logits, {}, ids);
  ASSERT_EQ(list.size(), 2 * kIds);
  std::vector<double> count(kExperts);
  for (Index i = 0; i < kIds; ++i) {
    const auto a = static_cast<std::size_t>(i);
    EXPECT_EQ(list.expert_A[a], list.expert_A[static_cast<std::size_t>(2 * kIds - 1 - i)]) << "id " << i;
    EXPECT_EQ(list.weight_A[a], 1.0F);
    ++count[static_cast<std::size_t>(list.expert_A[a])];
  }
  const double even = static_cast<double>(kIds) / kExperts;
  for (Index e = 0; e < kExperts; ++e) EXPECT_NEAR(at(count, e), even, kDeviations * std::sqrt(even)) << "expert " << e;
}

// Zhou et al. 2022, section 3.2: of the softmax over experts, each expert takes the k = 2 n / e tokens with the largest
// score for it, with that score as weight.
TEST(SampledPresets, ExpertChoiceTakesTheBestTokensOfEachExpert) {
  constexpr Index kExperts = 8, kTokens = 52, kTaken = 2 * kTokens / kExperts;
  const MoeConfig config = config_of("expert-choice", kExperts);
  const std::vector<float> logits = oracle::random_values(kTokens * kExperts, 24, 1.5F);
  std::vector<Row> columns(kExperts);
  for (Index t = 0; t < kTokens; ++t) {
    const Row p = softmax(row_of(logits, t, kExperts));
    for (std::size_t e = 0; e < kExperts; ++e) columns[e].push_back(p[e]);
  }
  std::set<std::pair<Index, Index>> expected;
  for (Index e = 0; e < kExperts; ++e)
    for (const Index t : best(columns[static_cast<std::size_t>(e)], kTaken)) expected.emplace(t, e);
  std::set<std::pair<Index, Index>> found;
  for (const oracle::MoeChoice& c : choices_of(assignments_of(config, logits))) {
    found.emplace(c.token, c.expert);
    EXPECT_NEAR(c.weight, at(columns[static_cast<std::size_t>(c.expert)], c.token),
                4.0 * oracle::sum_tolerance(kExperts));
  }
  EXPECT_EQ(found, expected);
}

}  // namespace
}  // namespace switchyard::moe
