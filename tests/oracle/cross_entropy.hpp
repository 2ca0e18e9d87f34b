#pragma once
// Output projection and softmax cross-entropy by definition, in double, on contiguous rows.

#include <cstdint>
#include <vector>

namespace switchyard::oracle {

// An empty bias is zero. The loss of every token, 0 where its target is kernels::kIgnoreTarget.
std::vector<double> cross_entropy(const std::vector<double>& x_TD, const std::vector<double>& w_VD,
                                  const std::vector<std::int32_t>& target_T, const std::vector<double>& bias_V = {});

}  // namespace switchyard::oracle
