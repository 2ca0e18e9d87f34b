// Selection rules against the oracle; top-k and sparse-mixer have files of their own.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "layer_fixture.hpp"
#include "oracle/routing.hpp"
#include "selection_case.hpp"

namespace switchyard::moe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// ---- group-limited

TEST(SelectGroupLimited, AgreesWithTheOracleIncludingTies) {
  for (const std::string kind : {"max", "top-2-sum", "top-share"})
    for (const auto& [experts, groups, kept, k] :
         {std::array<Index, 4>{8, 4, 2, 3}, std::array<Index, 4>{8, 1, 1, 8}, std::array<Index, 4>{6, 3, 3, 6},
          std::array<Index, 4>{64, 8, 4, 8}, std::array<Index, 4>{30, 5, 2, 7}, std::array<Index, 4>{256, 8, 4, 8}})
      for (const bool biased : {false, true})
        for (const Index tokens : {0, 1, 130}) {
          SCOPED_TRACE(testing::Message() << kind << " E=" << experts << " T=" << tokens << " biased " << biased);
          RouterConfig router = router_for("group-limited", experts, k);
          router.groups = groups;
          router.groups_kept = kept;
          router.group_score = kind;
          const SelectionCase c = coarse_case(router, tokens, 3, biased);
          expect_experts(c, c.run(), [&, groups = groups, kept = kept, k = k](Index t) {
            return oracle::group_limited_experts(c.keys(t), groups, kept, kind, k);
          });
        }
}

// With all biased scores of the best group below zero, masking to 0 would leave it.
TEST(SelectGroupLimited, OtherGroupsAreOutEvenWhereScoresAreNegative) {
  RouterConfig router = router_for("group-limited", 4, 2);
  SelectionCase c = coarse_case(router, 1, 1, false);
  c.choice_TE = {-0.5F, -0.75F, -0.625F, -0.625F};
  EXPECT_EQ(experts_of(c.run(), 0), (std::vector<Index>{0, 1}));
}

// ---- tree

TEST(SelectTree, AgreesWithTheOracle) {
  struct Tree {
    std::vector<Index> levels, keep;
  };
  for (const Tree& tree : {Tree{{8}, {3}}, Tree{{4, 4}, {2, 2}}, Tree{{2, 3, 4}, {1, 2, 3}}, Tree{{2, 2, 2}, {2, 2, 2}},
                           Tree{{1, 5}, {1, 1}}})
    for (const bool biased : {false, true}) {
      RouterConfig router;
      router.select = router.score = "tree";
      router.levels = tree.levels;
      router.level_top_k = tree.keep;
      router.experts = std::accumulate(tree.levels.begin(), tree.levels.end(), Index{1}, std::multiplies<>());
      router.top_k = std::accumulate(tree.keep.begin(), tree.keep.end(), Index{1}, std::multiplies<>());
      const SelectionCase c = coarse_case(router, 50, 8, biased);
      expect_experts(c, c.run(), [&](Index t) { return oracle::tree_experts(c.keys(t), tree.levels, tree.keep); });
    }
}

// From logits, branch by branch.
TEST(SelectTree, FollowsTheLogitsOfEachLevel) {
  RouterConfig router;
  router.select = router.score = "tree";
  router.levels = {2, 3};
  router.level_top_k = {1, 2};
  router.experts = 6;
  SelectionCase c = random_case(router, 1, 1);
  // The second branch, and in it the first and third child, though leaf 1 has the largest logit of all.
  c.logits_TR = {0.0F, 1.0F, /**/ 0.0F, 9.0F, 0.0F, /**/ 3.0F, 1.0F, 2.0F};
  find_score_function("tree").forward(router, matrix_of(c.logits_TR, 8), matrix_of(c.scores_TE, 6));
  EXPECT_EQ(experts_of(c.run(), 0), (std::vector<Index>{3, 5}));
}

// ---- gshard

