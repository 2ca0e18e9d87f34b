#include "switchyard/kernels/cross_entropy.hpp"

#include <algorithm>

#include "result.hpp"
#include "switchyard/autograd/ops.hpp"

namespace switchyard::autograd {

Value cross_entropy(Tape* tape, const Value& x_TD, Parameter& weight_VD, Parameter* bias_V,
                    std::span<const std::int32_t> target_T, Index* count) {
  const bool records = tape != nullptr && (x_TD.needs_grad() || weight_VD.wants_grad() || wants_grad(bias_V));
  kernels::CrossEntropySaved saved;
  std::vector<float> loss_T(target_T.size());
  kernels::cross_entropy_forward(x_TD.matrix(), weight_VD.weight(), values_of(bias_V), target_T, loss_T,
                                 records ? &saved : nullptr);
  double sum = 0.0;
  Index targets = 0;
  for (std::size_t t = 0; t < target_T.size(); ++t) {
    if (target_T[t] == kernels::kIgnoreTarget) continue;
    sum += static_cast<double>(loss_T[t]);
    ++targets;
  }
  if (count != nullptr) *count = targets;
  Tensor mean = uninitialized({1});
  mean.f32()[0] = targets == 0 ? 0.0F : static_cast<float>(sum / static_cast<double>(targets));
  const bool has_gradient = records && targets > 0;
  Value result(std::move(mean), has_gradient);
  if (!has_gradient) return result;
  tape->record([x_TD, &weight_VD, bias_V, ids = std::vector<std::int32_t>(target_T.begin(), target_T.end()),
                saved = std::move(saved), targets, y_grad = result.gradient()]() mutable {
    const SharedTensor d_y = y_grad.take();
    if (d_y == nullptr) return;
    const float share = std::as_const(*d_y).f32()[0] / static_cast<float>(targets);
    const std::vector<float> d_loss_T(ids.size(), share);  // the kernel passes ignored targets over
    Tensor d_x = uninitialized(x_TD.tensor().shape());
    kernels::cross_entropy_backward(x_TD.matrix(), matrix_of(weight_VD), values_of(bias_V), ids, d_loss_T, saved,
                                    d_x.matrix(), gradient_matrix_of(&weight_VD), gradient_of(bias_V));
    x_TD.accumulate_grad(std::move(d_x));
  });
  return result;
}

}  // namespace switchyard::autograd
