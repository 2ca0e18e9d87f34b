#pragma once
// The inner parts of every float32 product: micro-kernels, chosen once for the instruction set of the machine, and the
// ways to bring operands into the order that they read.
//
// A *panel* is a block of up to kernels.nr columns of the right operand, stored [k][nr]; missing columns are zero. A
// micro-kernel computes a tile of a few rows by one panel for one block of at most kKBlock steps of k, with the tile
// in registers: every element is one chain of multiply-adds over k in ascending order, whatever the size of the tile.
// Block sums are added to c in ascending order. That fixes the bits of every product in this folder.

#include <algorithm>
#include <atomic>
#include <utility>

#include "switchyard/base/index.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/tensor/view.hpp"

namespace switchyard::kernels {

inline constexpr Index kKBlock = 256;  // part of the numerics: changing it changes results in the last bits
inline constexpr Index kMaxTileRows = 8;
inline constexpr Index kMaxPanelColumns = 32;  // over all instruction sets
inline constexpr Index kMaxFew = 4;

// How the left operand lies in memory: the address of element (i, k) of a tile.
enum class LeftLayout {
  kRows,     // a[i * stride + k]: row-major, read in place
  kColumns,  // a[i + k * stride]: transposed, packed or a panel whose columns are the rows of the tile
  kPanels,   // a[(k / nr) * stride + i * nr + k % nr]: k runs over the columns of consecutive panels
};

// c[i * c_stride + j] = sum over k, or += where `add`. b is a panel from the block's first k on. Only `columns` columns
// of c are touched.
using TileKernel = void (*)(Index k, const float* a, Index a_stride, const float* b, float* c, Index c_stride,
                            Index columns, bool add);

// Brings a part of the left operand into the cache while another one is worked on: each step asks for a few lines, so
// that the misses of a step overlap with the arithmetic of one tile.
class Ahead {
 public:
  Ahead() = default;
  // `rows` rows of `bytes` bytes that begin `stride` bytes apart, within `steps` steps.
  Ahead(const void* at, Index stride, Index bytes, Index rows, Index steps)
      : at_(static_cast<const char*>(at)), stride_(stride), bytes_(bytes), rows_(rows) {
    if (stride_ == bytes_) {  // one long row
      bytes_ *= rows_;
      rows_ = std::min<Index>(rows_, 1);
    }
    lines_a_step_ = steps > 0 ? ceil_div(rows_ * ceil_div(bytes_, kLine), steps) : 0;
  }
  // Rows [row, row + rows) of a.
  Ahead(ConstMatrix a, Index row, Index rows, Index steps)
      : Ahead(a.row(row), a.stride * kFloat, a.cols * kFloat, std::min(rows, a.rows - row), steps) {}
  void step() {
    Index lines = lines_a_step_;
    while (lines > 0 && rows_ > 0) {
      const Index end = std::min(byte_ + lines * kLine, bytes_);
      for (; byte_ < end; byte_ += kLine, --lines) __builtin_prefetch(at_ + byte_, 0, 2);
      if (byte_ < bytes_) break;
      byte_ = 0;
      at_ += stride_;
      --rows_;
    }
  }

