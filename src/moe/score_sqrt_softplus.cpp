#include <algorithm>
#include <cmath>

#include "rows.hpp"
#include "schemes.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::moe {

void sqrt_softplus_score(const RouterConfig&, ConstMatrix logits_TE, Matrix scores_TE) {
  parallel_for(logits_TE.rows, row_grain(16 * logits_TE.cols), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t)
      for (Index e = 0; e < logits_TE.cols; ++e) {
        const float r = logits_TE(t, e);
        scores_TE(t, e) = std::sqrt(std::max(r, 0.0F) + std::log1p(std::exp(-std::abs(r))));
      }
  });
}

// ds/dr = sigmoid(r) / (2 s); where s has underflowed to 0, so has its slope.
void sqrt_softplus_score_backward(const RouterConfig&, ConstMatrix logits_TE, ConstMatrix scores_TE,
                                  ConstMatrix d_scores_TE, Matrix d_logits_TE) {
  parallel_for(scores_TE.rows, row_grain(8 * scores_TE.cols), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t)
      for (Index e = 0; e < scores_TE.cols; ++e) {
        const float s = scores_TE(t, e);
        if (s == 0.0F) continue;
        d_logits_TE(t, e) += d_scores_TE(t, e) / ((1.0F + std::exp(-logits_TE(t, e))) * (2.0F * s));
      }
  });
}

}  // namespace switchyard::moe
