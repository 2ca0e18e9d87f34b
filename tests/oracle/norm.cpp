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

}  // namespace switchyard::oracle
