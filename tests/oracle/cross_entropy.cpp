#include "oracle/cross_entropy.hpp"

#include <algorithm>
#include <cmath>

#include "switchyard/kernels/cross_entropy.hpp"

namespace switchyard::oracle {

std::vector<double> cross_entropy(const std::vector<double>& x_TD, const std::vector<double>& w_VD,
                                  const std::vector<std::int32_t>& target_T, const std::vector<double>& bias_V) {
  std::vector<double> loss_T;
  if (target_T.empty()) return loss_T;
  const std::size_t D = x_TD.size() / target_T.size(), V = w_VD.size() / D;
  for (std::size_t t = 0; t < target_T.size(); ++t) {
    std::vector<double> logits = bias_V;
    logits.resize(V, 0.0);
    for (std::size_t v = 0; v < V; ++v)
      for (std::size_t i = 0; i < D; ++i) logits[v] += x_TD[t * D + i] * w_VD[v * D + i];
    const double largest = *std::max_element(logits.begin(), logits.end());
    double sum = 0.0;
    for (const double logit : logits) sum += std::exp(logit - largest);
    const bool ignored = target_T[t] == kernels::kIgnoreTarget;
    loss_T.push_back(ignored ? 0.0 : largest + std::log(sum) - logits[static_cast<std::size_t>(target_T[t])]);
  }
  return loss_T;
}

}  // namespace switchyard::oracle
