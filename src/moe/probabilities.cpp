#include "probabilities.hpp"

#include "rows.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/elementwise.hpp"

namespace switchyard::moe {
namespace {

float sum_of_row(const float* row, Index cols) {
  float sum = 0.0F;
  for (Index i = 0; i < cols; ++i) sum += row[i];
  return sum;
}

}  // namespace

RouterProbabilities::RouterProbabilities(const RouterConfig& router, ConstMatrix logits_TR, ConstMatrix scores_TE)
    : kind_(find_score_function(router.score).probabilities), scores_TE_(scores_TE) {
  if (kind_ == Probabilities::kScores) return;
  made_ = Tensor::uninitialized(DType::kF32, {scores_TE.rows, scores_TE.cols});
  const Matrix p_TE = made_.matrix();
  if (kind_ == Probabilities::kSoftmaxOfLogits) {
    kernels::softmax_rows(logits_TR, p_TE);
    return;
  }
  parallel_for(scores_TE.rows, row_grain(scores_TE.cols), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      const float inverse = 1.0F / (sum_of_row(scores_TE.row(t), scores_TE.cols) + kSumEpsilon);
      for (Index e = 0; e < scores_TE.cols; ++e) p_TE(t, e) = scores_TE(t, e) * inverse;
    }
  });
}

void RouterProbabilities::backward_row(Index t, const float* d_p_E, const LossGradients& gradients) const {
  const Index experts = scores_TE_.cols;
  if (kind_ == Probabilities::kScores) {
    for (Index e = 0; e < experts; ++e) gradients.scores_TE(t, e) += d_p_E[e];
    return;
  }
  const float* p_E = std::as_const(made_).matrix().row(t);
  float mean = 0.0F;
  for (Index e = 0; e < experts; ++e) mean += d_p_E[e] * p_E[e];
  if (kind_ == Probabilities::kSoftmaxOfLogits) {
    for (Index e = 0; e < experts; ++e) gradients.logits_TR(t, e) += p_E[e] * (d_p_E[e] - mean);
    return;
  }
  // p_e = s_e / S, so dL/ds_e = (dL/dp_e - sum_i dL/dp_i p_i) / S.
  const float inverse = 1.0F / (sum_of_row(scores_TE_.row(t), experts) + kSumEpsilon);
  for (Index e = 0; e < experts; ++e) gradients.scores_TE(t, e) += (d_p_E[e] - mean) * inverse;
}

}  // namespace switchyard::moe
