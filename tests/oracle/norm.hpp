#pragma once
// RMSNorm by its definition, in double, on contiguous rows.

#include <vector>

namespace switchyard::oracle {

std::vector<double> rms_norm(const std::vector<double>& x_TD, const std::vector<double>& weight_D, double eps);

}  // namespace switchyard::oracle
