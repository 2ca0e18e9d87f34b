#include "oracle/matmul.hpp"

#include <cmath>

namespace switchyard::oracle {

MatmulReference matmul(ConstMatrix a, bool transpose_a, ConstMatrix b, bool transpose_b) {
  const Index m = transpose_a ? a.cols : a.rows;
  const Index k = transpose_a ? a.rows : a.cols;
  const Index n = transpose_b ? b.rows : b.cols;
  MatmulReference c;
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) {
      double value = 0.0, magnitude = 0.0;
      for (Index z = 0; z < k; ++z) {
        const double x = transpose_a ? a(z, i) : a(i, z);
        const double y = transpose_b ? b(j, z) : b(z, j);
        value += x * y;
        magnitude += std::abs(x * y);
      }
      c.value.push_back(value);
      c.magnitude.push_back(magnitude);
    }
  return c;
}

}  // namespace switchyard::oracle