TEST(SelectGshard, TheSecondIsTakenByItsPolicy) {
  for (const std::string second : {"all", "random", "gshard", "threshold", "none"}) {
    SCOPED_TRACE(second);
    RouterConfig router = router_for("gshard", 8, 2);
    router.second = second;
    router.threshold = 0.3F;
    const SelectionCase c = random_case(router, 300, 9, true);
    const Assignments list = c.run();
    expect_experts(c, list, [&](Index t) { return oracle::top_experts(c.row(c.scores_TE, t).data(), {}, 8, 2); });
    Index taken = 0;
    for (Index t = 0; t < c.tokens; ++t) {
      if (!c.valid(t)) continue;
      const auto first = static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t)]);
      const double g1 = static_cast<double>(list.score_A[first]), g2 = static_cast<double>(list.score_A[first + 1]);
      const double share = g2 / (g1 + g2 + 1e-9);
      const auto u = static_cast<double>(c.random().uniform(static_cast<std::uint64_t>(t)));
      const bool wanted = second == "all" || (second == "random" && u < std::min(1.0, share / 0.3)) ||
                          (second == "gshard" && 2.0 * share > u) || (second == "threshold" && share > 0.3);
      EXPECT_EQ(list.dropped_A[first], 0);
      EXPECT_EQ(list.dropped_A[first + 1] == 0, wanted) << "token " << t;
      taken += wanted ? 1 : 0;
    }
    EXPECT_TRUE(second == "all" || second == "none" || (taken > 20 && taken < 200)) << taken;  // both ways happen
  }
}

// mesh-tensorflow divides by both gates before it knows who is refused, and never after.
TEST(SelectGshard, TheFirstsWeightDoesNotDependOnTheSecondsFate) {
  for (const std::string second : {"all", "none"}) {
    MoeConfig config;
    config.router = router_for("gshard", 4, 2);
    config.router.second = second;
    config.router.normalise = "sum";
    config.expert.hidden = 4;
    const TestLayer layer(config, 5, 6);
    const TestLayer::Forward forward = layer.forward(layer.call());
    const Assignments& list = forward.saved.assignments;
    EXPECT_EQ(forward.saved.plan.slots(), second == "all" ? 10 : 5);
    for (std::size_t t = 0; t < 5; ++t)
      EXPECT_FLOAT_EQ(list.weight_A[2 * t], list.score_A[2 * t] / (list.score_A[2 * t] + list.score_A[2 * t + 1]));
  }
}

TEST(SelectGshard, GumbelSamplesTheSecondByTheOthersProbabilities) {
  RouterConfig router = router_for("gshard", 3, 2);
  router.second = "gumbel";
  SelectionCase c = random_case(router, 20000, 1);
  for (Index t = 0; t < c.tokens; ++t)
    for (Index e = 0; e < 3; ++e)
      c.logits_TR[static_cast<std::size_t>(3 * t + e)] = e == 1 ? 2.0F : e == 0 ? 1.0F : 0.0F;
  find_score_function("softmax").forward(router, matrix_of(c.logits_TR, 3), matrix_of(c.scores_TE, 3));
  const Assignments list = c.run();
  double zeros = 0.0;
  for (Index t = 0; t < c.tokens; ++t) {
    const std::vector<Index> chosen = experts_of(list, t);
    ASSERT_EQ(chosen[0], 1);
    ASSERT_NE(chosen[1], 1);
    zeros += chosen[1] == 0 ? 1.0 : 0.0;
  }
  // e / (e + 1), within five standard deviations of a mean of 20000.
  EXPECT_NEAR(zeros / 20000.0, std::exp(1.0) / (std::exp(1.0) + 1.0), 5.0 * 0.45 / std::sqrt(20000.0));
}

// ---- hash

TEST(SelectHash, OneIdAlwaysGoesToTheSameExperts) {
  for (const std::string rule : {"hash", "hash-gated"}) {
    RouterConfig router = router_for(rule, 8, 3);
    const SelectionCase c = random_case(router, 400, 2);
    const Assignments list = c.run();
    std::map<std::int32_t, std::vector<Index>> of_id;
    for (Index t = 0; t < c.tokens; ++t) {
      const auto [entry, added] = of_id.try_emplace(c.token_id_T[static_cast<std::size_t>(t)], experts_of(list, t));
      EXPECT_EQ(entry->second, experts_of(list, t));
    }
    std::set<std::vector<Index>> different;
    for (const auto& [id, experts] : of_id) different.insert(experts);
    EXPECT_GT(different.size(), 30U);  // of 50 ids
    SelectionCase other = c;
    other.router.hash_seed = 1;
    EXPECT_NE(other.run().expert_A, list.expert_A);
    other = c;
    other.seed = 77;  // of the router's stream: the table is not drawn from it
    other.router.top_k = 1;
    const Assignments first = other.run();
    for (Index t = 0; t < c.tokens; ++t) EXPECT_EQ(experts_of(first, t)[0], experts_of(list, t)[0]);
    for (std::size_t a = 0; a < list.score_A.size(); ++a) {
      const std::size_t at = a / 3 * 8 + static_cast<std::size_t>(list.expert_A[a]);
      EXPECT_EQ(list.score_A[a], rule == "hash" ? 1.0F : c.scores_TE[at]);
    }
  }
}

