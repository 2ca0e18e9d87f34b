#pragma once
// RMSNorm: y = x / sqrt(mean(x^2) + eps) * w.  Zhang and Sennrich 2019, arXiv 1910.07467.
// LayerNorm: y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * w + b.  Ba et al. 2016, arXiv 1607.06450.

#include <span>

#include "switchyard/tensor/view.hpp"

namespace switchyard::kernels {

// inv_rms_T receives 1 / sqrt(mean + eps) a row, for backward; may be empty. y may be x.
void rms_norm_forward(ConstMatrix x_TD, std::span<const float> weight_D, float eps, Matrix y_TD,
                      std::span<float> inv_rms_T);
// d_x is overwritten (and may be d_y); d_weight_D is added to, its rows summed in a fixed order. An empty d_weight_D
// skips it.
void rms_norm_backward(ConstMatrix x_TD, std::span<const float> weight_D, std::span<const float> inv_rms_T,
                       ConstMatrix d_y_TD, Matrix d_x_TD, std::span<float> d_weight_D);

// An empty bias_D is zero. Mean and variance are taken in double, so that a row far from zero loses nothing. y may be
// x.
void layer_norm_forward(ConstMatrix x_TD, std::span<const float> weight_D, std::span<const float> bias_D, float eps,
                        Matrix y_TD);
// Takes mean and variance again from x. d_x is overwritten (and may be d_y); d_weight_D and d_bias_D are added to, in a
// fixed order of the rows; an empty one is skipped.
void layer_norm_backward(ConstMatrix x_TD, std::span<const float> weight_D, float eps, ConstMatrix d_y_TD,
                         Matrix d_x_TD, std::span<float> d_weight_D, std::span<float> d_bias_D);

}  // namespace switchyard::kernels
