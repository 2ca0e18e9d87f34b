#pragma once
// Small helpers of the tests of the tape.

#include <string>
#include <vector>

#include "oracle/compare.hpp"
#include "oracle/finite_difference.hpp"
#include "switchyard/autograd/ops.hpp"

namespace switchyard::autograd {

inline Tensor tensor_of(const Shape& shape, const std::vector<float>& values) {
  Tensor tensor = Tensor::uninitialized(DType::kF32, shape);
  std::copy(values.begin(), values.end(), tensor.f32().begin());
  return tensor;
}

inline Parameter parameter_of(const Shape& shape, const std::vector<float>& values,
                              ParameterRole role = ParameterRole::kMatrix) {
  Parameter parameter;
  parameter.role = role;
  parameter.value = tensor_of(shape, values);
  return parameter;
}

inline std::span<const float> values_of(const Value& value) { return value.tensor().f32(); }
inline std::span<const float> gradient_of(const Value& value) { return value.grad().f32(); }
inline std::span<const float> gradient_of(const Parameter& parameter) { return parameter.grad.f32(); }

// Puts `weights` on y as its gradient and runs the tape: the gradient of dot(weights, y).
inline void backward_from(Tape& tape, const Value& y, const std::vector<float>& weights) {
  y.accumulate_grad(tensor_of(y.tensor().shape(), weights));
  tape.backward();
}

inline std::vector<double> as_double(std::span<const float> values) { return oracle::to_double(values); }

}  // namespace switchyard::autograd
