#pragma once
// Rotary embedding by its definition, in double, on contiguous rows: pair i of a head is turned by the angle
// position * frequency_i and stretched by the magnitude, as a complex number.

#include <cstdint>
#include <vector>

#include "switchyard/kernels/rope.hpp"

namespace switchyard::oracle {

// The scaled frequencies, each by the formula of its kind alone.
std::vector<double> rope_frequencies(Index rotary_dim, double theta, const kernels::RopeScaling& scaling,
                                     bool long_text = false);

std::vector<double> rope(std::vector<double> x_THC, Index head_dim, Index first,
                         const std::vector<std::int32_t>& position_T, const kernels::RopeTable& table,
                         kernels::RopePairing pairing);

}  // namespace switchyard::oracle
