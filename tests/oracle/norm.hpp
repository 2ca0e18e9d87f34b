#pragma once
// RMSNorm and LayerNorm by their definitions, in double, on contiguous rows.

#include <vector>

namespace switchyard::oracle {

std::vector<double> rms_norm(const std::vector<double>& x_TD, const std::vector<double>& weight_D, double eps);
// An empty bias is zero.
std::vector<double> layer_norm(const std::vector<double>& x_TD, const std::vector<double>& weight_D,
                               const std::vector<double>& bias_D, double eps);

}  // namespace switchyard::oracle
