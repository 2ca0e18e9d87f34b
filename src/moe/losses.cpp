#include "switchyard/moe/losses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "loss_rules.hpp"
#include "rows.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/elementwise.hpp"
#include "switchyard/tensor/tensor.hpp"

namespace switchyard::moe {
namespace {

constexpr std::array kRouterLosses = {
    RouterLoss{"load_balance", &BalanceConfig::load_balance, &RoutingLosses::load_balance, load_balance_loss,
               load_balance_backward, true},
    RouterLoss{"importance_cv", &BalanceConfig::importance_cv, &RoutingLosses::importance_cv, importance_cv_loss,
               importance_cv_backward, false},
    RouterLoss{"load_cv", &BalanceConfig::load_cv, &RoutingLosses::load_cv, load_cv_loss, load_cv_backward, false},
    RouterLoss{"usage_variance", &BalanceConfig::usage_variance, &RoutingLosses::usage_variance, usage_variance_loss,
               usage_variance_backward, false},
    RouterLoss{"device", &BalanceConfig::device, &RoutingLosses::device, device_loss, device_backward, false},
    RouterLoss{"communication", &BalanceConfig::communication, &RoutingLosses::communication, communication_loss,
               communication_backward, false},
    RouterLoss{"entropy", &BalanceConfig::entropy, &RoutingLosses::entropy, entropy_loss, entropy_backward, false},
    RouterLoss{"z_loss", &BalanceConfig::z_loss, &RoutingLosses::z_loss, z_loss, z_loss_backward, true},
};

// The softmax of the logits, and from it each token's log of the sum of exponentials: logit - log(p), taken where p
// is largest and therefore most exact.
struct LogSumExp {
  explicit LogSumExp(ConstMatrix logits_TE)
      : softmax_TE(Tensor::uninitialized(DType::kF32, {logits_TE.rows, logits_TE.cols})),
        value_T(static_cast<std::size_t>(logits_TE.rows)) {
    const Matrix p_TE = softmax_TE.matrix();
    kernels::softmax_rows(logits_TE, p_TE);
    parallel_for(logits_TE.rows, row_grain(logits_TE.cols), [&](Index begin, Index end) {
      for (Index t = begin; t < end; ++t) {
        const float* p = p_TE.row(t);
        const Index best = std::max_element(p, p + p_TE.cols) - p;
        value_T[static_cast<std::size_t>(t)] = logits_TE(t, best) - std::log(p[best]);
      }
    });
  }
  Tensor softmax_TE;
  std::vector<float> value_T;
};

}  // namespace

float z_loss(const LossInput& input) {
  const Index tokens = count_valid(input.valid_T, input.logits_TR.rows);
  if (tokens == 0) return 0.0F;
  const LogSumExp log_sum_exp(input.logits_TR);
  double sum = 0.0;
  for (Index t = 0; t < input.logits_TR.rows; ++t) {
    const auto value = static_cast<double>(log_sum_exp.value_T[static_cast<std::size_t>(t)]);
    if (is_valid(input.valid_T, t)) sum += value * value;
  }
  return static_cast<float>(sum / static_cast<double>(tokens));
}

void z_loss_backward(const LossInput& input, float d, const LossGradients& gradients) {
  const Index tokens = count_valid(input.valid_T, input.logits_TR.rows), experts = input.logits_TR.cols;
  if (tokens == 0) return;
  const LogSumExp log_sum_exp(input.logits_TR);
  const ConstMatrix p_TE = log_sum_exp.softmax_TE.matrix();
  parallel_for(p_TE.rows, row_grain(experts), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      if (!is_valid(input.valid_T, t)) continue;
      const float factor = d * 2.0F * log_sum_exp.value_T[static_cast<std::size_t>(t)] / static_cast<float>(tokens);
      for (Index e = 0; e < experts; ++e) gradients.logits_TR(t, e) += factor * p_TE(t, e);
    }
  });
}

std::span<const RouterLoss> router_losses() { return kRouterLosses; }

}  // namespace switchyard::moe