TEST(SelectHash, TheTableIsUniform) {
  SelectionCase c = random_case(router_for("hash", 8, 2), 40000, 3);
  for (Index t = 0; t < c.tokens; ++t) c.token_id_T[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(t);
  const Assignments list = c.run();
  for (const std::size_t rank : {0U, 1U}) {
    std::vector<double> count_E(8, 0.0);
    for (std::size_t a = rank; a < list.expert_A.size(); a += 2)
      count_E[static_cast<std::size_t>(list.expert_A[a])] += 1.0;
    // Five standard deviations of a count of mean 5000.
    for (const double count : count_E) EXPECT_NEAR(count, 5000.0, 5.0 * std::sqrt(5000.0));
  }
}

TEST(SelectHash, AsksForIds) {
  SelectionCase c = random_case(router_for("hash", 8, 2), 4, 3);
  c.token_id_T.clear();
  EXPECT_EQ(error_of(ErrorKind::kBadInput, [&] { c.run(); }),
            "router.select 'hash' goes by token ids: 0 were given for 4 tokens");
}

TEST(SelectHash, GivesTheRouterNoGradient) {
  for (const std::string rule : {"hash", "hash-gated"}) {
    MoeConfig config;
    config.router = router_for(rule, 8, 2);
    config.expert.hidden = 4;
    const TestLayer layer(config, 20, 6);
    const SelectionCase ids = random_case(config.router, 20, 1);
    MoeCall call = layer.call();
    call.token_id_T = ids.token_id_T;
    TestLayer::Forward forward = layer.forward(call);
    TestGradients found(layer);
    found.run(layer, forward.saved);
    EXPECT_EQ(oracle::max_abs(found.router_ED) == 0.0, rule == "hash");
  }
}

// ---- expert choice

TEST(SelectExpertChoice, AgreesWithTheOracleIncludingTies) {
  for (const Index experts : {1, 2, 5, 16})
    for (const Index k : {1, 2, 5})
      for (const Index tokens : {0, 1, 3, 40, 131})
        for (const Index sequence : {0, 1, 10, 64}) {
          if (k > experts) continue;
          SCOPED_TRACE(testing::Message() << "E=" << experts << " K=" << k << " T=" << tokens << " S=" << sequence);
          SelectionCase c = coarse_case(router_for("expert-choice", experts, k), tokens, 4, tokens > 3);
          c.sequence = sequence;
          oracle::Values key_TE;
          for (Index t = 0; t < tokens; ++t)
            for (const double key : c.keys(t)) key_TE.push_back(key);
          const auto expected = oracle::expert_choice(key_TE, experts, k, c.valid_T, sequence);
          expect_experts(c, c.run(), [&](Index t) { return expected[static_cast<std::size_t>(t)]; });
        }
}

// ---- sinkhorn and base

TEST(SelectSinkhorn, AgreesWithTheOracleAndBalances) {
  for (const Index experts : {1, 3, 8})
    for (const Index k : {1, 2})
      for (const Index tokens : {1, 40, 1000}) {
        if (k > experts) continue;
        SelectionCase c = random_case(router_for("sinkhorn", experts, k), tokens, 5);
        // One expert that all like much better.
        for (Index t = 0; t < tokens; ++t) c.logits_TR[static_cast<std::size_t>(t * experts)] += 3.0F;
        const oracle::Values key_TE = oracle::sinkhorn(oracle::to_double(c.logits_TR), experts);
        const Assignments list = c.run();
        expect_experts(c, list,
                       [&](Index t) { return oracle::top_experts(key_TE.data() + t * experts, {}, experts, k); });
        if (tokens == 1000 && k == 1) {
          std::vector<Index> load_E(static_cast<std::size_t>(experts));
          for (const std::int32_t e : list.expert_A) ++load_E[static_cast<std::size_t>(e)];
          for (const Index load : load_E) EXPECT_LT(load, 2 * tokens / experts + 1);
        }
        c.training = false;
        expect_experts(c, c.run(),
                       [&](Index t) { return oracle::top_experts(c.row(c.logits_TR, t).data(), {}, experts, k); });
      }
}

TEST(SelectSinkhorn, PaddingDoesNotCount) {
  SelectionCase c = random_case(router_for("sinkhorn", 4, 1), 60, 6);
  const Assignments alone = c.run();
  SelectionCase padded = c;
  padded.tokens = 90;
  padded.logits_TR.resize(90 * 4, 7.0F);
  padded.scores_TE.resize(90 * 4, 0.25F);
  padded.valid_T.assign(60, 1);
  padded.valid_T.resize(90, 0);
  EXPECT_EQ(padded.run().expert_A, alone.expert_A);
}

TEST(SelectBase, IsBalancedAndNearTheBestThereIs) {
  for (const Index experts : {1, 2, 3, 4})
    for (const Index tokens : {1, 2, 7, 12})
      for (std::uint32_t seed = 0; seed < 6; ++seed) {
        SCOPED_TRACE(testing::Message() << "E=" << experts << " T=" << tokens << " seed " << seed);
        SelectionCase c = random_case(router_for("base", experts, 1), tokens, seed);
        if (seed == 5)  // everybody agrees
          for (Index i = 0; i < tokens * experts; ++i)
            c.logits_TR[static_cast<std::size_t>(i)] = static_cast<float>(i % experts);
        const Index room = (tokens + experts - 1) / experts;
        const Assignments list = c.run();
        std::vector<Index> load_E(static_cast<std::size_t>(experts));
        double sum = 0.0;
        for (Index t = 0; t < tokens; ++t) {
          const Index e = experts_of(list, t).at(0);
          ++load_E[static_cast<std::size_t>(e)];
          sum += c.row(c.logits_TR, t)[static_cast<std::size_t>(e)];
        }
        for (const Index load : load_E) EXPECT_LE(load, room);
        const oracle::Values value_TE = oracle::to_double(c.logits_TR);
        const auto [least, most] = std::minmax_element(value_TE.begin(), value_TE.end());
        const double step = std::max(*most - *least, 1e-3) / 256.0;
        EXPECT_GE(sum + static_cast<double>(tokens) * step * 1.001, oracle::best_balanced_sum(value_TE, experts, room));
        c.training = false;
        expect_experts(c, c.run(),
                       [&](Index t) { return oracle::top_experts(c.row(c.logits_TR, t).data(), {}, experts, 1); });
      }
}

TEST(SelectBase, IsBalancedAtAnySize) {
  for (const float common : {0.0F, 10.0F, kNan}) {
    SelectionCase c = random_case(router_for("base", 16, 1), 1000, 8, true);
    for (Index t = 0; t < c.tokens; ++t) c.logits_TR[static_cast<std::size_t>(16 * t + 3)] += common;
    const Assignments list = c.run();
    const auto count = static_cast<Index>(list.expert_A.size());
    std::vector<Index> load_E(16);
    for (const std::int32_t e : list.expert_A) ++load_E[static_cast<std::size_t>(e)];
    for (const Index load : load_E) EXPECT_LE(load, (count + 15) / 16);
  }
}

// ---- dynamic

TEST(SelectTopP, AgreesWithTheOracle) {
  for (const std::string score : {"softmax", "sigmoid", "sqrt-softplus"})
    for (const Index experts : {1, 3, 16})
      for (const float threshold : {0.1F, 0.4F, 0.9F, 1.0F})
        for (const Index most : {Index{1}, std::min<Index>(3, experts), experts}) {
          SCOPED_TRACE(testing::Message() << score << " E=" << experts << " p=" << threshold << " K=" << most);
          RouterConfig router = router_for("top-p", experts, most);
          router.score = score;
          router.threshold = threshold;
          const SelectionCase c = random_case(router, 60, 3, true);
          expect_experts(c, c.run(), [&](Index t) {
            return oracle::top_p_experts(c.row(c.scores_TE, t), static_cast<double>(threshold), most);
          });
        }
}

TEST(SelectThreshold, TakesAllAboveAndAtLeastTheBest) {
  for (const Index most : {1, 3, 8})
    for (const bool biased : {false, true}) {
      RouterConfig router = router_for("threshold", 8, most);
      router.threshold = 0.5F;
      const SelectionCase c = coarse_case(router, 80, 4, biased);
      expect_experts(c, c.run(), [&](Index t) {
        const oracle::Values key_E = c.keys(t);
        const auto above = std::count_if(key_E.begin(), key_E.end(), [](double key) { return key > 0.5; });
        return oracle::top_experts(key_E.data(), {}, 8, std::clamp<Index>(above, 1, most));
      });
    }
}

// ---- forced

TEST(SelectRandom, EveryExpertIsAsLikelyAtEveryRank) {
  const SelectionCase c = random_case(router_for("random", 8, 3), 40000, 3);
  const Assignments list = c.run();
  for (const std::size_t rank : {0U, 1U, 2U}) {
    std::vector<double> count_E(8, 0.0);
    for (std::size_t a = rank; a < list.expert_A.size(); a += 3)
      count_E[static_cast<std::size_t>(list.expert_A[a])] += 1.0;
    for (const double count : count_E) EXPECT_NEAR(count, 5000.0, 5.0 * std::sqrt(5000.0));
  }
}

TEST(SelectRoundRobin, GoesByThePosition) {
  for (const std::string rule : {"round-robin", "uniform"}) {
    const SelectionCase c = random_case(router_for(rule, 5, 2), 4, 3);
    EXPECT_THAT(c.run().expert_A, ElementsAre(0, 1, 2, 3, 4, 0, 1, 2));
  }
}

TEST(SelectReplay, TakesTheExpertsAndTheScoresOfNow) {
  SelectionCase c = random_case(router_for("replay", 8, 3), 20, 3, true);
  c.replayed = select("top-k", oracle::random_values(20 * 8, 9), 8, 3);
  c.replayed.dropped_A.assign(c.replayed.dropped_A.size(), 1);
  const Assignments list = c.run();
  expect_experts(c, list, [&](Index t) { return experts_of(c.replayed, t); });
  for (const std::uint8_t dropped : list.dropped_A) EXPECT_EQ(dropped, 0);
}

TEST(SelectReplay, RefusesWhatDoesNotFit) {
  const SelectionCase good = random_case(router_for("replay", 8, 2), 4, 3);
  const auto message = [&](const std::function<void(SelectionCase&)>& spoil) {
    SelectionCase c = good;
    spoil(c);
    return error_of(ErrorKind::kBadInput, [&] { c.run(); });
  };
  EXPECT_EQ(message([](SelectionCase&) {}), "");
  EXPECT_THAT(message([](SelectionCase& c) { c.replayed.tokens = 5; }),
              HasSubstr("5 tokens and 8 experts: another shape"));
  EXPECT_THAT(message([](SelectionCase& c) { c.replayed.experts = 9; }), HasSubstr("another shape"));
  EXPECT_THAT(message([](SelectionCase& c) { c.replayed.offset_T1.pop_back(); }), HasSubstr("offsets"));
  EXPECT_THAT(message([](SelectionCase& c) { c.replayed.offset_T1[1] = 1000000; }), HasSubstr("offsets that go down"));
  EXPECT_THAT(message([](SelectionCase& c) { c.replayed.expert_A[2] = 8; }), HasSubstr("an expert that is none"));
  EXPECT_THAT(message([](SelectionCase& c) {
                c.replayed.offset_T1 = {0, 2, 2, 3, 4};
                c.replayed.expert_A = {3, 3, 1, 1};
              }),
              HasSubstr("one expert twice"));
  SelectionInput input = good.input();
  input.replayed = nullptr;
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { find_selection_rule("replay").select(good.router, input); }),
              HasSubstr("without a recorded routing"));
}

}  // namespace
}  // namespace switchyard::moe
