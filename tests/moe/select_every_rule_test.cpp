// What holds for every selection rule, also those to come.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "layer_fixture.hpp"
#include "selection_case.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::moe {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<SelectionRule> choosing_rules() {
  std::vector<SelectionRule> rules;
  for (const SelectionRule& rule : selection_rules())
    if (!rule.mixes) rules.push_back(rule);
  return rules;
}

class EveryRule : public testing::TestWithParam<SelectionRule> {
 protected:
  std::string rule() const { return std::string(GetParam().name); }
  RouterConfig router(Index experts, Index top_k) const { return router_for(rule(), experts, top_k); }
  static void check(const RouterConfig& router) {
    MoeConfig config;
    config.router = router;
    config.expert.hidden = 1;
    config.validate("test");
  }
};

TEST_P(EveryRule, YieldsDistinctExpertsAndNoneForPadding) {
  for (const Index experts : {1, 2, 3, 8, 16})
    for (Index k = 1; k <= experts; k += k < 3 ? 1 : 5)
      for (const Index tokens : {0, 1, 33})
        for (const bool training : {false, true}) {
          const RouterConfig config = router(experts, k);
          if (rule() == "gshard" && experts < 2) continue;
          SCOPED_TRACE(testing::Message() << "E=" << experts << " K=" << k << " T=" << tokens << " " << training);
          ASSERT_NO_THROW(check(config));
          SelectionCase c = random_case(config, tokens, 5, true);
          c.training = training;
          const Assignments list = c.run();
          ASSERT_EQ(static_cast<Index>(list.offset_T1.size()), tokens + 1);
          for (Index t = 0; t < tokens; ++t) {
            const std::vector<Index> chosen = experts_of(list, t);
            EXPECT_TRUE(c.valid(t) || chosen.empty());
            EXPECT_EQ(std::set<Index>(chosen.begin(), chosen.end()).size(), chosen.size());
            for (const Index e : chosen) EXPECT_TRUE(e >= 0 && e < experts);
          }
          EXPECT_EQ(list.score_A.size(), list.expert_A.size());
          EXPECT_EQ(list.dropped_A.size(), list.expert_A.size());
          EXPECT_EQ(list.weight_A.size(), list.expert_A.size());
        }
}

TEST_P(EveryRule, NanAndInfiniteLogitsDoNoHarm) {
  for (const float odd : {kNan, INFINITY, -INFINITY})
    for (const bool training : {false, true}) {
      SelectionCase c = random_case(router(8, 2), 40, 6);
      const SelectionCase clean = c;
      c.training = training;
      for (const std::size_t at : {3U, 8U, 9U, 10U, 11U, 12U, 13U, 14U, 15U}) c.logits_TR[at] = odd;
      for (Index e = 0; e < 8; ++e)
        c.scores_TE[static_cast<std::size_t>(e)] = c.scores_TE[8 + static_cast<std::size_t>(e)] = odd;
      const Assignments list = c.run();
      for (Index t = 0; t < c.tokens; ++t)
        for (const Index e : experts_of(list, t)) EXPECT_TRUE(e >= 0 && e < 8);
      for (Index t = 2; t < c.tokens; ++t)
        for (auto a = list.offset_T1[static_cast<std::size_t>(t)]; a < list.offset_T1[static_cast<std::size_t>(t) + 1];
             ++a)
          EXPECT_TRUE(std::isfinite(list.score_A[static_cast<std::size_t>(a)])) << "token " << t;
    }
}

TEST_P(EveryRule, ForwardAndBackwardHaveTheSameBitsAtAnyNumberOfThreads) {
  MoeConfig config;
  config.router = router(8, 2);
  config.expert.hidden = 4;
  config.balance.load_balance = 0.1F;
  TestLayer layer(config, 700, 6);
  layer.valid_T = some_padding(layer.tokens, 3);
  const SelectionCase ids = random_case(config.router, layer.tokens, 4, false);
  std::vector<float> y, gradients;
  for (const int threads : {1, 3}) {
    ThreadArena(threads).run([&] {
      MoeCall call = layer.call();
      call.token_id_T = ids.token_id_T;
      call.replayed = &ids.replayed;
      call.sequence = 100;
      TestLayer::Forward forward = layer.forward(call);
      TestGradients found(layer);
      found.run(layer, forward.saved);
      if (threads == 1) {
        y = forward.y_TD;
        gradients = found.all();
        for (const float g : gradients) ASSERT_TRUE(std::isfinite(g));
      }
      EXPECT_TRUE(oracle::same_bits(forward.y_TD, y));
      EXPECT_TRUE(oracle::same_bits(found.all(), gradients));
    });
  }
}

// With one expert that everybody likes best, and others that nobody does.
TEST_P(EveryRule, AllToOneExpertAndEmptyExperts) {
  MoeConfig config;
  config.router = router(8, 2);
  config.expert.hidden = 4;
  TestLayer layer(config, 30, 6);
  std::fill(layer.router_ED.begin(), layer.router_ED.end(), 0.0F);
  for (Index t = 0; t < layer.tokens; ++t) layer.x_TD[static_cast<std::size_t>(t * 6)] = 1.0F;
  layer.router_ED[0] = 20.0F;  // logit 20 for expert 0, or its whole branch
  const SelectionCase ids = random_case(config.router, layer.tokens, 4, false);
  MoeCall call = layer.call();
  call.token_id_T = ids.token_id_T;
  call.replayed = &ids.replayed;
  TestLayer::Forward forward = layer.forward(call);
  TestGradients found(layer);
  found.run(layer, forward.saved);
  for (const float g : found.all()) EXPECT_TRUE(std::isfinite(g));
  for (const float y : forward.y_TD) EXPECT_TRUE(std::isfinite(y));
}

INSTANTIATE_TEST_SUITE_P(Select, EveryRule, testing::ValuesIn(choosing_rules()), [](const auto& instance) {
  std::string name(instance.param.name);
  std::erase(name, '-');
  return name;
});

TEST(Select, OnlyExpertChoiceAndMixingAreNotCausal) {
  for (const SelectionRule& rule : selection_rules())
    EXPECT_EQ(rule.causal, rule.name != "expert-choice" && !rule.mixes) << rule.name;
}

// What `causal` promises, of the rules outside training: what comes after a token does not change its experts.
TEST_P(EveryRule, CausalRulesDoNotLookAhead) {
  SelectionCase c = random_case(router(8, 2), 24, 7);
  c.training = false;
  const Assignments whole = c.run();
  SelectionCase start = c;
  start.tokens = 9;
  start.logits_TR.resize(c.logits_TR.size() / 24 * 9);
  start.scores_TE.resize(9 * 8);
  start.token_id_T.resize(9);
  start.replayed = select("top-k", start.scores_TE, 8, 1);
  const Assignments part = start.run();
  bool same = true;
  for (Index t = 0; t < 9; ++t) same = same && experts_of(part, t) == experts_of(whole, t);
  EXPECT_EQ(same, GetParam().causal);
}

}  // namespace
}  // namespace switchyard::moe
