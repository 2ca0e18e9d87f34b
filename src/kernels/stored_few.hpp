#pragma once
// Products of one to four rows with stored weights, as in decoding: the weights stream through once and are decoded in
// registers, word by word.

#include <cstddef>

#include "gemm.hpp"
#include "switchyard/tensor/dtype.hpp"

namespace switchyard::kernels {

// Consecutive rows of a weight whose columns follow each other in memory.
struct StoredRows {
  const std::byte* data = nullptr;
  Index stride = 0;  // bytes from one row to the next
  Index k = 0;
  // Column c of row r is multiplied by factors[(c >> block_log2) * factors_stride + r], its scale times
  // StoredFewKernel::factor; where that factor is 1, there are no scales and nothing is read. block_log2 >= 5.
  const float* factors = nullptr;
  Index factors_stride = 0;
  int block_log2 = 0;
};

// c[t][i] (+)= <row i, x[t]> for t < count and i < rows. The bits are those of the tiles with the decoded weights.
using StoredFew = void (*)(const StoredRows& w, const float* const* x, float* const* c, bool add);

struct StoredFewKernel {
  StoredFew many[kMaxFew] = {};  // [count - 1]: of 4 * lanes rows, null where `some` serves
  StoredFew some[kMaxFew] = {};  // of 2 * lanes rows
  float factor = 1.0F;           // a power of two
};

// Null for types that have no such kernel.
const StoredFewKernel* stored_few_kernel(DType dtype);

}  // namespace switchyard::kernels
