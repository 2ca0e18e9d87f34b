#pragma once
// The inner part of decoding: elements that follow each other in memory.

#include <cstddef>

#include "switchyard/tensor/weight.hpp"

namespace switchyard::kernels {

struct Runs {
  const std::byte* from = nullptr;
  Index from_stride = 0;      // bytes from one run to the next
  Index count = 0, size = 0;  // runs, and elements of each
  float* to = nullptr;
  Index to_stride = 0;
  // Element i of run r is multiplied by scales[r * scales_stride + (first + i) / block], where scales are given;
  // first < block.
  const float* scales = nullptr;
  Index scales_stride = 0, first = 0, block = 1;
  Index ahead = 0;  // where not 0, what lies that many bytes further on is brought into the cache
};

// Whether the elements of a column lie closer together than those of a row.
bool is_column_major(const WeightView& w);

// As decode() for a view that is not column-major, without its checks.
void decode_rows(const WeightView& w, Index row, Index column, Matrix to, Index ahead = 0);

// The same for quantised types, at any column: a block of which only a part is asked for is decoded on the side.
void decode_quantised(const WeightView& w, Index row, Index column, Matrix to, Index ahead);

}  // namespace switchyard::kernels
