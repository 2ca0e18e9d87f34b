#include "oracle/norm.hpp"

#include <cmath>

namespace switchyard::oracle {

std::vector<double> rms_norm(const std::vector<double>& x_TD, const std::vector<double>& weight_D, double eps) {
  const std::size_t D = weight_D.size();
  std::vector<double> y_TD(x_TD.size());
  for (std::size_t row = 0; row < x_TD.size(); row += D) {
    double square = 0.0;
    for (std::size_t i = 0; i < D; ++i) square += x_TD[row + i] * x_TD[row + i];
    const double rms = std::sqrt(square / static_cast<double>(D) + eps);
    for (std::size_t i = 0; i < D; ++i) y_TD[row + i] = x_TD[row + i] / rms * weight_D[i];
  }
  return y_TD;
}

std::vector<double> layer_norm(const std::vector<double>& x_TD, const std::vector<double>& weight_D,
                               const std::vector<double>& bias_D, double eps) {
  const std::size_t D = weight_D.size();
  std::vector<double> y_TD(x_TD.size());
  for (std::size_t row = 0; row < x_TD.size(); row += D) {
    double mean = 0.0, variance = 0.0;
    for (std::size_t i = 0; i < D; ++i) mean += x_TD[row + i] / static_cast<double>(D);
    for (std::size_t i = 0; i < D; ++i) variance += std::pow(x_TD[row + i] - mean, 2) / static_cast<double>(D);
    for (std::size_t i = 0; i < D; ++i)
      y_TD[row + i] =
          (x_TD[row + i] - mean) / std::sqrt(variance + eps) * weight_D[i] + (bias_D.empty() ? 0.0 : bias_D[i]);
  }
  return y_TD;
}

}  // namespace switchyard::oracle
