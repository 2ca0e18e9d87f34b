#include "switchyard/moe/statistics.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "support.hpp"

namespace switchyard::moe {
namespace {

using testing::ElementsAre;

// Four tokens, the last padding; three experts, top 1. Expert 0 gets tokens 0 and 1, expert 1 token 2.
struct Fixture {
  MoeConfig config;
  std::vector<float> scores_TE = {0.5F, 0.25F, 0.25F, 1.0F, 0.0F, 0.0F, 0.25F, 0.5F, 0.25F, 0.9F, 0.05F, 0.05F};
  std::vector<std::uint8_t> valid_T = {1, 1, 1, 0};
  Assignments list = select("top-k", scores_TE, 3, 1, {}, valid_T);
  DispatchPlan plan;

  Fixture() {
    list.weight_A = {0.5F, 1.0F, 0.5F};
    plan = make_dispatch_plan(list);
  }
  RoutingEvent event(Index layer) const {
    return {.layer = layer,
            .config = config,
            .logits_TE = matrix_of(scores_TE, 3),
            .scores_TE = matrix_of(scores_TE, 3),
            .assignments = list,
            .plan = plan,
            .token_id_T = {},
            .valid_T = valid_T,
            .losses = {.load_balance = 1.5F, .z_loss = 0.25F, .total = 0.0F},
            .training = true};
  }
};

TEST(RoutingStatistics, ByHand) {
  const Fixture f;
  RoutingStatistics s;
  s.add(f.event(0));
  EXPECT_EQ(s.tokens, 3);
  EXPECT_EQ(s.assignments, 3);
  EXPECT_EQ(s.dropped, 0);
  EXPECT_EQ(s.calls, 1);
  EXPECT_THAT(s.load_E, ElementsAre(2, 1, 0));
  EXPECT_THAT(s.importance_E, ElementsAre(1.5, 0.5, 0.0));
  EXPECT_DOUBLE_EQ(s.mean_load(), 1.0);
  EXPECT_DOUBLE_EQ(s.max_violation(), 1.0);
  EXPECT_DOUBLE_EQ(s.drop_rate(), 0.0);
  EXPECT_THAT(s.dead_experts(), ElementsAre(2));
  // Two tokens of entropy 1.5 bits, one of 0.
  EXPECT_NEAR(s.mean_entropy(), 3.0 * std::log(2.0) / 3.0, 1e-7);
  EXPECT_DOUBLE_EQ(s.load_balance_sum, 1.5);
  EXPECT_DOUBLE_EQ(s.z_loss_sum, 0.25);
}

TEST(RoutingStatistics, DroppedAssignmentsAreNoLoad) {
  Fixture f;
  f.list.dropped_A[0] = 1;
  f.list.weight_A[0] = 0.0F;
  f.plan = make_dispatch_plan(f.list);
  RoutingStatistics s;
  s.add(f.event(0));
  EXPECT_EQ(s.assignments, 3);
  EXPECT_EQ(s.dropped, 1);
  EXPECT_DOUBLE_EQ(s.drop_rate(), 1.0 / 3.0);
  EXPECT_THAT(s.load_E, ElementsAre(1, 1, 0));
  EXPECT_THAT(s.importance_E, ElementsAre(1.0, 0.5, 0.0));
}

TEST(RoutingStatistics, EntropyIsThatOfNormalisedScores) {
  Fixture f;
  f.config.router.score = "sigmoid";
  RoutingStatistics of_distribution, of_scores;
  of_distribution.add(f.event(0));
  for (float& score : f.scores_TE) score *= 0.5F;
  of_scores.add(f.event(0));
  EXPECT_NEAR(of_scores.mean_entropy(), of_distribution.mean_entropy(), 1e-6);
}

TEST(RoutingStatistics, MergeIsTheSameAsAddingAll) {
  const Fixture f;
  RoutingStatistics once, twice, merged;
  once.add(f.event(0));
  twice.add(f.event(0));
  twice.add(f.event(0));
  merged.merge(once);
  merged.merge(RoutingStatistics{});
  merged.merge(once);
  EXPECT_EQ(merged.tokens, twice.tokens);
  EXPECT_EQ(merged.assignments, twice.assignments);
  EXPECT_EQ(merged.load_E, twice.load_E);
  EXPECT_EQ(merged.importance_E, twice.importance_E);
  EXPECT_EQ(merged.entropy_sum, twice.entropy_sum);
  EXPECT_EQ(merged.z_loss_sum, twice.z_loss_sum);
  EXPECT_EQ(merged.calls, 2);
  EXPECT_DOUBLE_EQ(merged.max_violation(), once.max_violation());
}

TEST(RoutingStatistics, OfNothing) {
  const RoutingStatistics s;
  EXPECT_EQ(s.mean_load(), 0.0);
  EXPECT_EQ(s.max_violation(), 0.0);
  EXPECT_EQ(s.mean_entropy(), 0.0);
  EXPECT_EQ(s.drop_rate(), 0.0);
  EXPECT_TRUE(s.dead_experts().empty());
}

TEST(StatisticsRecorder, KeepsLayersApart) {
  const Fixture f;
  StatisticsRecorder a, b;
  ObserverList both;
  both.add(&a);
  both.add(&b);
  both.on_routing(f.event(1));
  both.on_routing(f.event(5));
  both.on_routing(f.event(5));
  for (const StatisticsRecorder* recorder : {&a, &b}) {
    ASSERT_EQ(recorder->layers().size(), 2U);
    EXPECT_EQ(recorder->layers().at(1).calls, 1);
    EXPECT_EQ(recorder->layers().at(5).calls, 2);
  }
  a.clear();
  EXPECT_TRUE(a.layers().empty());
}

}  // namespace
}  // namespace switchyard::moe
