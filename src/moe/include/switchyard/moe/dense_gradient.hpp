#pragma once
// The straight-through gradient of DenseMixer (Yao et al. 2025): the forward pass uses the chosen experts, the router's
// gradient is that of a layer which uses all of them with their full scores: dL/ds_te = scale <dy_t, E_e(x_t)> for
// every expert. Experts' own gradients stay those of the chosen. Costs a forward pass of all experts in the backward
// pass.

#include "switchyard/kernels/grouped_ffn.hpp"
#include "switchyard/moe/config.hpp"

namespace switchyard::moe {

// d_scores_TE is overwritten in its first experts.size() columns; 0 for padding.
void dense_score_gradient(const MoeConfig& config, std::span<const kernels::FfnWeights> experts, ConstMatrix x_TD,
                          ConstMatrix d_y_TD, std::span<const std::uint8_t> valid_T, Matrix d_scores_TE);

}  // namespace switchyard::moe
