#include <array>

#include "named_table.hpp"
#include "schemes.hpp"
#include "selection.hpp"

namespace switchyard::moe {
namespace {

// Whether the second expert is taken, from its share g2 of the two scores and a uniform draw. Comparisons with NaN are
// false.
bool always(float, float, float) { return true; }
bool never(float, float, float) { return false; }
bool by_share(float share, float threshold, float uniform) { return uniform < share / std::max(threshold, 1e-9F); }
bool by_twice_share(float share, float, float uniform) { return 2.0F * share > uniform; }
bool above(float share, float threshold, float) { return share > threshold; }

struct SecondPolicy {
  std::string_view name;
  bool (*take)(float share, float threshold, float uniform);
  bool sampled;  // the second is the largest of logits + Gumbel noise, without the first
};
constexpr std::array kSecondPolicies = {
    SecondPolicy{"all", always, false},
    SecondPolicy{"random", by_share, false},
    SecondPolicy{"gshard", by_twice_share, false},
    SecondPolicy{"threshold", above, false},
    SecondPolicy{"none", never, false},
    SecondPolicy{"gumbel", always, true},
};

}  // namespace

// The list keeps a second expert that is not taken, as dropped: the weights of both are made of both scores before
// anyone is refused, and never again.
Assignments select_gshard(const RouterConfig& router, const SelectionInput& input) {
  require_shapes(router, input);
  require(router.top_k == 2, "select gshard with top-{}", router.top_k);
  const Index experts = input.scores_TE.cols;
  const SecondPolicy& second =
      require_row(std::span<const SecondPolicy>(kSecondPolicies), router.second, "rule for the second expert");
  require(!second.sampled || input.logits_TR.cols == experts, "{} logits for {} experts", input.logits_TR.cols,
          experts);
  Assignments list = assign_k(2, 3 * experts, input, [&](Index t, std::int32_t* expert_K) {
    float key_K[2] = {};
    top_k_of_row(input.choice_TE.row(t), bias_of(input), experts, 2, key_K, expert_K);
    if (!second.sampled) return;
    const std::uint64_t draw = static_cast<std::uint64_t>(t * experts);
    std::int32_t best = -1;
    float best_key = 0.0F;
    for (std::int32_t e = 0; e < experts; ++e) {
      if (e == expert_K[0]) continue;
      const float key = input.logits_TR(t, e) + gumbel_of(input.random.uniform(draw + static_cast<std::uint64_t>(e)));
      if (best >= 0 && !goes_before(key, best_key)) continue;
      best = e;
      best_key = key;
    }
    expert_K[1] = best;
  });
  if (second.sampled) return list;
  for (std::size_t t = 0; t < static_cast<std::size_t>(list.tokens); ++t) {
    const auto first = static_cast<std::size_t>(list.offset_T1[t]);
    if (static_cast<std::size_t>(list.offset_T1[t + 1]) == first) continue;
    const float share = list.score_A[first + 1] / (list.score_A[first] + list.score_A[first + 1] + 1e-9F);
    if (!second.take(share, router.threshold, input.random.uniform(t))) list.dropped_A[first + 1] = 1;
  }
  return list;
}

void check_gshard(const RouterConfig& router) {
  expect(router.top_k == 2, "top_k", router.top_k, "2 with select \"gshard\"");
  const std::span<const SecondPolicy> policies = kSecondPolicies;
  expect(find_row(policies, router.second) != nullptr, "second", router.second,
         fmt::format("one of {}", row_names(policies)));
  expect(router.score != "logits", "score", router.score,
         "softmax: select \"gshard\" compares shares, which logits are not");
  if (router.second == "gumbel") expect_logit_an_expert(router);
}

}  // namespace switchyard::moe
