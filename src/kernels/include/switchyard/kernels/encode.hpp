#pragma once
// From float32 to numbers as a file holds them.

#include <cstddef>
#include <span>

#include "switchyard/tensor/dtype.hpp"

namespace switchyard::kernels {

// Whether encode() writes numbers of that type: F32, F16, BF16, Q8_0.
bool can_encode(DType dtype);

// The bytes of `from` as numbers of the type: F16 and BF16 rounded to nearest, ties to even; Q8_0 as quantise_q8_0 of
// tensor/quantised.hpp has it. Parallel inside the caller's arena. kInternal for other types, numbers that are not
// whole blocks, and where `to` is not exactly their size.
void encode(DType dtype, std::span<const float> from, std::span<std::byte> to);

}  // namespace switchyard::kernels
