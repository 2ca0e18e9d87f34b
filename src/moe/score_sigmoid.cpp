#include <cmath>

#include "rows.hpp"
#include "schemes.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::moe {

void sigmoid_score(const RouterConfig&, ConstMatrix logits_TE, Matrix scores_TE) {
  parallel_for(logits_TE.rows, row_grain(8 * logits_TE.cols), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t)
      for (Index e = 0; e < logits_TE.cols; ++e) scores_TE(t, e) = 1.0F / (1.0F + std::exp(-logits_TE(t, e)));
  });
}

void sigmoid_score_backward(const RouterConfig&, ConstMatrix, ConstMatrix scores_TE, ConstMatrix d_scores_TE,
                            Matrix d_logits_TE) {
  parallel_for(scores_TE.rows, row_grain(scores_TE.cols), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      const float* s = scores_TE.row(t);
      const float* d_s = d_scores_TE.row(t);
      float* d_logits = d_logits_TE.row(t);
      for (Index e = 0; e < scores_TE.cols; ++e) d_logits[e] += d_s[e] * s[e] * (1.0F - s[e]);
    }
  });
}

}  // namespace switchyard::moe
