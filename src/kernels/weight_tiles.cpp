#include "weight_tiles.hpp"

#include <algorithm>

namespace switchyard::kernels {
namespace {

constexpr Index kTileStride = kKBlock + 16;

// How far behind the part of w that is being decoded the next one begins, in bytes: the next block of k, or the first
// one of the next m rows.
Index bytes_ahead(const WeightView& w, Index row, Index m, Index column, Index k) {
  const DTypeInfo& type = dtype_info(w.dtype);
  const auto bytes = [&](Index elements) { return elements * type.block_bytes / type.block_elements; };
  if (column + k < w.cols) return bytes(k * w.col_stride);
  return row + m < w.rows ? bytes(m * w.row_stride - column * w.col_stride) : 0;
}

// Rows [row, row + m) of w side by side as columns, m <= nr: [k][nr], zero where there is no row.
void decode_panel(const GemmKernels& g, const WeightView& turned, Index row, Index m, Index column, Index k,
                  float* panel, Index ahead) {
  if (m < g.nr) std::fill_n(panel, k * g.nr, 0.0F);
  decode_rows(turned, column, row, {panel, k, m, g.nr}, ahead);
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
      decode_rows(w, i, k0, {scratch.data(), rows, k, kTileStride}, bytes_ahead(w, i, rows, k0, k));
      for (Index t = 0; t < count; ++t) at[t] = x[t] + k0;
      g.few_of_tile[count - 1](scratch.data(), kTileStride, k, at, sums, add || k0 > 0);
    }
    for (Index t = 0; t < count; ++t) std::copy_n(sums + t * g.nr, rows, c[t] + i);
  }
}

// Runs of many rows at a time, so that the cache lines are used as a whole while they are in the cache.
void columns_of_weights_times_few(const GemmKernels& g, const WeightView& w, Index begin, Index end,
                                  const float* const* x, Index count, float* const* c, bool add) {
  const Scratch scratch(kKBlock * g.nr);
  const WeightView turned = w.transposed();
  for (Index i = begin; i < end; i += kColumnMajorRows) {
    const Index rows = std::min(kColumnMajorRows, end - i);
    for (Index k0 = 0; k0 < w.cols; k0 += kKBlock) {
      const Index k = std::min(kKBlock, w.cols - k0);
      const Index ahead = bytes_ahead(w, i, kColumnMajorRows, k0, k);
      for (Index j = 0; j < rows; j += g.nr) {
        const Index m = std::min(g.nr, rows - j);
        decode_panel(g, turned, i + j, m, k0, k, scratch.data(), ahead);
        for (Index t = 0; t < count; ++t)
          multiply_block(g, LeftLayout::kRows, 1, k, x[t] + k0, 0, scratch.data(), c[t] + i + j, g.nr, m,
                         add || k0 > 0);
      }
    }
  }
}

}  // namespace

WeightTile decode_tile(const WeightView& w, Index row, Index m, Index column, Index k, float* room) {
  const Index ahead = bytes_ahead(w, row, m, column, k);
  if (is_column_major(w)) {
    const Index stride = round_up(m, 16);
    decode_rows(w.transposed(), column, row, {room, k, m, stride}, ahead);
    return {room, stride, LeftLayout::kColumns};
  }
  decode_rows(w, row, column, {room, m, k, kTileStride}, ahead);
  return {room, kTileStride, LeftLayout::kRows};
}

void weights_times_few(const GemmKernels& g, const WeightView& w, Index begin, Index end, const float* const* x,
                       Index count, float* const* c, bool add) {
  if (w.rows >= g.nr && w.is_matrix())
    rows_times_few(g, w.matrix(), begin, end, x, count, c, add);
  else if (is_column_major(w))
    columns_of_weights_times_few(g, w, begin, end, x, count, c, add);
  else
    rows_of_weights_times_few(g, w, begin, end, x, count, c, add);
}

void pack_weights(const GemmKernels& g, const WeightView& w, Index first, Index n, Index k0, Index k, float* panels) {
  const bool columns = is_column_major(w);
  const Scratch scratch(columns ? 0 : weight_tile_floats(g.nr));
  const float* rows[kMaxPanelColumns];
  for (Index j = 0; j < n; j += g.nr, panels += k * g.nr) {
    const Index m = std::min(g.nr, n - j);
    if (columns) {
      decode_panel(g, w.transposed(), first + j, m, k0, k, panels, 0);
      continue;
    }
    const WeightTile tile = decode_tile(w, first + j, m, k0, k, scratch.data());
    for (Index i = 0; i < m; ++i) rows[i] = tile.data + i * tile.stride;
    g.pack_transposed(rows, m, k, panels);
  }
}

}  // namespace switchyard::kernels
