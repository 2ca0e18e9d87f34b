#include "weight_tiles.hpp"

#include <algorithm>
#include <cstdint>

namespace switchyard::kernels {
namespace {

constexpr Index kTileStride = kKBlock + 16;

// The distance of elements in memory.
Index bytes(const WeightView& w, Index elements) {
  const DTypeInfo& type = dtype_info(w.dtype);
  return elements * type.block_bytes / type.block_elements;
}

// Runs of w.transposed(), which is `turned`: rows [row, row + n) of w side by side as columns of panels of k steps.
void decode_panels(const GemmKernels& g, const WeightView& turned, Index row, Index n, Index column, Index k,
                   float* panels) {
  constexpr Index kRuns = 8, kRunsAhead = 32;
  const Scratch runs(kRuns * n);
  const Index ahead = bytes(turned, kRunsAhead * turned.row_stride);
  for (Index z = 0; z < k; z += kRuns) {
    const Matrix part(runs.data(), std::min(kRuns, k - z), n);
    decode_rows(turned, column + z, row, part, ahead);
    for (Index i = 0; i < part.rows; ++i) g.pack_row(part.row(i), part.row(0), n, panels + (z + i) * g.nr, k * g.nr);
  }
}

void rows_of_weights_times_few(const GemmKernels& g, const WeightView& w, Index begin, Index end, const float* const* x,
                               Index count, float* const* c, bool add) {
  const Scratch scratch(weight_tile_floats(g.nr));
  alignas(64) float sums[kMaxFew * kMaxPanelColumns] = {};
  const float* at[kMaxFew];
  for (Index i = begin; i < end; i += g.nr) {
    const Index rows = std::min(g.nr, end - i);
    // A tile has nr rows; what is computed of those that are not there is not used.
    if (rows < g.nr) std::fill_n(scratch.data(), weight_tile_floats(g.nr), 0.0F);
    if (add)
      for (Index t = 0; t < count; ++t) std::copy_n(c[t] + i, rows, sums + t * g.nr);
    for (Index k0 = 0; k0 < w.cols; k0 += kKBlock) {
      const Index k = std::min(kKBlock, w.cols - k0);
      const WeightTile tile = decode_tile(w, i, rows, k0, k, scratch.data());
      Ahead ahead = next_tile(w, i, rows, k0, k, ceil_div(k, g.lanes));
      for (Index t = 0; t < count; ++t) at[t] = x[t] + k0;
      g.few_of_tile[count - 1](tile.data, tile.stride, k, at, sums, add || k0 > 0, ahead);
    }
    for (Index t = 0; t < count; ++t) std::copy_n(sums + t * g.nr, rows, c[t] + i);
  }
}

void columns_of_weights_times_few(const GemmKernels& g, const WeightView& w, Index begin, Index end,
                                  const float* const* x, Index count, float* const* c, bool add) {
  const Scratch scratch(kKBlock * round_up(kColumnMajorRows, g.nr));
  const WeightView turned = w.transposed();
  for (Index i = begin; i < end; i += kColumnMajorRows) {
    const Index rows = std::min(kColumnMajorRows, end - i);
    for (Index k0 = 0; k0 < w.cols; k0 += kKBlock) {
      const Index k = std::min(kKBlock, w.cols - k0);
      decode_panels(g, turned, i, rows, k0, k, scratch.data());
      for (Index j = 0; j < rows; j += g.nr)
        for (Index t = 0; t < count; ++t)
          multiply_block(g, LeftLayout::kRows, 1, k, x[t] + k0, 0, scratch.data() + j * k, c[t] + i + j, g.nr,
                         std::min(g.nr, rows - j), add || k0 > 0);
    }
  }
}

// Whether the numbers can be read by a kernel that takes rows of bf16.
bool is_bf16_matrix(const WeightView& w) {
  return w.dtype == DType::kBF16 && w.scales.data == nullptr && w.col_stride == 1 &&
         reinterpret_cast<std::uintptr_t>(w.data) % alignof(std::uint16_t) == 0;
}

}  // namespace

WeightTile decode_tile(const WeightView& w, Index row, Index m, Index column, Index k, float* room) {
  if (is_column_major(w)) {
    constexpr Index kRunsAhead = 32;
    const Index stride = round_up(m, 16);
    decode_rows(w.transposed(), column, row, {room, k, m, stride}, bytes(w, kRunsAhead * w.col_stride));
    return {room, stride, LeftLayout::kColumns};
  }
  decode_rows(w, row, column, {room, m, k, kTileStride});
  return {room, kTileStride, LeftLayout::kRows};
}

Ahead next_tile(const WeightView& w, Index row, Index m, Index column, Index k, Index steps) {
  if (is_column_major(w) || w.col_stride != 1) return {};
  const bool along = column + k < w.cols;
  if (!along && row + m >= w.rows) return {};
  const Index to_row = along ? row : row + m, to_column = along ? column + k : 0;
  return {w.data + bytes(w, to_row * w.row_stride + to_column), bytes(w, w.row_stride),
          bytes(w, std::min(kKBlock, w.cols - to_column)), std::min(m, w.rows - to_row), steps};
}

void weights_times_few(const GemmKernels& g, const WeightView& w, Index begin, Index end, const float* const* x,
                       Index count, float* const* c, bool add) {
  if (w.rows >= g.nr && w.is_matrix())
    rows_times_few(g, w.matrix(), begin, end, x, count, c, add);
  else if (w.rows >= g.nr && is_bf16_matrix(w))
    rows_times_few(g, {reinterpret_cast<const std::uint16_t*>(w.data), w.rows, w.cols, w.row_stride}, begin, end, x,
                   count, c, add);
  else if (is_column_major(w))
    columns_of_weights_times_few(g, w, begin, end, x, count, c, add);
  else
    rows_of_weights_times_few(g, w, begin, end, x, count, c, add);
}

void pack_weights(const GemmKernels& g, const WeightView& w, Index first, Index n, Index k0, Index k, float* panels) {
  if (is_column_major(w)) {
    decode_panels(g, w.transposed(), first, n, k0, k, panels);
    return;
  }
  const Scratch scratch(weight_tile_floats(g.nr));
  const float* rows[kMaxPanelColumns];
  for (Index j = 0; j < n; j += g.nr, panels += k * g.nr) {
    const Index m = std::min(g.nr, n - j);
    const Matrix tile(scratch.data(), m, k, kTileStride);
    decode_rows(w, first + j, k0, tile, bytes(w, g.nr * w.row_stride));
    for (Index i = 0; i < m; ++i) rows[i] = tile.row(i);
    g.pack_transposed(rows, m, k, panels);
  }
}

}  // namespace switchyard::kernels
