#include <vector>

#include "schemes.hpp"
#include "selection.hpp"

namespace switchyard::moe {

// A node counts for the sum of choice + bias over its leaves, which for score "tree" is its own share. Kept nodes stay
// in ascending order until the leaves are ranked, so that the lowest index wins a tie.
Assignments select_tree(const RouterConfig& router, const SelectionInput& input) {
  require_shapes(router, input);
  const Index experts = input.scores_TE.cols;
  return assign_k(router.top_k, 4 * experts, input, [&](Index t, std::int32_t* expert_K) {
    std::vector<float> key_E(static_cast<std::size_t>(experts)), best(key_E.size()), branch_key;
    for (Index e = 0; e < experts; ++e) key_E[static_cast<std::size_t>(e)] = key_of(input, t, e);
    std::vector<std::int32_t> kept = {0}, next, chosen;
    Index leaves = experts;  // under one node of the level
    for (std::size_t l = 0; l < router.levels.size(); ++l) {
      const Index branches = router.levels[l], keep = router.level_top_k[l];
      leaves /= branches;
      branch_key.resize(static_cast<std::size_t>(branches));
      chosen.resize(static_cast<std::size_t>(keep));
      next.clear();
      for (const std::int32_t node : kept) {
        for (Index b = 0; b < branches; ++b) {
          const Index first = (node * branches + b) * leaves;
          float sum = 0.0F;
          for (Index e = first; e < first + leaves; ++e) sum += key_E[static_cast<std::size_t>(e)];
          branch_key[static_cast<std::size_t>(b)] = sum;
        }
        top_k_of_row(branch_key.data(), nullptr, branches, keep, best.data(), chosen.data());
        std::sort(chosen.begin(), chosen.end());
        for (const std::int32_t b : chosen) next.push_back(static_cast<std::int32_t>(node * branches + b));
      }
      kept.swap(next);
    }
    std::stable_sort(kept.begin(), kept.end(), [&](std::int32_t a, std::int32_t b) {
      return goes_before(key_E[static_cast<std::size_t>(a)], key_E[static_cast<std::size_t>(b)]);
    });
    std::copy(kept.begin(), kept.end(), expert_K);
  });
}

void check_select_tree(const RouterConfig& router) {
  check_tree_levels(router);
  expect_gradient(router);
  expect(router.level_top_k.size() == router.levels.size(), "level_top_k",
         fmt::format("{} levels", router.level_top_k.size()),
         fmt::format("one number for each of the {} levels", router.levels.size()));
  Index product = 1;
  for (std::size_t l = 0; l < router.levels.size(); ++l) {
    const Index keep = router.level_top_k[l];
    expect(keep >= 1 && keep <= router.levels[l], "level_top_k", keep,
           fmt::format("1 to the {} branches of level {}", router.levels[l], l));
    product *= keep;
  }
  expect(product == router.top_k, "top_k", router.top_k, fmt::format("{}, the product of level_top_k", product));
}

}  // namespace switchyard::moe
