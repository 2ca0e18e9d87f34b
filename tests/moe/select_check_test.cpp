// Which configs the rules refuse, and what they say.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "selection_case.hpp"

namespace switchyard::moe {
namespace {

using testing::HasSubstr;

std::string refusal(const std::function<void(MoeConfig&)>& spoil) {
  MoeConfig config;
  config.router.experts = 8;
  config.expert.hidden = 4;
  spoil(config);
  return error_of(ErrorKind::kBadInput, [&] { config.validate("m"); });
}

TEST(SelectCheck, NamesTheReasonAndTheNearestSetting) {
  const auto grouped = [](Index groups, Index kept, Index k, const std::string& score) {
    return refusal([&](MoeConfig& c) {
      c.router = router_for("group-limited", 8, k);
      c.router.groups = groups;
      c.router.groups_kept = kept;
      c.router.group_score = score;
    });
  };
  EXPECT_EQ(grouped(4, 2, 3, "max"), "");
  EXPECT_EQ(grouped(5, 2, 2, "max"), "m.router.groups: 5, expected a divisor of experts (8), such as 4");
  EXPECT_EQ(grouped(4, 1, 3, "max"),
            "m.router.top_k: 3, expected at most the 2 experts of 1 groups of 2, or groups_kept at least 2");
  EXPECT_EQ(grouped(8, 2, 2, "top-2-sum"),
            "m.router.group_score: top-2-sum, expected max, or groups of at least 2 experts");
  EXPECT_EQ(grouped(4, 4, 3, "top-share"),
            "m.router.group_score: top-share, expected max, or top_k at least groups_kept (4)");
  EXPECT_EQ(grouped(4, 2, 2, "mean"), "m.router.group_score: mean, expected one of max, top-2-sum, top-share");

  const auto tree = [](std::vector<Index> levels, std::vector<Index> keep, Index k) {
    return refusal([&](MoeConfig& c) {
      c.router.select = c.router.score = "tree";
      c.router.levels = std::move(levels);
      c.router.level_top_k = std::move(keep);
      c.router.top_k = k;
    });
  };
  EXPECT_EQ(tree({2, 4}, {1, 2}, 2), "");
  EXPECT_THAT(tree({}, {}, 2), HasSubstr("m.router.levels: empty, expected branches whose product is experts (8)"));
  EXPECT_EQ(
      tree({2, 3}, {1, 2}, 2),
      "m.router.levels: branches for 6 leaves, expected branches whose product is experts (8), such as 4 branches "
      "at the last level");
  EXPECT_THAT(tree({3, 3}, {1, 2}, 2), HasSubstr("such as levels = [8]"));
  EXPECT_THAT(tree({2, 0}, {1, 2}, 2), HasSubstr("m.router.levels: 0, expected 1 to experts (8) branches"));
  EXPECT_THAT(tree(std::vector<Index>(60, 8), {1, 2}, 2), HasSubstr("expected branches whose product is experts (8)"));
  EXPECT_EQ(tree({2, 4}, {1}, 2), "m.router.level_top_k: 1 levels, expected one number for each of the 2 levels");
  EXPECT_EQ(tree({2, 4}, {3, 1}, 3), "m.router.level_top_k: 3, expected 1 to the 2 branches of level 0");
  EXPECT_EQ(tree({2, 4}, {2, 2}, 2), "m.router.top_k: 2, expected 4, the product of level_top_k");

  const auto rule = [](const std::string& name, Index k, const std::function<void(MoeConfig&)>& spoil) {
    return refusal([&](MoeConfig& c) {
      c.router = router_for(name, 8, k);
      spoil(c);
    });
  };
  EXPECT_EQ(rule("gshard", 2, [](MoeConfig& c) { c.router.top_k = 3; }),
            "m.router.top_k: 3, expected 2 with select \"gshard\"");
  EXPECT_EQ(rule("gshard", 2, [](MoeConfig& c) { c.router.second = "dice"; }),
            "m.router.second: dice, expected one of all, random, gshard, threshold, none, gumbel");
  EXPECT_THAT(rule("gshard", 2, [](MoeConfig& c) { c.router.score = "logits"; }), HasSubstr("m.router.score: logits"));
  EXPECT_EQ(rule("base", 1, [](MoeConfig& c) { c.router.top_k = 2; }),
            "m.router.top_k: 2, expected 1 with select \"base\"");
  EXPECT_THAT(rule("top-p", 2, [](MoeConfig& c) { c.router.threshold = 1.5F; }),
              HasSubstr("m.router.threshold: 1.5, expected above 0 and at most 1"));
  EXPECT_THAT(rule("top-p", 2, [](MoeConfig& c) { c.router.score = "logits"; }), HasSubstr("m.router.score: logits"));
  for (const std::string name : {"sinkhorn", "base", "sparse-mixer"})
    EXPECT_THAT(rule(name, 1,
                     [](MoeConfig& c) {
                       c.router.score = "tree";
                       c.router.levels = {2, 4};
                     }),
                HasSubstr("m.router.score: tree, expected softmax"));
  for (const std::string name :
       {"hash", "hash-gated", "sinkhorn", "base", "sparse-mixer", "random", "round-robin", "uniform", "replay"}) {
    EXPECT_THAT(rule(name, 1, [](MoeConfig& c) { c.router.selection_bias = true; }),
                HasSubstr("m.router.selection_bias: true, expected false: select \"" + name + "\""));
    EXPECT_THAT(rule(name, 1, [](MoeConfig& c) { c.router.uniform_warmup = 5; }),
                HasSubstr("m.router.uniform_warmup: 5"));
    EXPECT_THAT(rule(name, 1,
                     [](MoeConfig& c) {
                       c.router.noise = "gumbel";
                       c.router.noise_on = "selection";
                     }),
                HasSubstr("m.router.noise_on: selection"));
  }
  for (const std::string name : {"group-limited", "tree", "sinkhorn", "base", "top-p"})
    EXPECT_THAT(rule(name, 1, [](MoeConfig& c) { c.router.normalise = "softmax"; }),
                HasSubstr("m.router.normalise: softmax, expected none with top_k 1"));
  EXPECT_EQ(
      rule("expert-choice", 2, [](MoeConfig& c) { c.capacity.factor = 1.25F; }),
      "m.capacity.factor: 1.25, expected 0: select \"expert-choice\" gives every expert the same number of tokens "
      "already");
  EXPECT_THAT(rule("group-limited", 2, [](MoeConfig& c) { c.router.zero_experts = 1; }),
              HasSubstr("m.router.zero_experts: 1"));
}

}  // namespace
}  // namespace switchyard::moe
