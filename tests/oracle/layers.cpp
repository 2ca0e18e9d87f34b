#include "oracle/layers.hpp"

#include <cmath>

namespace switchyard::oracle {

std::vector<double> linear(const std::vector<double>& x_TD, const std::vector<double>& w_ND,
                           const std::vector<double>& bias_N, Index width) {
  const auto d = static_cast<std::size_t>(width);
  const std::size_t rows = x_TD.size() / d, outputs = w_ND.size() / d;
  std::vector<double> y(rows * outputs);
  for (std::size_t t = 0; t < rows; ++t) {
    for (std::size_t n = 0; n < outputs; ++n) {
      double sum = bias_N.empty() ? 0.0 : bias_N[n];
      for (std::size_t i = 0; i < d; ++i) sum += x_TD[t * d + i] * w_ND[n * d + i];
      y[t * outputs + n] = sum;
    }
  }
  return y;
}

std::vector<double> rotate(const std::vector<double>& x_THC, Index heads, Index head_dim,
                           const std::vector<std::int32_t>& position_T, double theta, kernels::RopePairing pairing) {
  std::vector<double> y = x_THC;
  const Index half = head_dim / 2;
  for (Index t = 0; t < static_cast<Index>(position_T.size()); ++t) {
    for (Index h = 0; h < heads; ++h) {
      for (Index i = 0; i < half; ++i) {
        const double angle = static_cast<double>(position_T[static_cast<std::size_t>(t)]) *
                             std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
        const Index head = (t * heads + h) * head_dim;
        const bool split = pairing == kernels::RopePairing::kHalfSplit;
        const auto a = static_cast<std::size_t>(head + (split ? i : 2 * i));
        const auto b = static_cast<std::size_t>(head + (split ? i + half : 2 * i + 1));
        y[a] = x_THC[a] * std::cos(angle) - x_THC[b] * std::sin(angle);
        y[b] = x_THC[b] * std::cos(angle) + x_THC[a] * std::sin(angle);
      }
    }
  }
  return y;
}

double cross_entropy(const std::vector<double>& logits_TV, const std::vector<std::int32_t>& target_T, Index vocab) {
  double sum = 0.0, count = 0.0;
  for (std::size_t t = 0; t < target_T.size(); ++t) {
    if (target_T[t] < 0) continue;
    const double* row = logits_TV.data() + t * static_cast<std::size_t>(vocab);
    double largest = row[0];
    for (Index v = 1; v < vocab; ++v) largest = std::max(largest, row[v]);
    double exponentials = 0.0;
    for (Index v = 0; v < vocab; ++v) exponentials += std::exp(row[v] - largest);
    sum += largest + std::log(exponentials) - row[target_T[t]];
    count += 1.0;
  }
  return count == 0.0 ? 0.0 : sum / count;
}

}  // namespace switchyard::oracle
