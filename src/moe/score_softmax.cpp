#include "rows.hpp"
#include "schemes.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/elementwise.hpp"

namespace switchyard::moe {

void softmax_score(const RouterConfig&, ConstMatrix logits_TE, Matrix scores_TE) {
  kernels::softmax_rows(logits_TE, scores_TE);
}

void softmax_score_backward(const RouterConfig&, ConstMatrix, ConstMatrix scores_TE, ConstMatrix d_scores_TE,
                            Matrix d_logits_TE) {
  const Index experts = scores_TE.cols;
  parallel_for(scores_TE.rows, row_grain(experts), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      const float* p = scores_TE.row(t);
      const float* d_p = d_scores_TE.row(t);
      float* d_logits = d_logits_TE.row(t);
      float mean = 0.0F;
      for (Index e = 0; e < experts; ++e) mean += p[e] * d_p[e];
      for (Index e = 0; e < experts; ++e) d_logits[e] += p[e] * (d_p[e] - mean);
    }
  });
}

}  // namespace switchyard::moe
