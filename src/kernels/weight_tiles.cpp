#include "weight_tiles.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "stored_few.hpp"

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

// Up to nr rows, in tiles.
void tiles_times_few(const GemmKernels& g, const WeightView& w, Index row, Index rows, const float* const* x,
                     Index count, float* const* c, bool add) {
  const Scratch scratch(weight_tile_floats(g.nr));
  alignas(64) float sums[kMaxFew * kMaxPanelColumns] = {};
  const float* at[kMaxFew];
  // A tile has nr rows; what is computed of those that are not there is not used.
  if (rows < g.nr) std::fill_n(scratch.data(), weight_tile_floats(g.nr), 0.0F);
  if (add)
    for (Index t = 0; t < count; ++t) std::copy_n(c[t] + row, rows, sums + t * g.nr);
  for (Index k0 = 0; k0 < w.cols; k0 += kKBlock) {
    const Index k = std::min(kKBlock, w.cols - k0);
    const WeightTile tile = decode_tile(w, row, rows, k0, k, scratch.data());
    Ahead ahead = next_tile(w, row, rows, k0, k, ceil_div(k, g.lanes));
    for (Index t = 0; t < count; ++t) at[t] = x[t] + k0;
    g.few_of_tile[count - 1](tile.data, tile.stride, k, at, sums, add || k0 > 0, ahead);
  }
  for (Index t = 0; t < count; ++t) std::copy_n(sums + t * g.nr, rows, c[t] + row);
}

// The kernel of stored_few.hpp for w, null where there is none. Scales must be of blocks of a power of two columns that
// begin with the view.
const StoredFewKernel* few_kernel_of(const WeightView& w) {
  const StoredFewKernel* kernel = w.col_stride == 1 ? stored_few_kernel(w.dtype) : nullptr;
  const WeightScales& s = w.scales;
  if (kernel == nullptr || s.data == nullptr) return kernel;
  const bool fits = kernel->factor != 1.0F && s.column_block >= 32 && s.first_column % s.column_block == 0 &&
                    std::has_single_bit(static_cast<std::uint64_t>(s.column_block));
  return fits ? kernel : nullptr;
}

// The scales of rows [row, row + rows) times `factor`, as StoredRows wants them. False where a product overflows.
bool lay_out_factors(const WeightView& w, Index row, Index rows, Index blocks, float factor, float* factors) {
  const WeightScales& s = w.scales;
  WeightView grid;
  grid.data = s.data;
  grid.dtype = s.dtype;
  grid.row_stride = s.stride;
  grid.col_stride = s.column_stride;
  const Scratch decoded(blocks);
  Index before = -1;
  bool fits = true;
  for (Index r = 0; r < rows; ++r) {
    const Index grid_row = (s.first_row + row + r) / s.row_block;
    if (grid_row != before) decode_rows(grid, grid_row, s.first_column / s.column_block, {decoded.data(), 1, blocks});
    before = grid_row;
    for (Index b = 0; b < blocks; ++b) {
      const float scale = decoded.data()[b];
      factors[b * rows + r] = scale * factor;
      fits = fits && (std::isfinite(scale * factor) || !std::isfinite(scale));
    }
  }
  return fits;
}

void rows_of_weights_times_few(const GemmKernels& g, const WeightView& w, Index begin, Index end, const float* const* x,
                               Index count, float* const* c, bool add) {
  const StoredFewKernel* kernel = few_kernel_of(w);
  const bool scaled = w.scales.data != nullptr;
  const Index blocks = scaled ? ceil_div(w.cols, w.scales.column_block) : 1, most = 4 * g.lanes;
  const Scratch factors(blocks * most);
  if (kernel != nullptr) std::fill_n(factors.data(), most, kernel->factor);
  float* at[kMaxFew];
  Index rows = 0;
  for (Index i = begin; i < end; i += rows) {
    StoredFew few = nullptr;
    if (kernel != nullptr && end - i >= most) few = kernel->many[count - 1];
    rows = few != nullptr ? most : std::min(g.nr, end - i);
    if (kernel != nullptr && few == nullptr && rows == g.nr) few = kernel->some[count - 1];
    if (few == nullptr || (scaled && !lay_out_factors(w, i, rows, blocks, kernel->factor, factors.data()))) {
      for (Index j = i; j < i + rows; j += g.nr)
        tiles_times_few(g, w, j, std::min(g.nr, i + rows - j), x, count, c, add);
      continue;
    }
    StoredRows part;
    part.data = w.data + bytes(w, i * w.row_stride);
    part.stride = bytes(w, w.row_stride);
    part.k = w.cols;
    part.factors = factors.data();
    part.factors_stride = rows;
    part.block_log2 = scaled ? std::countr_zero(static_cast<std::uint64_t>(w.scales.column_block)) : 62;
    for (Index t = 0; t < count; ++t) at[t] = c[t] + i;
    few(part, x, at, add);
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
