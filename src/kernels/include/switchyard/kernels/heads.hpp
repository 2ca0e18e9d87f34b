#pragma once
// What happens to projections on their way to attention: cuts, copies of columns, the keys and values of a latent.

#include <span>

#include "switchyard/tensor/view.hpp"

namespace switchyard::kernels {

// y[i] = x[i] cut to [-limit, limit]; limit >= 0, NaN stays. y may be x.
void clamp(float limit, std::span<const float> x, std::span<float> y);
// d_x[i] = d_y[i] where |x[i]| <= limit, else 0, as PyTorch's clamp has it. d_x may be d_y.
void clamp_backward(float limit, std::span<const float> x, std::span<const float> d_y, std::span<float> d_x);

// to = from, of the same shape; strides may differ.
void copy_matrix(ConstMatrix from, Matrix to);

// Multi-head latent attention, DeepSeek-AI 2024, arXiv 2405.04434. Rows of kv are [head, key part + value_dim]; rows
// of k become [head, key part + R], where every head of a token ends in the token's row of rope_TR, and rows of v
// become [head, value_dim]. The widths of the parts follow from those of the matrices.
void latent_keys_values(Index heads, Index value_dim, ConstMatrix kv_THX, ConstMatrix rope_TR, Matrix k_THC,
                        Matrix v_THC);
// d_kv and d_rope are overwritten; d_rope is the sum over heads, in ascending order. An empty d_k or d_v counts as 0.
void latent_keys_values_backward(Index heads, Index value_dim, ConstMatrix d_k_THC, ConstMatrix d_v_THC,
                                 Matrix d_kv_THX, Matrix d_rope_TR);

}  // namespace switchyard::kernels
