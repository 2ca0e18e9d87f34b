#pragma once
// Rotary embedding by its definition, in double, on contiguous rows: pair i of a head is turned by the angle
// position * frequency_i, as a complex number.

#include <cstdint>
#include <vector>

#include "switchyard/kernels/rope.hpp"

namespace switchyard::oracle {

std::vector<double> rope(std::vector<double> x_THC, Index head_dim, const std::vector<std::int32_t>& position_T,
                         const std::vector<float>& frequencies, kernels::RopePairing pairing);

}  // namespace switchyard::oracle
