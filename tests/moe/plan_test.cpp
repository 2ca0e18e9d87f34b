#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support.hpp"
#include "switchyard/moe/combine.hpp"

namespace switchyard::moe {
namespace {

using testing::ElementsAre;

// A list with some assignments dropped, weights that tell assignments apart, and a chunk of padding.
Assignments random_list(Index tokens, Index experts, Index k, std::uint32_t seed) {
  Assignments list = select("top-k", coarse_values(tokens * experts, seed), experts, k, {}, some_padding(tokens, seed));
  const RandomStream stream(seed, RandomPurpose::kTest, 7);
  for (std::size_t a = 0; a < list.weight_A.size(); ++a) {
    list.weight_A[a] = static_cast<float>(a) + 0.5F;
    list.dropped_A[a] = stream.below(a, 5) == 0 ? 1 : 0;
  }
  return list;
}

TEST(DispatchPlan, EveryKeptAssignmentHasOneSlotOfItsExpert) {
  for (const Index experts : {1, 2, 3, 8, 17, 64})
    for (const Index tokens : {0, 1, 2, 7, 33, 130})
      for (Index k = 1; k <= experts; k = 2 * k + 1) {
        SCOPED_TRACE(testing::Message() << "E=" << experts << " T=" << tokens << " K=" << k);
        const Assignments list = random_list(tokens, experts, k, 1);
        const DispatchPlan plan = make_dispatch_plan(list);
        ASSERT_EQ(plan.offset_E1.size(), static_cast<std::size_t>(experts) + 1);
        ASSERT_EQ(plan.offset_E1.front(), 0);
        ASSERT_EQ(plan.offset_E1.back(), plan.slots());
        ASSERT_EQ(plan.slot_of_assignment_A.size(), list.expert_A.size());

        const std::vector<oracle::MoeChoice> choices = choices_of(list);
        Index kept = 0;
        for (std::size_t a = 0; a < choices.size(); ++a) {
          const std::int32_t slot = plan.slot_of_assignment_A[a];
          if (choices[a].dropped) {
            ASSERT_EQ(slot, -1);
            continue;
          }
          ++kept;
          const auto s = static_cast<std::size_t>(slot);
          ASSERT_EQ(plan.assignment_of_slot_S[s], static_cast<std::int32_t>(a));
          ASSERT_EQ(plan.token_of_slot_S[s], choices[a].token);
          ASSERT_EQ(plan.weight_of_slot_S[s], list.weight_A[a]);
          const auto e = static_cast<std::size_t>(choices[a].expert);
          ASSERT_TRUE(slot >= plan.offset_E1[e] && slot < plan.offset_E1[e + 1]);
        }
        ASSERT_EQ(kept, plan.slots());
        for (Index e = 0; e < experts; ++e) {
          ASSERT_GE(plan.load(e), 0);
          for (Index s = plan.offset_E1[static_cast<std::size_t>(e)] + 1;
               s < plan.offset_E1[static_cast<std::size_t>(e) + 1]; ++s)
            ASSERT_LT(plan.token_of_slot_S[static_cast<std::size_t>(s) - 1],
                      plan.token_of_slot_S[static_cast<std::size_t>(s)]);
        }
      }
}

TEST(DispatchPlan, ByHand) {
  // Token 0: experts 2, 0. Token 1: experts 2, 1 (the 2 dropped).
  Assignments list = select("top-k", {0.5F, 0.0F, 0.9F, 0.0F, 0.5F, 0.9F}, 3, 2);
  list.weight_A = {1.0F, 2.0F, 0.0F, 4.0F};
  list.dropped_A[2] = 1;
  const DispatchPlan plan = make_dispatch_plan(list);
  EXPECT_THAT(plan.offset_E1, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(plan.token_of_slot_S, ElementsAre(0, 1, 0));
  EXPECT_THAT(plan.weight_of_slot_S, ElementsAre(2.0F, 4.0F, 1.0F));
  EXPECT_THAT(plan.assignment_of_slot_S, ElementsAre(1, 3, 0));
  EXPECT_THAT(plan.slot_of_assignment_A, ElementsAre(2, 0, -1, 1));
}

TEST(DispatchPlan, OneHotExpertAndEmptyOnes) {
  std::vector<float> scores_TE(7 * 4, 0.0F);
  for (std::size_t t = 0; t < 7; ++t) scores_TE[4 * t + 2] = 1.0F;
  const DispatchPlan plan = make_dispatch_plan(select("top-k", scores_TE, 4, 1));
  EXPECT_THAT(plan.offset_E1, ElementsAre(0, 0, 0, 7, 7));
  EXPECT_THAT(plan.token_of_slot_S, ElementsAre(0, 1, 2, 3, 4, 5, 6));
}

TEST(Assignments, RefusesMoreThanItsIndicesCanCount) {
  Assignments list;
  EXPECT_NE(error_of(ErrorKind::kInternal, [&] { list.resize(Index{1} << 31); }), "");
}

TEST(Combine, AddsATokensSlotsInOrderOfRank) {
  for (const Index width : {1, 3, 8, 33, 130})
    for (const Index tokens : {0, 1, 7, 130}) {
      SCOPED_TRACE(testing::Message() << "D=" << width << " T=" << tokens);
      const Assignments list = random_list(tokens, 8, 3, 2);
      const DispatchPlan plan = make_dispatch_plan(list);
      const oracle::GuardedMatrix rows_SD(plan.slots(), width, 5, oracle::random_values(plan.slots() * width, 3));
      oracle::GuardedMatrix sum_TD(tokens, width, 3, 99.0F);
      combine(list, plan, rows_SD.view(), sum_TD.view());

      std::vector<float> expected(static_cast<std::size_t>(tokens * width));
      const std::vector<oracle::MoeChoice> choices = choices_of(list);
      for (std::size_t a = 0; a < choices.size(); ++a)
        for (Index d = 0; d < width && plan.slot_of_assignment_A[a] >= 0; ++d)
          expected[static_cast<std::size_t>(choices[a].token * width + d)] +=
              rows_SD.view()(plan.slot_of_assignment_A[a], d);
      EXPECT_TRUE(oracle::same_bits(sum_TD.values(), expected));
      EXPECT_TRUE(sum_TD.untouched());
    }
}

}  // namespace
}  // namespace switchyard::moe
