#pragma once
// Soft MoE (Puigcerver et al. 2023, arXiv 2308.00951), router.select "soft": experts work on slots, which are mixes of
// all tokens of a sequence, and every token gets a mix of all slots. Nothing is chosen and nothing dropped. A token's
// output depends on later tokens.
//
//   r_ts = scale <x_t / |x_t|, phi_s / |phi_s|>, lengths sqrt(sum of squares + 1e-6), scale = exp(slot_scale)
//   slot_s = sum_t softmax over t (r)_ts x_t       y_t = sum_s softmax over s (r)_ts E(slot_s)
//
// The router's matrix is phi [S, D], S = experts * router.slots, an expert's slots one after another. For observers, a
// token's score for an expert is the sum of its combine weights over the expert's slots, and it has all experts.

#include "switchyard/moe/layer.hpp"

namespace switchyard::moe {

// As moe_forward and moe_backward, for layers whose rule is "soft": they call these.
RoutingLosses soft_forward(const MoeConfig& config, const MoeWeights& weights, const MoeCall& call, ConstMatrix x_TD,
                           Matrix y_TD, MoeSaved* saved);
// d_x_TD is overwritten, without the shared expert's part.
void soft_backward(const MoeConfig& config, const MoeWeights& weights, MoeSaved& saved, ConstMatrix x_TD,
                   ConstMatrix d_y_TD, Matrix d_x_TD, const MoeGradients& gradients);

}  // namespace switchyard::moe
