#pragma once
// Rows of length 1, and the gradient through making them so.

#include <cmath>
#include <vector>

#include "switchyard/tensor/tensor.hpp"

namespace switchyard::moe {

struct UnitRows {
  // Row / sqrt(sum of its squares + epsilon).
  UnitRows(ConstMatrix m, double epsilon)
      : unit(Tensor::uninitialized(DType::kF32, {m.rows, m.cols})), length(static_cast<std::size_t>(m.rows)) {
    const Matrix to = unit.matrix();
    for (Index r = 0; r < m.rows; ++r) {
      double sum = epsilon;
      for (Index c = 0; c < m.cols; ++c) sum += static_cast<double>(m(r, c)) * static_cast<double>(m(r, c));
      const auto norm = static_cast<float>(std::sqrt(sum));
      length[static_cast<std::size_t>(r)] = norm;
      for (Index c = 0; c < m.cols; ++c) to(r, c) = m(r, c) / norm;
    }
  }
  // dL/dm from dL/dunit, in place: (d - unit <d, unit>) / length.
  void backward(Matrix d) const {
    const ConstMatrix u = unit.matrix();
    for (Index r = 0; r < d.rows; ++r) {
      float along = 0.0F;
      for (Index c = 0; c < d.cols; ++c) along += d(r, c) * u(r, c);
      for (Index c = 0; c < d.cols; ++c) d(r, c) = (d(r, c) - u(r, c) * along) / length[static_cast<std::size_t>(r)];
    }
  }
  Tensor unit;
  std::vector<float> length;
};

}  // namespace switchyard::moe
