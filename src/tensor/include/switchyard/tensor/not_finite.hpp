#pragma once
// Looking for numbers that are none.

#include <cstddef>
#include <span>

#include "switchyard/tensor/dtype.hpp"

namespace switchyard {

struct NotFinite {
  Index count = 0;   // of NaN and infinities
  Index first = -1;  // the element, -1 where there is none
};

// Of a tensor's bytes, which need not be aligned. A type without NaN or infinity has none. Parallel inside the caller's
// arena.
NotFinite find_not_finite(DType dtype, std::span<const std::byte> bytes);

}  // namespace switchyard
