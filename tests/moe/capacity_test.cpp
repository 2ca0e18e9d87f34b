#include "switchyard/moe/capacity.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support.hpp"

namespace switchyard::moe {
namespace {

using testing::ElementsAre;

Assignments weighed_list(const std::vector<float>& scores_TE, Index experts, Index k) {
  Assignments list = select("top-k", scores_TE, experts, k);
  list.weight_A = list.score_A;
  return list;
}

// One drop rule on the whole list, as apply_capacity would use it.
void drop(std::string_view name, Index capacity, Assignments& list) {
  MoeConfig config;
  config.router.experts = list.experts;
  const CapacityInput input{
      .config = config, .scores_TE = {}, .valid_T = {}, .sequence = 0, .random = RandomStream(1, RandomPurpose::kTest)};
  for (const DropRule& rule : drop_rules())
    if (rule.name == name) rule.apply(capacity, 0, list.size(), input, list);
}

// Coarse scores: an expert's list has many equal ones, so the rule for ties decides.
TEST(Capacity, BothRulesAgreeWithTheOracle) {
  for (const DropRule& rule : drop_rules())
    for (const Index experts : {1, 3, 8, 17})
      for (const Index tokens : {0, 1, 7, 33, 130})
        for (const Index k : {Index{1}, (experts + 1) / 2, experts})
          for (const Index capacity : {0, 1, 2, 5, 16, 1000}) {
            SCOPED_TRACE(testing::Message()
                         << rule.name << " E=" << experts << " T=" << tokens << " K=" << k << " capacity " << capacity);
            Assignments list = weighed_list(coarse_values(tokens * experts, 1), experts, k);
            std::vector<oracle::MoeChoice> expected = choices_of(list);
            std::vector<Index> wanted_E(static_cast<std::size_t>(experts));
            for (const oracle::MoeChoice& choice : expected) ++wanted_E[static_cast<std::size_t>(choice.expert)];
            oracle::drop_over_capacity(std::string(rule.name), capacity, experts, expected);
            drop(rule.name, capacity, list);

            const std::vector<oracle::MoeChoice> found = choices_of(list);
            for (std::size_t a = 0; a < found.size(); ++a) {
              ASSERT_EQ(found[a].dropped, expected[a].dropped) << "assignment " << a;
            }
            // No more than the capacity, and no fewer than could be kept.
            const DispatchPlan plan = make_dispatch_plan(list);
            for (Index e = 0; e < experts; ++e)
              ASSERT_EQ(plan.load(e), std::min(capacity, wanted_E[static_cast<std::size_t>(e)]));
          }
}

TEST(Capacity, ProbsKeepsTheLargestAndTheEarlierOfEqualOnes) {
  Assignments list = weighed_list({0.5F, 0.75F, 0.5F, 0.25F, 0.5F}, 1, 1);
  drop("probs", 3, list);
  EXPECT_THAT(list.dropped_A, ElementsAre(0, 0, 0, 1, 1));
}

TEST(Capacity, PositionKeepsTheEarliest) {
  Assignments list = weighed_list({0.5F, 0.75F, 0.5F, 0.25F, 0.5F}, 1, 1);
  drop("position", 2, list);
  EXPECT_THAT(list.dropped_A, ElementsAre(0, 0, 1, 1, 1));
}

TEST(Capacity, NanScoresAreDroppedFirst) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Assignments list = weighed_list({nan, 0.5F, nan, 0.25F}, 1, 1);
  drop("probs", 2, list);
  EXPECT_THAT(list.dropped_A, ElementsAre(1, 0, 1, 0));
}

Index capacity_of(float factor, Index minimum, Index tokens, Index top_k, Index experts) {
  MoeConfig config;
  config.capacity.factor = factor;
  config.capacity.minimum = minimum;
  config.router.top_k = top_k;
  config.router.experts = experts;
  return expert_capacity(config, tokens, true);
}

TEST(Capacity, Formula) {
  EXPECT_EQ(capacity_of(0.0F, 4, 100, 2, 8), -1);
  EXPECT_EQ(capacity_of(1.0F, 1, 64, 2, 8), 16);
  EXPECT_EQ(capacity_of(1.0F, 1, 65, 2, 8), 17);   // 16.25
  EXPECT_EQ(capacity_of(1.25F, 1, 64, 2, 8), 20);  // exactly 20
  EXPECT_EQ(capacity_of(1.1F, 1, 80, 1, 8), 11);   // 1.1 has no exact float32
  EXPECT_EQ(capacity_of(0.1F, 1, 80, 1, 8), 1);
  EXPECT_EQ(capacity_of(0.5F, 4, 8, 1, 8), 4);       // the minimum
  EXPECT_EQ(capacity_of(1.0F, 3, 0, 2, 8), 3);       // no tokens
  EXPECT_EQ(capacity_of(1e30F, 1, 100, 2, 8), 100);  // all tokens
}

}  // namespace
}  // namespace switchyard::moe
