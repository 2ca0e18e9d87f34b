#include "switchyard/moe/dense_gradient.hpp"

#include <numeric>
#include <vector>

#include "rows.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/tensor/tensor.hpp"

namespace switchyard::moe {

void dense_score_gradient(const MoeConfig& config, std::span<const kernels::FfnWeights> experts, ConstMatrix x_TD,
                          ConstMatrix d_y_TD, std::span<const std::uint8_t> valid_T, Matrix d_scores_TE) {
  std::vector<std::int32_t> token(static_cast<std::size_t>(x_TD.rows));
  std::iota(token.begin(), token.end(), 0);
  const std::vector<std::int32_t> offset = {0, static_cast<std::int32_t>(x_TD.rows)};
  const std::vector<float> weight(token.size(), 1.0F);
  Tensor y = Tensor::uninitialized(DType::kF32, {x_TD.rows, x_TD.cols});
  for (std::size_t e = 0; e < experts.size(); ++e) {
    kernels::grouped_ffn_forward(config.expert.activation, x_TD, {offset, token, weight}, experts.subspan(e, 1),
                                 y.matrix(), nullptr);
    parallel_for(x_TD.rows, row_grain(x_TD.cols), [&](Index begin, Index end) {
      for (Index t = begin; t < end; ++t) {
        float sum = 0.0F;
        if (is_valid(valid_T, t))
          for (Index d = 0; d < x_TD.cols; ++d) sum += d_y_TD(t, d) * std::as_const(y).matrix()(t, d);
        d_scores_TE(t, static_cast<Index>(e)) = config.router.scale * sum;
      }
    });
  }
}

}  // namespace switchyard::moe