 private:
  static constexpr Index kLine = 64, kFloat = sizeof(float);
  const char* at_ = nullptr;
  Index stride_ = 0, bytes_ = 0, rows_ = 0, byte_ = 0, lines_a_step_ = 0;
};

using FewKernel = void (*)(const float* w, Index w_stride, Index k, const float* const* x, float* const* c, Index skip,
                           bool add);

using FewOfTileKernel = void (*)(const float* w, Index w_stride, Index k, const float* const* x, float* sums, bool add,
                                 Ahead& ahead);

struct GemmKernels {
  Index lanes;  // floats in a vector
  Index nr;     // columns of a panel, 2 * lanes
  // [layout][columns <= lanes ? 0 : 1][rows - 1]. Panels of at most `lanes` columns have tiles of one vector.
  TileKernel tile[3][2][kMaxTileRows];
  // [count - 1]: c[t][i] (+)= sum over all k of w[i * w_stride + k] * x[t][k] for t < count and skip <= i < nr. Reads
  // nr rows of w. The bits are those of the tiles; the vector runs along the rows of w, so that a lone x fills it.
  FewKernel few[kMaxFew];
  // [count - 1]: the same for one block of k <= kKBlock, all nr rows and weights that are in the cache: sums[t * nr +
  // i]
  // (+)= sum over k of w[i * w_stride + k] * x[t][k].
  FewOfTileKernel few_of_tile[kMaxFew];
  // panel[j * nr + i] = rows[i][j] for i < count, 0 for count <= i < nr; j < k.
  void (*pack_transposed)(const float* const* rows, Index count, Index k, float* panel);
  // The reverse: rows[i][j] = panel[j * nr + i] * scale[i] for i < count, j < k. scale has nr elements, or is null.
  void (*unpack_transposed)(const float* panel, Index count, Index k, const float* scale, float* const* rows);
  // One row of a right operand: to[(j / nr) * panel_stride + j % nr] = row[j] for j < n, zero up to a whole panel.
  // `ahead` is a row that will be packed soon; it is only prefetched and need not be valid.
  void (*pack_row)(const float* row, const float* ahead, Index n, float* to, Index panel_stride);
};

const GemmKernels& gemm_kernels();

// The most rows of a tile: one-vector tiles need more rows to hide the latency of multiply-add.
constexpr Index tile_rows(bool one_vector, LeftLayout layout) {
  return one_vector && layout == LeftLayout::kRows ? 8 : 6;
}

// Calls f(first, rows) on tiles of nearly equal height that cover [0, m).
template <class F>
void for_each_tile(Index m, Index most_rows, F&& f) {
  const Index tiles = ceil_div(m, most_rows);
  if (tiles == 0) return;
  const Index base = m / tiles, larger = m % tiles;
  Index i = 0;
  for (Index t = 0; t < tiles; ++t) {
    const Index rows = base + (t < larger ? 1 : 0);
    f(i, rows);
    i += rows;
  }
}

// c[m, columns] (+)= a * panel over one block of k.
inline void multiply_block(const GemmKernels& g, LeftLayout layout, Index m, Index k, const float* a, Index a_stride,
                           const float* panel, float* c, Index c_stride, Index columns, bool add,
                           Ahead* ahead = nullptr) {
  const bool one_vector = columns <= g.lanes;
  const TileKernel* tiles = g.tile[static_cast<int>(layout)][one_vector ? 0 : 1];
  const Index row_step = layout == LeftLayout::kRows ? a_stride : layout == LeftLayout::kColumns ? 1 : g.nr;
  for_each_tile(m, tile_rows(one_vector, layout), [&](Index i, Index rows) {
    if (ahead != nullptr) ahead->step();
    tiles[rows - 1](k, a + i * row_step, a_stride, panel, c + i * c_stride, c_stride, columns, add);
  });
}

// Several panels of activations ([k][nr] each, `stride` floats from one to the next), the last of them narrow.
struct Panels {
  float* data = nullptr;
  Index stride = 0;
  Index columns = 0;  // in all panels together

  float* at(Index p) const { return data + p * stride; }
  Index count(Index nr) const { return ceil_div(columns, nr); }
  Index columns_of(Index p, Index nr) const { return std::min(nr, columns - p * nr); }
};

// c[m, columns of panel p] (+)= a[m, k] * panel p, for all of k. a is read in place (kRows) and c has rows of nr.
void rows_times_panel(const GemmKernels& g, const float* a, Index a_stride, Index m, Index k, const float* panel,
                      Index columns, float* c, bool add, Ahead* ahead = nullptr);

// c[t][i] (+)= <w row i, x[t]> for rows [begin, end) of w and t < count <= kMaxFew. w has at least nr rows.
void rows_times_few(const GemmKernels& g, ConstMatrix w, Index begin, Index end, const float* const* x, Index count,
                    float* const* c, bool add);

// Rows of `source` (each k floats) to panels; row(i) gives the address of the i-th.
template <class Row>
void pack_rows_transposed(const GemmKernels& g, const Row& row, Index first_panel, Index last_panel, Index k,
                          const Panels& to) {
  for (Index p = first_panel; p < last_panel; ++p) {
    const float* rows[kMaxPanelColumns];
    const Index count = to.columns_of(p, g.nr);
    for (Index i = 0; i < count; ++i) rows[i] = row(p * g.nr + i);
    g.pack_transposed(rows, count, k, to.at(p));
  }
}

// Rows [row, row + k) by columns [column, column + n) of b to panels of k steps.
void pack_rows(const GemmKernels& g, ConstMatrix b, Index row, Index k, Index column, Index n, float* panels);

// a^T for kColumns tiles: element (i, k) is a[k * stride + i], i < m. Tiles of for_each_tile(m, 6), each [k][rows].
void pack_left_transposed(const float* a, Index a_stride, Index m, Index k, float* packed);
// c[m, columns] (+)= packed * panel over one block of k.
void multiply_packed(const GemmKernels& g, Index m, Index k, const float* packed, const float* panel, float* c,
                     Index c_stride, Index columns, bool add);

// Calls body(i) for i in [0, count), each thread taking the next i as it becomes free: list costly tasks first.
template <class Body>
void for_each_task(Index count, const Body& body) {
  const Index workers = std::min<Index>(count, current_threads());
  if (workers <= 1) {
    for (Index i = 0; i < count; ++i) body(i);
    return;
  }
  std::atomic<Index> next{0};
  parallel_for(workers, 1, [&](Index, Index) {
    for (Index i = next.fetch_add(1); i < count; i = next.fetch_add(1)) body(i);
  });
}

}  // namespace switchyard::kernels
