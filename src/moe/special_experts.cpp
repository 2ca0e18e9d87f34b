#include "switchyard/moe/special_experts.hpp"

#include <algorithm>
#include <cmath>

namespace switchyard::moe {
namespace {

float dot(const float* a, const float* b, Index n) {
  float sum = 0.0F;
  for (Index i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// How much of the vector constant expert z gives for x: a_1; a_0 is the rest.
float vector_share(const RouterWeights& weights, Index z, const float* x) {
  const ConstMatrix gate = weights.parts[RouterPart::kConstantGate];
  const float keep = dot(gate.row(2 * z), x, gate.cols), give = dot(gate.row(2 * z + 1), x, gate.cols);
  return 1.0F / (1.0F + std::exp(keep - give));
}

// Calls f(slot, token, special expert): slots of one expert after another, each in token order.
template <class F>
void for_each_slot(const RouterConfig& router, const DispatchPlan& plan, const F& f) {
  for (Index e = router.experts; e < router.choices(); ++e)
    for (auto s = plan.offset_E1[static_cast<std::size_t>(e)]; s < plan.offset_E1[static_cast<std::size_t>(e) + 1]; ++s)
      f(static_cast<Index>(s), static_cast<Index>(plan.token_of_slot_S[static_cast<std::size_t>(s)]),
        e - router.experts);
}

}  // namespace

void special_experts_forward(const RouterConfig& router, const RouterWeights& weights, const DispatchPlan& plan,
                             ConstMatrix x_TD, Matrix y_SD) {
  for_each_slot(router, plan, [&](Index slot, Index token, Index special) {
    float* y = y_SD.row(slot);
    const float* x = x_TD.row(token);
    const float weight = plan.weight_of_slot_S[static_cast<std::size_t>(slot)];
    if (special < router.zero_experts) {
      std::fill_n(y, y_SD.cols, 0.0F);
      return;
    }
    const Index z = special - router.zero_experts - router.copy_experts;
    const float share = z < 0 ? 0.0F : vector_share(weights, z, x);
    const float* vector = z < 0 ? x : weights.parts[RouterPart::kConstants].row(z);
    for (Index d = 0; d < y_SD.cols; ++d) y[d] = weight * ((1.0F - share) * x[d] + share * vector[d]);
  });
}

void special_experts_backward(const RouterConfig& router, const RouterWeights& weights, const DispatchPlan& plan,
                              ConstMatrix x_TD, ConstMatrix d_y_TD, Matrix d_x_SD, std::vector<float>& d_weight_S,
                              const RouterGradients& gradients) {
  const Index width = x_TD.cols;
  for_each_slot(router, plan, [&](Index slot, Index token, Index special) {
    const auto s = static_cast<std::size_t>(slot);
    float* d_x = d_x_SD.row(slot);
    const float* x = x_TD.row(token);
    const float* d_y = d_y_TD.row(token);
    const float weight = plan.weight_of_slot_S[s];
    if (special < router.zero_experts) {
      d_weight_S[s] = 0.0F;
      std::fill_n(d_x, width, 0.0F);
      return;
    }
    const float of_input = dot(d_y, x, width);
    const Index z = special - router.zero_experts - router.copy_experts;
    if (z < 0) {
      d_weight_S[s] = of_input;
      for (Index d = 0; d < width; ++d) d_x[d] = weight * d_y[d];
      return;
    }
    const float share = vector_share(weights, z, x);
    const float* vector = weights.parts[RouterPart::kConstants].row(z);
    const float of_vector = dot(d_y, vector, width);
    d_weight_S[s] = (1.0F - share) * of_input + share * of_vector;
    // The share is a sigmoid of the difference of the gate's two rows.
    const float d_difference = weight * (of_vector - of_input) * share * (1.0F - share);
    const ConstMatrix gate = weights.parts[RouterPart::kConstantGate];
    const float *keep = gate.row(2 * z), *give = gate.row(2 * z + 1);
    for (Index d = 0; d < width; ++d) d_x[d] = weight * (1.0F - share) * d_y[d] + d_difference * (give[d] - keep[d]);
    const Matrix d_vector = gradients.parts[RouterPart::kConstants],
                 d_gate = gradients.parts[RouterPart::kConstantGate];
    if (!d_vector.empty())
      for (Index d = 0; d < width; ++d) d_vector(z, d) += weight * share * d_y[d];
    if (d_gate.empty()) return;
    for (Index d = 0; d < width; ++d) {
      d_gate(2 * z, d) -= d_difference * x[d];
      d_gate(2 * z + 1, d) += d_difference * x[d];
    }
  });
}

}  // namespace switchyard::moe
