#pragma once
// Dense row-major tensors of rank 0 to 8.

#include <array>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "switchyard/base/error.hpp"
#include "switchyard/tensor/dtype.hpp"
#include "switchyard/tensor/half.hpp"
#include "switchyard/tensor/view.hpp"

namespace switchyard {

class Shape {
 public:
  static constexpr int kMaxRank = 8;
  Shape() = default;  // rank 0: one element
  Shape(std::initializer_list<Index> dims) : Shape(std::span<const Index>(dims.begin(), dims.size())) {}
  // Throws kBadInput where a dimension is negative, the rank exceeds kMaxRank or the product overflows.
  explicit Shape(std::span<const Index> dims);

  int rank() const { return rank_; }
  Index operator[](int axis) const { return dims_[static_cast<std::size_t>(axis)]; }
  std::span<const Index> dims() const { return {dims_.data(), static_cast<std::size_t>(rank_)}; }
  Index numel() const;
  std::string to_string() const;  // "[2, 3]"
  friend bool operator==(const Shape& a, const Shape& b) = default;

 private:
  std::array<Index, kMaxRank> dims_{};
  int rank_ = 0;
};

// The DType of a C++ type: float, double, BFloat16, Float16, integers.
template <class T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::kF32;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::kF64;
}
template <>
constexpr DType dtype_of<BFloat16>() {
  return DType::kBF16;
}
template <>
constexpr DType dtype_of<Float16>() {
  return DType::kF16;
}
template <>
constexpr DType dtype_of<std::int32_t>() {
  return DType::kI32;
}
template <>
constexpr DType dtype_of<std::int64_t>() {
  return DType::kI64;
}
template <>
constexpr DType dtype_of<std::uint8_t>() {
  return DType::kU8;
}

// Owns its memory (64-byte aligned), or reads somebody else's that it keeps alive, such as a mapped file. Move-only,
// so that nothing large is held twice by accident; clone() copies on purpose. Not synchronised: several threads may
// read one tensor, or write disjoint parts of it.
class Tensor {
 public:
  Tensor() = default;  // holds nothing; defined() is false
  static Tensor zeros(DType dtype, const Shape& shape);
  static Tensor uninitialized(DType dtype, const Shape& shape);
  // Read-only view of `bytes`, which must be exactly the tensor's size. Where they are not aligned for the type, only
  // bytes(), clone() and to_f32() work; values() throws kInternal.
  static Tensor borrowed(DType dtype, const Shape& shape, std::span<const std::byte> bytes,
                         std::shared_ptr<const void> keep_alive);
  Tensor(Tensor&&) = default;
  Tensor& operator=(Tensor&&) = default;
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;
  Tensor clone() const;
  // A float32 copy, converting from any float type. Throws kUnsupported for integer types.
  Tensor to_f32() const;

  bool defined() const { return memory_ != nullptr; }
  bool writable() const { return writable_; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  Index numel() const { return shape_.numel(); }
  // The same memory under another shape of as many elements.
  void reshape(const Shape& shape);

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::span<std::byte> mutable_bytes();

  // Typed access; T must be the tensor's type (kInternal otherwise). The mutable form throws where borrowed.
  template <class T>
  std::span<const T> values() const {
    check_type(dtype_of<T>());
    return {reinterpret_cast<const T*>(data_), static_cast<std::size_t>(numel())};
  }
  template <class T>
  std::span<T> mutable_values() {
    check_type(dtype_of<T>());
    check_writable();
    return {reinterpret_cast<T*>(data_), static_cast<std::size_t>(numel())};
  }
  std::span<const float> f32() const { return values<float>(); }
  std::span<float> f32() { return mutable_values<float>(); }

  // float32 with all axes but the last folded into rows. Rank 1 is one row.
  ConstMatrix matrix() const;
  Matrix matrix();
  // float32 of rank 3, [N, R, C]: the i-th [R, C].
  ConstMatrix matrix(Index i) const;
  Matrix matrix(Index i);

 private:
  void check_type(DType wanted) const;
  void check_writable() const;
  DType dtype_ = DType::kF32;
  Shape shape_;
  std::shared_ptr<const void> memory_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  bool writable_ = false;
};

// What owning tensors hold in this process. Borrowed memory does not count. Thread-safe.
struct TensorMemory {
  Index current_bytes = 0;
  Index peak_bytes = 0;  // since the last reset
};
TensorMemory tensor_memory();
void reset_tensor_memory_peak();

}  // namespace switchyard
