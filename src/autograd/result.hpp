#pragma once
// What the ops share: views of parameters and of fresh memory.

#include <span>

#include "switchyard/autograd/value.hpp"

namespace switchyard::autograd {

inline Tensor uninitialized(const Shape& shape) { return Tensor::uninitialized(DType::kF32, shape); }

// An optional parameter that does not exist has an empty view and wants no gradient.
inline bool wants_grad(const Parameter* parameter) { return parameter != nullptr && parameter->wants_grad(); }
inline WeightView weight_of(const Parameter* parameter) {
  return parameter == nullptr ? WeightView() : parameter->weight();
}
// In float32: what gradients and routers need. kInternal where the weights are stored otherwise.
inline ConstMatrix matrix_of(const Parameter& parameter) { return parameter.weight().matrix(); }
inline ConstMatrix matrix_of(const Parameter* parameter) {
  return parameter == nullptr ? ConstMatrix() : matrix_of(*parameter);
}
inline std::span<const float> values_of(const Parameter* parameter) {
  return parameter == nullptr ? std::span<const float>() : parameter->value.f32();
}
// Empty where no gradient is wanted.
inline std::span<float> gradient_of(Parameter* parameter) {
  return wants_grad(parameter) ? parameter->ensure_grad().f32() : std::span<float>();
}
inline Matrix gradient_matrix_of(Parameter* parameter) {
  return wants_grad(parameter) ? parameter->ensure_grad().matrix() : Matrix();
}

// The tensor's elements as rows of `width`.
inline ConstMatrix groups_of(const Tensor& tensor, Index width) {
  return {tensor.f32().data(), tensor.numel() / width, width};
}
inline Matrix groups_of(Tensor& tensor, Index width) { return {tensor.f32().data(), tensor.numel() / width, width}; }

}  // namespace switchyard::autograd
