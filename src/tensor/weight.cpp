#include "switchyard/tensor/weight.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "switchyard/base/error.hpp"

namespace switchyard {
namespace {

// What cannot be cut.
const char* unit(const DTypeInfo& info) { return info.is_quantised ? "block" : "byte"; }

// Bytes from one element to another one that many elements away.
Index distance(DType dtype, Index elements) {
  const DTypeInfo& info = dtype_info(dtype);
  require(elements % info.block_elements == 0, "a part of a weight of {} begins within a {}", info.name, unit(info));
  return elements / info.block_elements * info.block_bytes;
}

}  // namespace

bool WeightView::is_matrix() const {
  return dtype == DType::kF32 && scales.data == nullptr && (cols <= 1 || col_stride == 1) &&
         (rows <= 1 || row_stride >= cols) && reinterpret_cast<std::uintptr_t>(data) % alignof(float) == 0;
}

ConstMatrix WeightView::matrix() const {
  require(is_matrix(), "a weight [{}, {}] of {} with strides {} and {}{} was read in place", rows, cols,
          dtype_info(dtype).name, row_stride, col_stride, scales.data == nullptr ? "" : " and scales");
  return {reinterpret_cast<const float*>(data), rows, cols, std::max(row_stride, cols)};
}

WeightView WeightView::slice_rows(Index begin, Index count) const {
  require(begin >= 0 && count >= 0 && begin + count <= rows, "rows [{}, {}) of a weight of {}", begin, begin + count,
          rows);
  WeightView part = *this;
  if (count > 0) part.data += distance(dtype, begin * row_stride);
  part.rows = count;
  part.scales.first_row += begin;
  return part;
}

WeightView WeightView::slice_cols(Index begin, Index count) const {
  require(begin >= 0 && count >= 0 && begin + count <= cols, "columns [{}, {}) of a weight of {}", begin, begin + count,
          cols);
  WeightView part = *this;
  if (count > 0) part.data += distance(dtype, begin * col_stride);
  part.cols = count;
  part.scales.first_column += begin;
  return part;
}

WeightView WeightView::transposed() const {
  require(dtype_info(dtype).block_elements == 1, "a weight of {} cannot be transposed", dtype_info(dtype).name);
  WeightView t = *this;
  std::swap(t.rows, t.cols);
  std::swap(t.row_stride, t.col_stride);
  std::swap(t.scales.stride, t.scales.column_stride);
  std::swap(t.scales.row_block, t.scales.column_block);
  std::swap(t.scales.first_row, t.scales.first_column);
  return t;
}

void WeightView::check() const {
  const DTypeInfo& info = dtype_info(dtype);
  require(rows >= 0 && cols >= 0 && (empty() || data != nullptr), "a weight [{}, {}] without data", rows, cols);
  require(info.is_float, "a weight of type {}, expected a float type", info.name);
  require(info.block_elements == 1 || ((cols <= 1 || col_stride == 1) && row_stride % info.block_elements == 0),
          "a weight of {} with strides {} and {}, expected rows of whole {}s", info.name, row_stride, col_stride,
          unit(info));
  if (scales.data == nullptr) return;
  require(!info.is_quantised, "a weight of {}, which has its own scales, with scales beside it", info.name);
  const DTypeInfo& factors = dtype_info(scales.dtype);
  require(factors.is_float && factors.block_elements == 1, "a weight with scales of type {}", factors.name);
  require(scales.row_block >= 1 && scales.column_block >= 1 && scales.first_row >= 0 && scales.first_column >= 0,
          "a weight with scales of blocks {} x {} from {}, {} on", scales.row_block, scales.column_block,
          scales.first_row, scales.first_column);
}

}  // namespace switchyard
