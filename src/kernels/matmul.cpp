#include "switchyard/kernels/matmul.hpp"

#include <algorithm>
#include <cstring>

#include "gemm.hpp"
#include "scratch.hpp"
#include "switchyard/base/error.hpp"
#include "weight_tiles.hpp"

namespace switchyard::kernels {
namespace {

enum class Right {
  kTransposed,  // b[N, K]: a panel's columns are rows of memory
  kPlain,       // b[K, N]
  kStored,      // weights [N, K] that are no float32 matrix
};

struct Product {
  const float* a = nullptr;
  Index a_stride = 0;
  bool a_transposed = false;  // a[K, M]
  ConstMatrix b;
  Right right = Right::kPlain;
  Matrix c;
  Index k = 0;
  bool add = false;
  const WeightView* weights = nullptr;  // in place of b where right is kStored
};

constexpr Index kPanelsATask = 8;   // 8 panels of one k block fill a quarter of the L2 cache
constexpr Index kRowsABlock = 96;   // as do 96 rows of a
constexpr Index kTasksAThread = 4;  // enough for threads of unequal speed
constexpr Index kPackedLeftFloats = 2 << 20;
constexpr Index kMostRowsOfPanels = 64;  // of a, for a tile of stored weights to be multiplied with all of them at once
constexpr Index kFewRowsFloats = 65536;  // of b, a task of a product with one to four rows: about 10 us

// Columns [first, first + columns) of b, steps [k0, k0 + k) to panels of k steps.
void pack_right(const GemmKernels& g, const Product& p, Index first, Index columns, Index k0, Index k, float* packed) {
  if (p.right == Right::kPlain) {
    pack_rows(g, p.b, k0, k, first, columns, packed);
    return;
  }
  if (p.right == Right::kStored) {
    pack_weights(g, *p.weights, first, columns, k0, k, packed);
    return;
  }
  const Panels to{packed, k * g.nr, columns};
  pack_rows_transposed(
      g, [&](Index i) { return p.b.row(first + i) + k0; }, 0, to.count(g.nr), k, to);
}

// A part of c and of the steps of k.
struct Part {
  Index row, rows, first, columns, k_begin, k_end;
};

// The packed tiles of rows [r, r + kRowsABlock) of a transposed a for the block of k steps that begins at k0, among
// those of all rows and of the steps from k_begin on.
float* packed_left(const Product& p, float* packed, Index r, Index k_begin, Index k0, Index k) {
  return packed + (k0 - k_begin) * p.c.rows + r * k;
}

// b is packed block by block. a is read in place, or in `packed_a` where it is transposed.
void multiply_part(const GemmKernels& g, const Product& p, const Part& part, float* packed_a) {
  const Scratch scratch(round_up(part.columns, g.nr) * std::min(part.k_end - part.k_begin, kKBlock));
  float* b = scratch.data();
  for (Index k0 = part.k_begin; k0 < part.k_end; k0 += kKBlock) {
    const Index k = std::min(kKBlock, part.k_end - k0);
    const bool add = p.add || k0 > 0;
    pack_right(g, p, part.first, part.columns, k0, k, b);
    for (Index r = part.row; r < part.row + part.rows; r += kRowsABlock) {
      const Index m = std::min(kRowsABlock, part.row + part.rows - r);
      for (Index j = 0; j < part.columns; j += g.nr) {
        const Index width = std::min(g.nr, part.columns - j);
        float* c = p.c.row(r) + part.first + j;
        if (p.a_transposed)
          multiply_packed(g, m, k, packed_left(p, packed_a, r, part.k_begin, k0, k), b + j * k, c, p.c.stride, width,
                          add);
        else
          multiply_block(g, LeftLayout::kRows, m, k, p.a + r * p.a_stride + k0, p.a_stride, b + j * k, c, p.c.stride,
                         width, add);
      }
    }
  }
}

void pack_left(const Product& p, Index k_begin, Index k_end, float* packed) {
  const Index row_blocks = ceil_div(p.c.rows, kRowsABlock), k_blocks = ceil_div(k_end - k_begin, kKBlock);
  parallel_for(row_blocks * k_blocks, 2, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Index r = i % row_blocks * kRowsABlock, k0 = k_begin + i / row_blocks * kKBlock;
      const Index k = std::min(kKBlock, k_end - k0);
      pack_left_transposed(p.a + k0 * p.a_stride + r, p.a_stride, std::min(kRowsABlock, p.c.rows - r), k,
                           packed_left(p, packed, r, k_begin, k0, k));
    }
  });
}

