// Rules by which a token gets as many experts as it needs, at most top_k.

#include <vector>

#include "schemes.hpp"
#include "selection.hpp"

namespace switchyard::moe {

Assignments select_top_p(const RouterConfig& router, const SelectionInput& input) {
  require_shapes(router, input);
  const Index experts = input.scores_TE.cols, k = router.top_k;
  const bool sums_to_one = find_score_function(router.score).probabilities == Probabilities::kScores;
  return assign_up_to(k, (k + 2) * experts, input, [&](Index t, std::int32_t* expert_K) {
    std::vector<float> best(static_cast<std::size_t>(k));
    top_k_of_row(input.choice_TE.row(t), bias_of(input), experts, k, best.data(), expert_K);
    float whole = 1.0F;
    if (!sums_to_one) {
      whole = kSumEpsilon;
      for (Index e = 0; e < experts; ++e) whole += input.scores_TE(t, e);
    }
    Index count = 0;
    float sum = 0.0F;
    do {
      sum += input.scores_TE(t, expert_K[count++]);
    } while (count < k && !(sum / whole > router.threshold));
    return count;
  });
}

Assignments select_threshold(const RouterConfig& router, const SelectionInput& input) {
  require_shapes(router, input);
  const Index experts = input.scores_TE.cols, k = router.top_k;
  return assign_up_to(k, (k + 2) * experts, input, [&](Index t, std::int32_t* expert_K) {
    std::vector<float> best(static_cast<std::size_t>(k));
    top_k_of_row(input.choice_TE.row(t), bias_of(input), experts, k, best.data(), expert_K);
    Index count = 1;
    while (count < k && best[static_cast<std::size_t>(count)] > router.threshold) ++count;
    return count;
  });
}

}  // namespace switchyard::moe
