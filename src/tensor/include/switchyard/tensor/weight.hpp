#pragma once
// A matrix of weights as its file holds it: any float type, perhaps with scales for blocks of elements, any strides.
// Kernels decode a few rows at a time into float32 where they multiply; no float32 copy of a weight is ever made.

#include <cstddef>

#include "switchyard/tensor/dtype.hpp"
#include "switchyard/tensor/view.hpp"

namespace switchyard {

// Factors of blocks of elements: that of element (r, c) of the matrix is
// grid[(first_row + r) / row_block][(first_column + c) / column_block]. DeepSeek-V3's FP8 has float32 factors of
// 128 x 128 blocks, gpt-oss' MXFP4 has E8M0 factors of 1 x 32.
struct WeightScales {
  const std::byte* data = nullptr;  // null: every factor is 1. Need not be aligned.
  DType dtype = DType::kF32;
  Index stride = 0;  // elements from one row of the grid to the next
  Index row_block = 1, column_block = 1;
  Index first_row = 0, first_column = 0;
  Index column_stride = 1;  // elements from one column of the grid to the next; not 1 where the view is transposed
};

// Element (r, c) is the number at data + (r * row_stride + c * col_stride) elements, times its scale. Data need not be
// aligned for its type. A type of several elements a block (F4: the two of a byte, the lower nibble first; quantised
// types: 32 or 256) needs col_stride 1, rows that begin on a block and a row_stride of whole blocks; quantised types
// have no scales beside them. Owns nothing; whoever made it keeps the memory alive.
struct WeightView {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  Index rows = 0, cols = 0;
  Index row_stride = 0, col_stride = 1;  // in elements
  WeightScales scales{};

  WeightView() = default;
  WeightView(ConstMatrix m)  // NOLINT(google-explicit-constructor): a float32 matrix is a weight as it is
      : data(reinterpret_cast<const std::byte*>(m.data)), rows(m.rows), cols(m.cols), row_stride(m.stride) {}
  WeightView(Matrix m) : WeightView(ConstMatrix(m)) {}  // NOLINT(google-explicit-constructor)

  bool empty() const { return rows == 0 || cols == 0; }
  // Whether kernels can read the rows in place: float32, aligned, contiguous columns, no scales.
  bool is_matrix() const;
  ConstMatrix matrix() const;  // kInternal where not is_matrix()
  // Parts. kInternal where they leave the view or begin within a block.
  WeightView slice_rows(Index begin, Index count) const;
  WeightView slice_cols(Index begin, Index count) const;
  WeightView transposed() const;  // kInternal for types of several elements a block
  // Throws kInternal where the type cannot be read as numbers, or the strides or blocks contradict what is said above.
  void check() const;
};

}  // namespace switchyard