void multiply(const Product& p) {
  const GemmKernels& g = gemm_kernels();
  const Index threads = current_threads();
  // One thread packs every part of b once. More threads get a grid of tasks; those that share columns pack the same
  // part of b again, so columns are cut first.
  Index panels = kPanelsATask, row_tasks = 1;
  const auto tasks = [&] { return ceil_div(p.c.cols, panels * g.nr) * row_tasks; };
  if (threads > 1) {
    const Index wanted = threads * kTasksAThread;
    while (tasks() < wanted && panels > 2) panels /= 2;
    while (tasks() < wanted && ceil_div(p.c.rows, row_tasks * 2) >= kRowsABlock) row_tasks *= 2;
  }
  const Index columns = panels * g.nr, column_tasks = ceil_div(p.c.cols, columns);
  const Index rows = round_up(ceil_div(p.c.rows, row_tasks), kRowsABlock);
  row_tasks = ceil_div(p.c.rows, rows);

  // A transposed a is packed for all tasks: with one thread a block of k at a time, which stays in the cache, with more
  // as much as fits, since they have to wait for each other.
  const Index left_floats = threads == 1 ? 0 : kPackedLeftFloats;
  const Index k_step = p.a_transposed ? std::max(kKBlock, left_floats / p.c.rows / kKBlock * kKBlock) : p.k;
  const Scratch packed(p.a_transposed ? p.c.rows * std::min(k_step, p.k) : 0);
  for (Index k = 0; k < p.k; k += k_step) {
    const Index k_end = std::min(p.k, k + k_step);
    if (p.a_transposed) pack_left(p, k, k_end, packed.data());
    for_each_task(row_tasks * column_tasks, [&](Index task) {
      const Index row = task % row_tasks * rows, first = task / row_tasks * columns;
      multiply_part(g, p, {row, std::min(rows, p.c.rows - row), first, std::min(columns, p.c.cols - first), k, k_end},
                    packed.data());
    });
  }
}

// One to four rows of a, as in decoding: b streams through once.
void multiply_rows(ConstMatrix a_MK, const WeightView& b_NK, Matrix c_MN, bool add) {
  const GemmKernels& g = gemm_kernels();
  const float* a[kMaxFew];
  float* c[kMaxFew];
  for (Index i = 0; i < a_MK.rows; ++i) {
    a[i] = a_MK.row(i);
    c[i] = c_MN.row(i);
  }
  const Index unit = is_column_major(b_NK) ? kColumnMajorRows : b_NK.is_matrix() ? g.nr : 2 * g.nr;
  const Index block = round_up(std::max<Index>(1, kFewRowsFloats / a_MK.cols), unit);
  for_each_task(ceil_div(b_NK.rows, block), [&](Index task) {
    weights_times_few(g, b_NK, task * block, std::min(b_NK.rows, (task + 1) * block), a, a_MK.rows, c, add);
  });
}

// c = panels^T b^T: b is decoded in tiles, each multiplied with all panels there and then.
void stored_times_panels(const GemmKernels& g, const WeightView& b_NK, const Panels& a, Matrix c_MN, bool add) {
  const Index block = is_column_major(b_NK) ? kColumnMajorRows : kRowsABlock, count = a.count(g.nr);
  for_each_task(ceil_div(c_MN.cols, block), [&](Index task) {
    const Index first = task * block, m = std::min(block, c_MN.cols - first);
    const Scratch room(weight_tile_floats(m)), products(count * m * g.nr);
    const auto product = [&](Index p) { return products.data() + p * m * g.nr; };
    const auto for_each_panel = [&](const auto& move) {
      for (Index p = 0; p < count; ++p) {
        float* rows[kMaxPanelColumns];
        const Index columns = a.columns_of(p, g.nr);
        for (Index i = 0; i < columns; ++i) rows[i] = c_MN.row(p * g.nr + i) + first;
        move(p, rows, columns);
      }
    };
    if (add)
      for_each_panel(
          [&](Index p, float* const* rows, Index columns) { g.pack_transposed(rows, columns, m, product(p)); });
    weights_times_panels(g, b_NK, first, m, a, product, add, room.data());
    for_each_panel([&](Index p, float* const* rows, Index columns) {
      g.unpack_transposed(product(p), columns, m, nullptr, rows);
    });
  });
}

