#pragma once
// The output projection and softmax cross-entropy in one, over chunks of the vocabulary: [T, V] logits are never held
// at once where V is larger than a chunk.

#include <cstdint>
#include <span>

#include "switchyard/tensor/tensor.hpp"
#include "switchyard/tensor/weight.hpp"

namespace switchyard::kernels {

inline constexpr std::int32_t kIgnoreTarget = -1;  // such a token has loss 0 and no gradient

struct CrossEntropySaved {
  Tensor log_sum_exp_T;
  Tensor logits_TV;  // only where V fits one chunk; otherwise backward computes them again
};

// loss_T[t] = logsumexp_v(x_t . w_v + b_v) - (x_t . w_target + b_target), in nats. Targets are < V or kIgnoreTarget
// (checked). An empty bias_V is zero. `saved` may be null. chunk: vocabulary rows a pass. w is read as it is stored;
// backward needs it as float32.
void cross_entropy_forward(ConstMatrix x_TD, const WeightView& w_VD, std::span<const float> bias_V,
                           std::span<const std::int32_t> target_T, std::span<float> loss_T, CrossEntropySaved* saved,
                           Index chunk = 4096);
// d_loss_T scales each token's gradient. d_x is overwritten, d_w and d_bias added to; an empty one of these two is
// skipped. `saved` is used up (its memory is reused).
void cross_entropy_backward(ConstMatrix x_TD, ConstMatrix w_VD, std::span<const float> bias_V,
                            std::span<const std::int32_t> target_T, std::span<const float> d_loss_T,
                            CrossEntropySaved& saved, Matrix d_x_TD, Matrix d_w_VD, std::span<float> d_bias_V,
                            Index chunk = 4096);

}  // namespace switchyard::kernels
