#pragma once
// The feed-forward networks of many experts at once, each on its own rows: gather, two or three matrix products with
// the activation between, and the weight of each row folded in. One pass an expert; no padded or permuted copy of x
// is ever made. This is the op that MoE training and prefill spend their time in.

#include <cstdint>
#include <span>

#include "switchyard/kernels/activation.hpp"
#include "switchyard/tensor/tensor.hpp"
#include "switchyard/tensor/weight.hpp"

namespace switchyard::kernels {

// One expert's weights, PyTorch layout [out, in]. gate is empty for activations that are not gated. A bias is added to
// its product; an empty one is none.
struct FfnWeights {
  WeightView gate_FD, up_FD, down_DF;
  std::span<const float> gate_bias_F{}, up_bias_F{}, down_bias_D{};
};
// A bias gradient has the size of its bias.
struct FfnGradients {
  Matrix gate_FD, up_FD, down_DF;
  std::span<float> gate_bias_F{}, up_bias_F{}, down_bias_D{};
};

// Which rows of x each expert works on. Slot s of expert e lies in [offset_E1[e], offset_E1[e + 1]); it reads row
// token_of_slot_S[s] of x and its result is multiplied by weight_of_slot_S[s].
struct GroupedRows {
  std::span<const std::int32_t> offset_E1;
  std::span<const std::int32_t> token_of_slot_S;
  std::span<const float> weight_of_slot_S;
};

// What forward leaves for backward: the inputs of the activation. Opaque; move-only.
struct GroupedFfnSaved {
  Tensor pre_activation;
};

// y_SD[s] = weight_s * down_e(h), h = act(gate_e x, up_e x), x = x_TD[token_s], each of the three with its bias. All
// experts have one F (or differ: F is taken from each expert's up). Empty experts cost nothing. `saved` may be null
// (inference). Same bits at any thread count and for any grouping of the same rows. Weights of every kind give the bits
// of their float32 expansion.
void grouped_ffn_forward(Activation activation, ConstMatrix x_TD, const GroupedRows& rows,
                         std::span<const FfnWeights> experts, Matrix y_SD, GroupedFfnSaved* saved);

// Given dL/dy as d_y_TD, *one row a token* (the combine is a sum, so every slot of a token sees the same gradient):
//   d_x_SD[s]        = gradient of slot s with respect to its input row (the caller sums a token's slots in order)
//   d_weight_S[s]    = <d_y_TD[token_s], down_e(h)>, computed as <down_e^T d_y, h> + <d_y, bias>, so y need not be kept
//   gradients[e]    += gradients of the weights and biases; an expert without rows is left as it is. Pass an empty
//                      span where the experts are frozen.
// Weights must be float32 matrices (WeightView::is_matrix; kInternal otherwise).
void grouped_ffn_backward(Activation activation, ConstMatrix x_TD, const GroupedRows& rows,
                          std::span<const FfnWeights> experts, const GroupedFfnSaved& saved, ConstMatrix d_y_TD,
                          Matrix d_x_SD, std::span<float> d_weight_S, std::span<const FfnGradients> gradients);

}  // namespace switchyard::kernels
