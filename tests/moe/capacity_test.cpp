#include "switchyard/moe/capacity.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "oracle/balance.hpp"
#include "support.hpp"
#include "switchyard/moe/weights.hpp"

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
TEST(Capacity, RulesAgreeWithTheOracle) {
  for (const DropRule& rule : drop_rules()) {
    if (rule.name == "random") continue;
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
            if (rule.name == "probs" || rule.name == "position") {
              oracle::drop_over_capacity(std::string(rule.name), capacity, experts, expected);
            } else {
              oracle::drop_in_order(std::string(rule.name), capacity, experts, expected);
            }
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

TEST(Capacity, EveryFormulaAgreesWithWholeNumbers) {
  for (const CapacityFormula& formula : capacity_formulas())
    for (const Index experts : {1, 2, 3, 7, 8, 64, 160, 256})
      for (const Index tokens : {0, 1, 2, 9, 63, 64, 100, 1000, 4096, 1000003})
        for (const Index k : {1, 2, 6})
          for (const Index hundredths : {10, 50, 70, 100, 105, 110, 125, 130, 200, 233}) {
            if (k > experts) continue;
            SCOPED_TRACE(testing::Message() << formula.name << " E=" << experts << " T=" << tokens << " K=" << k
                                            << " f=" << hundredths << "/100");
            MoeConfig config;
            config.capacity.factor = static_cast<float>(hundredths) / 100.0F;
            config.capacity.formula = std::string(formula.name);
            config.capacity.minimum = 0;
            config.router.top_k = k;
            config.router.experts = experts;
            const Index bounded = std::min(hundredths, 100 * experts);
            const Index expected = oracle::capacity(config.capacity.formula, bounded, 100, tokens, experts, k);
            ASSERT_EQ(expert_capacity(config, tokens, true), std::min(expected, tokens));
          }
}

// By hand, from the libraries' sources.
TEST(Capacity, FormulasOfTheLibraries) {
  const auto of = [](const char* formula, float factor, Index minimum, Index tokens, Index experts, Index k) {
    MoeConfig config;
    config.capacity.factor = factor;
    config.capacity.minimum = minimum;
    config.capacity.formula = formula;
    config.router.top_k = k;
    config.router.experts = experts;
    return expert_capacity(config, tokens, true);
  };
  EXPECT_EQ(of("deepspeed", 1.25F, 4, 100, 16, 2), 16);  // ceil(15.625)
  EXPECT_EQ(of("deepspeed", 1.0F, 4, 10, 16, 1), 4);     // the minimum
  EXPECT_EQ(of("tutel", 1.0F, 0, 100, 16, 2), 14);       // 2 floor(7)
  EXPECT_EQ(of("tutel", 1.3F, 0, 100, 10, 2), 26);       // 2 floor(13)
  EXPECT_EQ(of("fairscale", 9.0F, 0, 100, 16, 2), 12);   // floor(12.5)
  EXPECT_EQ(of("mesh", 1.25F, 4, 1024, 64, 2), 20);      // floor(20)
  EXPECT_EQ(of("mesh", 1.25F, 4, 100, 64, 2), 4);        // floor(1.95), the minimum
  EXPECT_EQ(of("flaxformer", 1.25F, 0, 10, 5, 1), 2);    // 2.5 to even
  EXPECT_EQ(of("flaxformer", 0.7F, 0, 25, 5, 1), 4);     // 3.5 to even
  EXPECT_EQ(of("flaxformer", 1.25F, 0, 4096, 32, 1), 160);
}

TEST(Capacity, RanksGoBeforePositions) {
  // Token 0 has expert 0 second, tokens 1 and 2 have it first.
  const std::vector<float> scores_TE = {0.5F, 0.75F, 0.9F, 0.1F, 0.6F, 0.2F};
  Assignments list = weighed_list(scores_TE, 2, 2);
  drop("position-by-rank", 1, list);
  EXPECT_THAT(list.expert_A, ElementsAre(1, 0, 0, 1, 0, 1));
  EXPECT_THAT(list.dropped_A, ElementsAre(0, 1, 0, 1, 1, 1));
  // By the best score of a token: 0.9, 0.75, 0.6.
  list = weighed_list({0.5F, 0.75F, 0.6F, 0.2F, 0.9F, 0.1F}, 2, 2);
  drop("batch-priority", 1, list);
  EXPECT_THAT(list.dropped_A, ElementsAre(0, 1, 1, 1, 0, 1));
}

TEST(Capacity, RandomDropsKeepEachAlikeAndDependOnTheStreamAlone) {
  MoeConfig config;
  config.router.experts = 1;
  const std::vector<float> scores_TE(10, 0.5F);
  std::vector<int> kept(10);
  std::set<std::vector<int>> seen;
  constexpr int kTries = 4000;
  for (int seed = 0; seed < kTries; ++seed) {
    const CapacityInput input{.config = config,
                              .scores_TE = {},
                              .valid_T = {},
                              .sequence = 0,
                              .random = RandomStream(static_cast<std::uint64_t>(seed), RandomPurpose::kTest)};
    Assignments list = weighed_list(scores_TE, 1, 1), again = list;
    for (const DropRule& rule : drop_rules()) {
      if (rule.name != "random") continue;
      rule.apply(3, 0, list.size(), input, list);
      rule.apply(3, 0, again.size(), input, again);
    }
    ASSERT_THAT(list.dropped_A, testing::ElementsAreArray(again.dropped_A));
    ASSERT_EQ(make_dispatch_plan(list).slots(), 3);
    seen.emplace(list.dropped_A.begin(), list.dropped_A.end());
    for (std::size_t a = 0; a < 10; ++a) kept[a] += list.dropped_A[a] == 0 ? 1 : 0;
  }
  EXPECT_EQ(seen.size(), 120U);  // 10 over 3
  // A binomial's deviation is 29.
  for (const int count : kept) EXPECT_NEAR(count, 0.3 * kTries, 150.0);
}

// A config of 4 experts, top 2, whose experts take `factor` times the even share.
MoeConfig overflowing(const char* overflow, float factor = 0.5F) {
  MoeConfig config;
  config.router.experts = 4;
  config.router.top_k = 2;
  config.router.normalise = "sum";
  config.capacity.factor = factor;
  config.capacity.minimum = 0;
  config.capacity.overflow = overflow;
  return config;
}

Assignments after_capacity(const MoeConfig& config, const std::vector<float>& scores_TE, Index sequence = 0,
                           const std::vector<std::uint8_t>& valid_T = {}) {
  Assignments list = select("top-k", scores_TE, config.router.experts, config.router.top_k, {}, valid_T);
  find_weight_rule(config.router.normalise).forward(config.router, list);
  apply_capacity({.config = config,
                  .scores_TE = matrix_of(scores_TE, config.router.experts),
                  .valid_T = valid_T,
                  .sequence = sequence,
                  .random = RandomStream(1, RandomPurpose::kCapacity)},
                 list);
  return list;
}

std::vector<float> positive_values(Index count, std::uint32_t seed) {
  std::vector<float> values = oracle::random_values(count, seed);
  for (float& value : values) value = 1.0F / (1.0F + std::exp(-value));
  return values;
}

TEST(Overflow, EachSequenceHasItsOwnCapacity) {
  MoeConfig config = overflowing("drop");
  config.capacity.drop = "position";
  for (const Index tokens : {0, 1, 4, 7, 12, 30})
    for (const Index sequence : {1, 4, 5}) {
      SCOPED_TRACE(testing::Message() << "T=" << tokens << " sequence " << sequence);
      const std::vector<float> scores_TE = positive_values(tokens * 4, 1);
      config.capacity.scope = "sequence";
      const Assignments parts = after_capacity(config, scores_TE, sequence);
      config.capacity.scope = "batch";
      std::vector<int> dropped;
      for (Index t = 0; t < tokens; t += sequence) {
        const auto begin = scores_TE.begin() + t * 4;
        const Assignments alone = after_capacity(config, {begin, begin + 4 * std::min(sequence, tokens - t)});
        dropped.insert(dropped.end(), alone.dropped_A.begin(), alone.dropped_A.end());
      }
      EXPECT_THAT(parts.dropped_A, testing::ElementsAreArray(dropped));
    }
}

TEST(Overflow, PaddingMakesNoRoom) {
  const std::vector<std::uint8_t> valid_T = {1, 0, 0, 0, 1, 0, 1, 1};
  const Assignments list = after_capacity(overflowing("drop", 0.5F), positive_values(32, 2), 0, valid_T);
  const DispatchPlan plan = make_dispatch_plan(list);
  for (Index e = 0; e < 4; ++e) EXPECT_LE(plan.load(e), 1);  // ceil(4 * 2 / 4 * 0.5)
}

TEST(Overflow, ScaleKeepsAllWithLess) {
  MoeConfig config = overflowing("scale");
  config.capacity.overflow_scale = 0.25F;
  const std::vector<float> scores_TE = positive_values(40, 3);
  const Assignments list = after_capacity(config, scores_TE);
  config.capacity.overflow = "drop";
  const Assignments dropped = after_capacity(config, scores_TE);
  config.capacity.factor = 0.0F;
  const Assignments whole = after_capacity(config, scores_TE);
  int over = 0;
  for (std::size_t a = 0; a < 20; ++a) {
    EXPECT_EQ(list.dropped_A[a], 0);
    EXPECT_EQ(list.weight_A[a], whole.weight_A[a] * (dropped.dropped_A[a] != 0 ? 0.25F : 1.0F));
    over += dropped.dropped_A[a];
  }
  EXPECT_GT(over, 4);
  EXPECT_EQ(list.rerouted, 0);
}

TEST(Overflow, RerouteAgreesWithTheOracle) {
  for (const Index experts : {1, 2, 5, 8})
    for (const Index tokens : {0, 1, 7, 33})
      for (const Index k : {Index{1}, (experts + 1) / 2, experts})
        for (const float factor : {0.4F, 1.0F, 1.5F}) {
          SCOPED_TRACE(testing::Message() << "E=" << experts << " T=" << tokens << " K=" << k << " f=" << factor);
          MoeConfig config = overflowing("reroute", factor);
          config.router.experts = experts;
          config.router.top_k = k;
          const std::vector<float> scores_TE = positive_values(tokens * experts, 4);
          const Assignments list = after_capacity(config, scores_TE);
          const Index capacity = expert_capacity(config, tokens, true);

          std::vector<oracle::MoeChoice> expected =
              oracle::top_k_choices(oracle::to_double(scores_TE), {}, experts, k, {});
          oracle::drop_over_capacity("probs", capacity, experts, expected);
          oracle::reroute(capacity, oracle::to_double(scores_TE), experts, expected);
          oracle::weigh("sum", 1.0, expected);
          const std::vector<oracle::MoeChoice> found = choices_of(list);
          Index rerouted = 0;
          for (std::size_t a = 0; a < found.size(); ++a) {
            ASSERT_EQ(found[a].expert, expected[a].expert) << a;
            ASSERT_EQ(found[a].dropped, expected[a].dropped) << a;
            ASSERT_NEAR(found[a].weight, expected[a].dropped ? 0.0 : expected[a].weight, 1e-6) << a;
            rerouted += expected[a].chosen >= 0 ? 1 : 0;
          }
          EXPECT_EQ(list.rerouted, rerouted);
          const DispatchPlan plan = make_dispatch_plan(list);
          for (Index e = 0; e < experts; ++e) EXPECT_LE(plan.load(e), capacity);
        }
}

TEST(Overflow, RerouteOfEverythingToOneExpertFillsTheOthersInTurn) {
  MoeConfig config = overflowing("reroute", 1.0F);
  config.router.top_k = 1;
  std::vector<float> scores_TE;
  for (int t = 0; t < 8; ++t) scores_TE.insert(scores_TE.end(), {0.9F, 0.4F, 0.6F, 0.5F});
  const Assignments list = after_capacity(config, scores_TE);
  EXPECT_THAT(list.expert_A, ElementsAre(0, 0, 2, 2, 3, 3, 1, 1));
  EXPECT_THAT(list.choices(), testing::Each(0));
  EXPECT_EQ(list.rerouted, 6);
}

TEST(Overflow, NoRoomAnywhereIsADrop) {
  MoeConfig config = overflowing("reroute", 0.01F);
  config.capacity.formula = "mesh";  // rounds down, to 0
  const Assignments list = after_capacity(config, positive_values(40, 5));
  EXPECT_THAT(list.dropped_A, testing::Each(1));
  EXPECT_EQ(list.rerouted, 0);
  EXPECT_THAT(list.weight_A, testing::Each(0.0F));
}

TEST(Overflow, ANamedExpertTakesAllThatIsOver) {
  MoeConfig config = overflowing("fallback", 0.5F);
  config.router.top_k = 1;
  config.capacity.fallback_expert = 1;
  std::vector<float> scores_TE;
  for (int t = 0; t < 8; ++t) scores_TE.insert(scores_TE.end(), {0.9F, 0.4F, 0.6F, 0.5F});
  scores_TE.insert(scores_TE.end(), {0.1F, 0.4F, 0.2F, 0.2F, 0.1F, 0.4F, 0.2F, 0.2F, 0.1F, 0.4F, 0.2F, 0.2F});
  const Assignments list = after_capacity(config, scores_TE);  // two each
  EXPECT_THAT(list.expert_A, ElementsAre(0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1));
  EXPECT_THAT(list.dropped_A, testing::Each(0));
  EXPECT_EQ(list.rerouted, 6);
  // A token that has the fallback expert already gets it once.
  config.router.top_k = 2;
  config.router.normalise = "none";
  const Assignments two = after_capacity(config, {0.9F, 0.8F, 0.1F, 0.1F, 0.9F, 0.8F, 0.1F, 0.1F});
  EXPECT_THAT(two.expert_A, ElementsAre(0, 1, 0, 1));
  EXPECT_THAT(two.dropped_A, ElementsAre(0, 0, 1, 0));
}

TEST(Overflow, TheSharedExpertGetsTheWeight) {
  MoeConfig config = overflowing("fallback", 0.5F);
  const std::vector<float> scores_TE = positive_values(40, 6);
  const Assignments list = after_capacity(config, scores_TE);
  config.capacity.overflow = "drop";
  const Assignments dropped = after_capacity(config, scores_TE);
  EXPECT_THAT(list.dropped_A, testing::ElementsAreArray(dropped.dropped_A));
  EXPECT_EQ(list.weight_A, dropped.weight_A);
  ASSERT_EQ(list.fallback_T.size(), 10U);
  for (std::size_t t = 0; t < 10; ++t)  // weights of a token sum to 1
    EXPECT_NEAR(list.fallback_T[t] + list.weight_A[2 * t] + list.weight_A[2 * t + 1], 1.0F, 1e-6F);
  EXPECT_EQ(list.rerouted, std::count(list.dropped_A.begin(), list.dropped_A.end(), 1));
}

TEST(Overflow, ExpertDropoutIsNotOverflow) {
  for (const char* overflow : {"scale", "reroute", "fallback"}) {
    SCOPED_TRACE(overflow);
    MoeConfig config = overflowing(overflow, 4.0F);  // room for all
    config.router.expert_dropout = 0.5F;
    const Assignments list = after_capacity(config, positive_values(400, 7));
    const auto dropped = std::count(list.dropped_A.begin(), list.dropped_A.end(), 1);
    EXPECT_GT(dropped, 60);
    EXPECT_LT(dropped, 140);
    EXPECT_EQ(list.rerouted, 0);
    for (const float fallback : list.fallback_T) EXPECT_EQ(fallback, 0.0F);
  }
}

TEST(Overflow, RenormalisedSurvivorsShareTheWhole) {
  MoeConfig config = overflowing("drop");
  config.capacity.renormalise = true;
  const Assignments list = after_capacity(config, positive_values(40, 8));
  int lone = 0;
  for (std::size_t t = 0; t < 10; ++t) {
    const bool first = list.dropped_A[2 * t] == 0, second = list.dropped_A[2 * t + 1] == 0;
    EXPECT_NEAR(list.weight_A[2 * t] + list.weight_A[2 * t + 1], first || second ? 1.0F : 0.0F, 1e-6F);
    lone += first != second ? 1 : 0;
  }
  EXPECT_GT(lone, 0);
}

TEST(Overflow, EvaluationHasItsOwnFactor) {
  MoeConfig config = overflowing("drop");
  EXPECT_EQ(expert_capacity(config, 8, false), -1);
  config.capacity.evaluation_factor = 2.0F;
  EXPECT_EQ(expert_capacity(config, 8, false), 8);
  EXPECT_EQ(expert_capacity(config, 8, true), 2);
}

}  // namespace
}  // namespace switchyard::moe
