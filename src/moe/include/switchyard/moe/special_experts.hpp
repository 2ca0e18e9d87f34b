#pragma once
// Experts without matrices, numbered behind the others in this order: zero gives 0, copy gives x, constant gives
// a_0 x + a_1 v with a = softmax(x W_c^T) of two. MoE++, arXiv 2410.07348; LongCat's zero-computation experts are
// copies.

#include <span>
#include <vector>

#include "switchyard/moe/assignments.hpp"
#include "switchyard/moe/logits.hpp"

namespace switchyard::moe {

// Fills the rows of y_SD that are slots of such experts: weight times output.
void special_experts_forward(const RouterConfig& router, const RouterWeights& weights, const DispatchPlan& plan,
                             ConstMatrix x_TD, Matrix y_SD);
// Likewise d_x_SD and d_weight_S; adds to the gradients of constants and their gates.
void special_experts_backward(const RouterConfig& router, const RouterWeights& weights, const DispatchPlan& plan,
                              ConstMatrix x_TD, ConstMatrix d_y_TD, Matrix d_x_SD, std::vector<float>& d_weight_S,
                              const RouterGradients& gradients);

}  // namespace switchyard::moe
