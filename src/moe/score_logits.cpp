#include <algorithm>

#include "rows.hpp"
#include "schemes.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::moe {

void logits_score(const RouterConfig&, ConstMatrix logits_TE, Matrix scores_TE) {
  for (Index t = 0; t < logits_TE.rows; ++t) std::copy_n(logits_TE.row(t), logits_TE.cols, scores_TE.row(t));
}

void logits_score_backward(const RouterConfig&, ConstMatrix, ConstMatrix, ConstMatrix d_scores_TE, Matrix d_logits_TE) {
  for (Index t = 0; t < d_scores_TE.rows; ++t)
    for (Index e = 0; e < d_scores_TE.cols; ++e) d_logits_TE(t, e) += d_scores_TE(t, e);
}

}  // namespace switchyard::moe
