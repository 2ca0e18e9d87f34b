#pragma once
// Matrix products in double, straight from the definition.

#include <vector>

#include "switchyard/tensor/view.hpp"

namespace switchyard::oracle {

struct MatmulReference {
  std::vector<double> value;      // [M, N]
  std::vector<double> magnitude;  // [M, N]: the same sums over absolute values, which bound the rounding error
};

// element (i, j) = sum_k a(i, k) b(k, j), where `transpose_a` reads a[k, i] and `transpose_b` reads b[j, k].
MatmulReference matmul(ConstMatrix a, bool transpose_a, ConstMatrix b, bool transpose_b);

}  // namespace switchyard::oracle
