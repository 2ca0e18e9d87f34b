#pragma once
// Weights as their file holds them, as operands of products: decoded in tiles that stay in the cache while they are
// multiplied. The bits are those of the same product with the float32 expansion.

#include "decode_runs.hpp"
#include "gemm.hpp"
#include "scratch.hpp"

namespace switchyard::kernels {

// Rows of a weight for one block of k, as the left operand of multiply_block.
struct WeightTile {
  const float* data = nullptr;
  Index stride = 0;
  LeftLayout layout = LeftLayout::kRows;
};

// Room for the tile of m rows.
inline Index weight_tile_floats(Index m) {
  constexpr Index kGap = 16;  // rows a power of two apart would share cache sets
  return round_up(m, 16) * (kKBlock + kGap);
}

// Rows [row, row + m) and columns [column, column + k) of w, k <= kKBlock, into `room` of weight_tile_floats(m).
WeightTile decode_tile(const WeightView& w, Index row, Index m, Index column, Index k, float* room);
// What follows that tile in memory when tiles are taken along the rows of w: the next block of k, or the first one of
// the next m rows. Nothing for a column-major weight, whose decoding looks ahead by itself.
Ahead next_tile(const WeightView& w, Index row, Index m, Index column, Index k, Index steps);

// Rows of a column-major weight that are worked on together: whole cache lines of every type.
inline constexpr Index kColumnMajorRows = 128;

// c[t][i] (+)= <row i of w, x[t]> for rows [begin, end) and t < count <= kMaxFew.
void weights_times_few(const GemmKernels& g, const WeightView& w, Index begin, Index end, const float* const* x,
                       Index count, float* const* c, bool add);

// Rows [first, first + n) of w, columns [k0, k0 + k), as panels of k steps whose columns are the rows of w.
void pack_weights(const GemmKernels& g, const WeightView& w, Index first, Index n, Index k0, Index k, float* panels);

// c_of(p)[m, nr] (+)= rows [row, row + m) of w times panel p, for every panel and all of k. `room` holds a tile.
template <class C>
void weights_times_panels(const GemmKernels& g, const WeightView& w, Index row, Index m, const Panels& panels,
                          const C& c_of, bool add, float* room) {
  const Index count = panels.count(g.nr);
  for (Index k0 = 0; k0 < w.cols; k0 += kKBlock) {
    const Index k = std::min(kKBlock, w.cols - k0);
    const WeightTile tile = decode_tile(w, row, m, k0, k, room);
    Ahead ahead = next_tile(w, row, m, k0, k, count * ceil_div(m, tile_rows(true, LeftLayout::kRows)));
    for (Index p = 0; p < count; ++p)
      multiply_block(g, tile.layout, m, k, tile.data, tile.stride, panels.at(p) + k0 * g.nr, c_of(p), g.nr,
                     panels.columns_of(p, g.nr), add || k0 > 0, &ahead);
  }
}

}  // namespace switchyard::kernels
