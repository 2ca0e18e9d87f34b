#include <algorithm>
#include <cmath>
#include <limits>

#include "loss_rules.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::moe {
namespace {

// Finite also where p is 0, whose term p log p is 0.
float log_of(float p) { return std::log(std::max(p, std::numeric_limits<float>::min())); }

}  // namespace

float entropy_loss(const LossInput& input) {
  const Index tokens = input.scores_TE.rows, real = count_valid(input.valid_T, tokens);
  if (real == 0) return 0.0F;
  const RouterProbabilities probabilities(input.config.router, input.logits_TR, input.scores_TE);
  const ConstMatrix p_TE = probabilities.matrix();
  std::vector<double> entropy_T(static_cast<std::size_t>(tokens));
  parallel_for(tokens, row_grain(8 * p_TE.cols), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      if (!is_valid(input.valid_T, t)) continue;
      for (Index e = 0; e < p_TE.cols; ++e)
        entropy_T[static_cast<std::size_t>(t)] -= static_cast<double>(p_TE(t, e) * log_of(p_TE(t, e)));
    }
  });
  double sum = 0.0;
  for (const double entropy : entropy_T) sum += entropy;
  return static_cast<float>(sum / static_cast<double>(real));
}

void entropy_backward(const LossInput& input, float d, const LossGradients& gradients) {
  const Index tokens = input.scores_TE.rows, real = count_valid(input.valid_T, tokens);
  if (real == 0) return;
  const RouterProbabilities probabilities(input.config.router, input.logits_TR, input.scores_TE);
  const ConstMatrix p_TE = probabilities.matrix();
  const float scale = -d / static_cast<float>(real);
  parallel_for(tokens, row_grain(8 * p_TE.cols), [&](Index begin, Index end) {
    std::vector<float> d_p_E(static_cast<std::size_t>(p_TE.cols));
    for (Index t = begin; t < end; ++t) {
      if (!is_valid(input.valid_T, t)) continue;
      for (Index e = 0; e < p_TE.cols; ++e) d_p_E[static_cast<std::size_t>(e)] = scale * (log_of(p_TE(t, e)) + 1.0F);
      probabilities.backward_row(t, d_p_E.data(), gradients);
    }
  });
}

}  // namespace switchyard::moe