// Few rows of a: they become the panels and b is read in place as the left operand, so that it is touched only once.
void multiply_few_rows(ConstMatrix a_MK, const WeightView& b_NK, Matrix c_MN, bool add) {
  const GemmKernels& g = gemm_kernels();
  const Index k = a_MK.cols;
  const Index count = ceil_div(a_MK.rows, g.nr);
  const Scratch scratch(count * k * g.nr);
  const Panels a{scratch.data(), k * g.nr, a_MK.rows};
  const auto row = [&](Index i) { return a_MK.row(i); };
  parallel_for(count, std::max<Index>(1, 32768 / a.stride),
               [&](Index begin, Index end) { pack_rows_transposed(g, row, begin, end, k, a); });

  if (!b_NK.is_matrix()) {
    stored_times_panels(g, b_NK, a, c_MN, add);
    return;
  }
  const ConstMatrix b = b_NK.matrix();
  const Index block = std::clamp<Index>(49152 / k / 8 * 8, 8, kRowsABlock);  // rows of b that stay in the L2 cache
  for_each_task(ceil_div(c_MN.cols, block), [&](Index task) {
    const Index first = task * block, m = std::min(block, c_MN.cols - first);
    const Scratch tile_scratch(m * g.nr);
    float* tile = tile_scratch.data();
    for (Index p = 0; p < count; ++p) {
      const Index columns = a.columns_of(p, g.nr);
      float* rows[kMaxPanelColumns];
      for (Index i = 0; i < columns; ++i) rows[i] = c_MN.row(p * g.nr + i) + first;
      if (add) g.pack_transposed(rows, columns, m, tile);
      // Small tiles over all of k, so that b streams from memory along its rows.
      for_each_tile(m, tile_rows(columns <= g.lanes, LeftLayout::kRows), [&](Index i, Index tile_height) {
        rows_times_panel(g, b.row(first + i), b.stride, tile_height, k, a.at(p), columns, tile + i * g.nr, add);
      });
      g.unpack_transposed(tile, columns, m, nullptr, rows);
    }
  });
}

void check(const char* name, bool fits, ConstMatrix a, ConstMatrix b, ConstMatrix c) {
  require(fits && a.stride >= a.cols && b.stride >= b.cols && c.stride >= c.cols,
          "{}: [{}, {}] and [{}, {}] to [{}, {}], strides {}, {} and {}", name, a.rows, a.cols, b.rows, b.cols, c.rows,
          c.cols, a.stride, b.stride, c.stride);
}

// Whether nothing is left to do.
bool trivial(Index k, Matrix c, Store store) {
  if (c.empty()) return true;
  if (k > 0) return false;
  if (store == Store::kOverwrite)
    for (Index i = 0; i < c.rows; ++i) std::fill_n(c.row(i), c.cols, 0.0F);
  return true;
}

void stored_nt(ConstMatrix a, const WeightView& b, Matrix c, Store store) {
  b.check();
  require(a.cols == b.cols && c.rows == a.rows && c.cols == b.rows && a.stride >= a.cols && c.stride >= c.cols,
          "matmul_nt: [{}, {}] and [{}, {}] of {} to [{}, {}], strides {} and {}", a.rows, a.cols, b.rows, b.cols,
          dtype_info(b.dtype).name, c.rows, c.cols, a.stride, c.stride);
  if (trivial(a.cols, c, store)) return;
  const bool add = store == Store::kAdd;
  if (a.rows <= kMaxFew)
    multiply_rows(a, b, c, add);
  else if (a.rows <= kMostRowsOfPanels && a.rows * (a.cols + b.rows) <= b.rows * b.cols)
    multiply_few_rows(a, b, c, add);
  else
    multiply({a.data, a.stride, false, {}, Right::kStored, c, a.cols, add, &b});
}

}  // namespace

void matmul_nt(ConstMatrix a, const WeightView& weights, Matrix c, Store store) {
  if (!weights.is_matrix()) {
    stored_nt(a, weights, c, store);
    return;
  }
  const ConstMatrix b = weights.matrix();
  check("matmul_nt", a.cols == b.cols && c.rows == a.rows && c.cols == b.rows, a, b, c);
  if (trivial(a.cols, c, store)) return;
  const bool add = store == Store::kAdd;
  if (a.rows <= kMaxFew && b.rows >= gemm_kernels().nr) {
    multiply_rows(a, weights, c, add);
    return;
  }
  // What has to be transposed on either way.
  if (a.rows * (a.cols + b.rows) <= b.rows * b.cols)
    multiply_few_rows(a, b, c, add);
  else
    multiply({a.data, a.stride, false, b, Right::kTransposed, c, a.cols, add, nullptr});
}

void matmul_nn(ConstMatrix a, ConstMatrix b, Matrix c, Store store) {
  check("matmul_nn", a.cols == b.rows && c.rows == a.rows && c.cols == b.cols, a, b, c);
  if (trivial(a.cols, c, store)) return;
  multiply({a.data, a.stride, false, b, Right::kPlain, c, a.cols, store == Store::kAdd, nullptr});
}

void matmul_tn(ConstMatrix a, ConstMatrix b, Matrix c, Store store) {
  check("matmul_tn", a.rows == b.rows && c.rows == a.cols && c.cols == b.cols, a, b, c);
  if (trivial(a.rows, c, store)) return;
  multiply({a.data, a.stride, true, b, Right::kPlain, c, a.rows, store == Store::kAdd, nullptr});
}

}  // namespace switchyard::kernels
