#include "switchyard/moe/select.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support.hpp"

namespace switchyard::moe {
namespace {

using testing::ElementsAre;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

void expect_same_choices(const Assignments& list, const std::vector<oracle::MoeChoice>& expected) {
  const std::vector<oracle::MoeChoice> found = choices_of(list);
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t a = 0; a < found.size(); ++a) {
    ASSERT_EQ(found[a].token, expected[a].token) << "assignment " << a;
    ASSERT_EQ(found[a].expert, expected[a].expert) << "assignment " << a;
    ASSERT_EQ(found[a].score, expected[a].score) << "assignment " << a;
    ASSERT_FALSE(found[a].dropped);
  }
}

// Coarse scores, so that almost every row has ties, also at the k-th place.
TEST(SelectTopK, AgreesWithTheOracleIncludingTies) {
  for (const Index experts : {1, 2, 3, 8, 17, 64, 131})
    for (const Index tokens : {0, 1, 2, 7, 33, 130})
      for (Index k = 1; k <= experts; k += (experts > 8 ? 5 : 1))
        for (const bool biased : {false, true}) {
          SCOPED_TRACE(testing::Message() << "E=" << experts << " T=" << tokens << " K=" << k << " biased " << biased);
          const std::vector<float> scores_TE = coarse_values(tokens * experts, 1);
          const std::vector<float> bias_E = biased ? coarse_values(experts, 2) : std::vector<float>{};
          const std::vector<std::uint8_t> valid_T = biased ? some_padding(tokens, 3) : std::vector<std::uint8_t>{};
          const Assignments list = select("top-k", scores_TE, experts, k, bias_E, valid_T);
          EXPECT_EQ(list.tokens, tokens);
          EXPECT_EQ(list.experts, experts);
          expect_same_choices(list, oracle::top_k_choices(oracle::to_double(scores_TE), oracle::to_double(bias_E),
                                                          experts, k, valid_T));
        }
}

TEST(SelectTopK, LowestIndexWinsATie) {
  EXPECT_THAT(select("top-k", {0.5F, 0.5F, 0.5F, 0.5F}, 4, 2).expert_A, ElementsAre(0, 1));
  EXPECT_THAT(select("top-k", {0.1F, 0.5F, 0.2F, 0.5F, 0.2F}, 5, 3).expert_A, ElementsAre(1, 3, 2));
  EXPECT_THAT(select("top-k", {-0.0F, 0.0F}, 2, 1).expert_A, ElementsAre(0));
}

TEST(SelectTopK, NanIsChosenOnlyWhenNumbersRunOut) {
  EXPECT_THAT(select("top-k", {kNan, 0.1F, kNan, 0.2F}, 4, 2).expert_A, ElementsAre(3, 1));
  EXPECT_THAT(select("top-k", {kNan, 0.1F, kNan, 0.2F}, 4, 3).expert_A, ElementsAre(3, 1, 0));
  EXPECT_THAT(select("top-k", {kNan, -INFINITY, 0.0F}, 3, 2).expert_A, ElementsAre(2, 1));
}

// Any mix of numbers, infinities and NaN.
TEST(SelectTopK, LongRowsWithNanAndInfinity) {
  for (const Index experts : {64, 100, 256})
    for (const Index k : {1, 8, 16, 17})
      for (std::uint32_t seed = 0; seed < 8; ++seed) {
        SCOPED_TRACE(testing::Message() << "E=" << experts << " K=" << k << " seed " << seed);
        std::vector<float> scores_TE = oracle::random_values(3 * experts, seed);
        const RandomStream stream(seed, RandomPurpose::kTest, 1);
        // One row with a few odd values, one with almost only those, one untouched.
        for (Index e = 0; e < 2 * experts; ++e) {
          const auto i = static_cast<std::size_t>(e);
          const std::uint64_t kind = stream.below(i, e < experts ? 16 : 4);
          if (kind < 3) scores_TE[i] = kind == 0 ? kNan : kind == 1 ? -INFINITY : INFINITY;
        }
        const Assignments list = select("top-k", scores_TE, experts, k);
        const auto expected = oracle::top_k_choices(oracle::to_double(scores_TE), {}, experts, k, {});
        ASSERT_EQ(list.expert_A.size(), expected.size());
        for (std::size_t a = 0; a < expected.size(); ++a) ASSERT_EQ(list.expert_A[a], expected[a].expert) << a;
      }
}

TEST(SelectTopK, ARowOfNanTakesTheFirstExpertsAndKeepsTheNan) {
  const Assignments list = select("top-k", {kNan, kNan, kNan, kNan}, 4, 2);
  EXPECT_THAT(list.expert_A, ElementsAre(0, 1));
  EXPECT_TRUE(std::isnan(list.score_A[0]) && std::isnan(list.score_A[1]));
}

TEST(SelectTopK, TheBiasChoosesButIsNotInTheScore) {
  const Assignments list = select("top-k", {0.9F, 0.5F, 0.1F}, 3, 2, {-1.0F, 0.0F, 0.5F});
  EXPECT_THAT(list.expert_A, ElementsAre(2, 1));
  EXPECT_THAT(list.score_A, ElementsAre(0.1F, 0.5F));
}

TEST(SelectTopK, PaddingGetsNoAssignments) {
  const Assignments list = select("top-k", {0.9F, 0.1F, 0.2F, 0.8F, 0.6F, 0.4F}, 2, 1, {}, {1, 0, 1});
  EXPECT_THAT(list.offset_T1, ElementsAre(0, 1, 1, 2));
  EXPECT_THAT(list.expert_A, ElementsAre(0, 0));
}

TEST(Select, UnknownNameListsTheKnown) {
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [] { find_selection_rule("best"); }),
              testing::StartsWith("unknown selection rule 'best', expected one of top-k"));
}

TEST(SelectTopK, RefusesMoreThanThereAre) {
  EXPECT_EQ(error_of(ErrorKind::kInternal, [] { select("top-k", {0.5F, 0.5F}, 2, 3); }), "top-k of 3 among 2 experts");
}

}  // namespace
}  // namespace switchyard::moe
