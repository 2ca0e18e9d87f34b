#pragma once
// Two-dimensional views: a pointer, a shape and a row stride. Views own nothing and are passed by value; whoever made
// one keeps the memory alive.

#include <cstddef>
#include <span>
#include <type_traits>

#include "switchyard/base/index.hpp"

namespace switchyard {

template <class T>
struct MatrixView {
  T* data = nullptr;
  Index rows = 0;
  Index cols = 0;
  Index stride = 0;  // elements from one row to the next, >= cols

  MatrixView() = default;
  MatrixView(T* d, Index r, Index c) : data(d), rows(r), cols(c), stride(c) {}
  MatrixView(T* d, Index r, Index c, Index s) : data(d), rows(r), cols(c), stride(s) {}
  // A mutable view converts to a read-only one.
  template <class U>
  requires(std::is_same_v<const U, T> && !std::is_const_v<U>)
      MatrixView(const MatrixView<U>& other)  // NOLINT(google-explicit-constructor)
      : data(other.data), rows(other.rows), cols(other.cols), stride(other.stride) {}

  T* row(Index i) const { return data + i * stride; }
  std::span<T> row_span(Index i) const { return {row(i), static_cast<std::size_t>(cols)}; }
  T& operator()(Index i, Index j) const { return data[i * stride + j]; }
  bool empty() const { return rows == 0 || cols == 0; }
  // Rows [begin, begin + count).
  MatrixView slice_rows(Index begin, Index count) const { return {row(begin), count, cols, stride}; }
  // Columns [begin, begin + count).
  MatrixView slice_cols(Index begin, Index count) const { return {data + begin, rows, count, stride}; }
};

using Matrix = MatrixView<float>;
using ConstMatrix = MatrixView<const float>;

}  // namespace switchyard
