#include "gemm.hpp"

#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "gemm.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "columns-inl.hpp"
#include "switchyard/kernels/matmul.hpp"

HWY_BEFORE_NAMESPACE();
namespace switchyard::kernels::HWY_NAMESPACE {
namespace {

constexpr Index kNr = 2 * kLanes;

// One step of k: A is the element of the tile's row i.
#define SWITCHYARD_STEP(A, B)                                                          \
  {                                                                                    \
    const Vector b0 = hn::Load(d, (B));                                                \
    const Vector b1 = kVectors == 2 ? hn::Load(d, (B) + (kVectors - 1) * kLanes) : b0; \
    _Pragma("GCC unroll 8") for (Index i = 0; i < kRows; ++i) {                        \
      const Vector x = hn::Set(d, A);                                                  \
      acc0[i] = hn::MulAdd(x, b0, acc0[i]);                                            \
      if constexpr (kVectors == 2) acc1[i] = hn::MulAdd(x, b1, acc1[i]);               \
    }                                                                                  \
  }

template <int kVectors>
HWY_INLINE void store_row(Vector v0, Vector v1, float* c, Index columns, bool add) {
  const Tag d;
  if (HWY_LIKELY(columns == kVectors * kLanes)) {
    hn::StoreU(add ? hn::Add(hn::LoadU(d, c), v0) : v0, d, c);
    if constexpr (kVectors == 2) hn::StoreU(add ? hn::Add(hn::LoadU(d, c + kLanes), v1) : v1, d, c + kLanes);
    return;
  }
  HWY_ALIGN float row[kNr];
  hn::Store(v0, d, row);
  hn::Store(v1, d, row + kLanes);
  for (Index j = 0; j < columns; ++j) c[j] = add ? c[j] + row[j] : row[j];
}

template <int kRows, int kVectors, LeftLayout kLayout>
void tile(Index k, const float* HWY_RESTRICT a, Index a_stride, const float* HWY_RESTRICT b, float* HWY_RESTRICT c,
          Index c_stride, Index columns, bool add) {
  const Tag d;
  Vector acc0[kRows], acc1[kRows];
  _Pragma("GCC unroll 8") for (Index i = 0; i < kRows; ++i) {
    acc0[i] = hn::Zero(d);
    acc1[i] = hn::Zero(d);
    // c is often a gradient in main memory: ask for it, and for the next tile's, while there is something else to do.
    hwy::Prefetch(c + i * c_stride);
    if constexpr (kLayout == LeftLayout::kPanels) hwy::Prefetch(c + (kRows + i) * c_stride);
  }
  if constexpr (kLayout == LeftLayout::kColumns) {
    for (; k >= 2; k -= 2) {
      SWITCHYARD_STEP(a[i], b)
      SWITCHYARD_STEP(a[a_stride + i], b + kNr)
      a += 2 * a_stride;
      b += 2 * kNr;
    }
    if (k > 0) SWITCHYARD_STEP(a[i], b)
  } else if constexpr (kLayout == LeftLayout::kRows) {
    const float* row[kRows];
    _Pragma("GCC unroll 8") for (Index i = 0; i < kRows; ++i) {
      row[i] = a + i * a_stride;
      // Hides that the rows are evenly spaced. GCC would keep an offset for every row and step of k in memory.
      asm("" : "+r"(row[i]));
    }
    Index z = 0;
    for (; z + 2 <= k; z += 2) {
      SWITCHYARD_STEP(row[i][z], b)
      SWITCHYARD_STEP(row[i][z + 1], b + kNr)
      b += 2 * kNr;
    }
    if (z < k) SWITCHYARD_STEP(row[i][z], b)
  } else {
    for (; k >= kNr; k -= kNr) {
      for (Index j = 0; j < kNr; j += 2) {
        SWITCHYARD_STEP(a[i * kNr + j], b)
        SWITCHYARD_STEP(a[i * kNr + j + 1], b + kNr)
        b += 2 * kNr;
      }
      a += a_stride;
    }
    for (Index j = 0; j < k; ++j) {
      SWITCHYARD_STEP(a[i * kNr + j], b)
      b += kNr;
    }
  }
  _Pragma("GCC unroll 8") for (Index i = 0; i < kRows; ++i)
      store_row<kVectors>(acc0[i], acc1[i], c + i * c_stride, columns, add);
}
#undef SWITCHYARD_STEP

// acc[t] += sum over columns [z, z + columns) of kLanes rows of w times x[t].
template <int kCount, bool kFromMemory>
HWY_INLINE void few_columns(const float* HWY_RESTRICT w, Index w_stride, Index z, Index columns, const float* const* x,
                            Vector* acc) {
  const Tag d;
  constexpr Index kAhead = 64;  // four cache lines, past what the hardware fetches of so many rows by itself
  if constexpr (kFromMemory)
    for (Index i = 0; i < kLanes; ++i) hwy::Prefetch(w + i * w_stride + z + kAhead);
  Index j = z;
  for (; j + kLanes <= z + columns; j += kLanes) {
    Vector v[kLanes];
    load_columns(w + j, w_stride, v);
    _Pragma("GCC unroll 16") for (Index i = 0; i < kLanes; ++i) {
      _Pragma("GCC unroll 4") for (Index t = 0; t < kCount; ++t) acc[t] =
          hn::MulAdd(hn::Set(d, x[t][j + i]), v[i], acc[t]);
    }
  }
  for (; j < z + columns; ++j) {
    HWY_ALIGN float column[kLanes];
    for (Index i = 0; i < kLanes; ++i) column[i] = w[i * w_stride + j];
    _Pragma("GCC unroll 4") for (Index t = 0; t < kCount; ++t) acc[t] =
        hn::MulAdd(hn::Set(d, x[t][j]), hn::Load(d, column), acc[t]);
  }
}

// The two halves of the rows go side by side to hide the latency of the chains, the second one block of k behind the
// first: rows are often a power of two apart, and no more than eight such places fit the cache at once.
template <int kCount>
void few(const float* HWY_RESTRICT w, Index w_stride, Index k, const float* const* x, float* const* c, Index skip,
         bool add) {
  const Tag d;
  constexpr Index kLine = kLanes < 16 ? 16 : kLanes;
  HWY_ALIGN float sum[kCount][kNr];
  const float* second = w + kLanes * w_stride;
  for (Index k0 = 0; k0 < k + kKBlock; k0 += kKBlock) {
    const Index begin[2] = {k0, k0 - kKBlock};
    const Index columns[2] = {HWY_MAX(HWY_MIN(kKBlock, k - k0), 0), HWY_MIN(HWY_MIN(k0, k - k0 + kKBlock), kKBlock)};
    Vector acc0[kCount], acc1[kCount];
    for (Index t = 0; t < kCount; ++t) acc0[t] = acc1[t] = hn::Zero(d);
    for (Index z = 0; z < HWY_MAX(columns[0], columns[1]); z += kLine) {
      few_columns<kCount, true>(w, w_stride, begin[0] + z, HWY_MIN(kLine, columns[0] - z), x, acc0);
      few_columns<kCount, true>(second, w_stride, begin[1] + z, HWY_MIN(kLine, columns[1] - z), x, acc1);
    }
    for (Index half = 0; half < 2; ++half) {
      if (columns[half] <= 0) continue;
      for (Index t = 0; t < kCount; ++t) {
        const float* before = (begin[half] > 0 ? sum[t] : c[t]) + half * kLanes;
        Vector total = half == 0 ? acc0[t] : acc1[t];
        if (add || begin[half] > 0) total = hn::Add(hn::LoadU(d, before), total);
        hn::Store(total, d, sum[t] + half * kLanes);
      }
    }
  }
  for (Index t = 0; t < kCount; ++t) std::copy(sum[t] + skip, sum[t] + kNr, c[t] + skip);
}

template <int kCount>
void few_of_tile(const float* HWY_RESTRICT w, Index w_stride, Index k, const float* const* x, float* sums, bool add,
                 Ahead& ahead) {
  const Tag d;
  Vector acc0[kCount], acc1[kCount];
  for (Index t = 0; t < kCount; ++t) acc0[t] = acc1[t] = hn::Zero(d);
  for (Index z = 0; z < k; z += kLanes) {
    ahead.step();
    const Index columns = HWY_MIN(kLanes, k - z);
    few_columns<kCount, false>(w, w_stride, z, columns, x, acc0);
    few_columns<kCount, false>(w + kLanes * w_stride, w_stride, z, columns, x, acc1);
  }
  for (Index t = 0; t < kCount; ++t, sums += kNr) {
    hn::Store(add ? hn::Add(hn::Load(d, sums), acc0[t]) : acc0[t], d, sums);
    hn::Store(add ? hn::Add(hn::Load(d, sums + kLanes), acc1[t]) : acc1[t], d, sums + kLanes);
  }
}

void pack_transposed(const float* const* rows, Index count, Index k, float* HWY_RESTRICT panel) {
  const Tag d;
  for (Index half = 0; half < kNr; half += kLanes) {
    const Index present = HWY_MIN(count - half, kLanes);
    Index j = 0;
    if (present == kLanes) {
      for (; j + 4 <= k; j += 4) {
        Vector v[4];
        _Pragma("GCC unroll 4") for (Index i = 0; i < 4; ++i) v[i] = load_blocks(rows + half, i, j);
        transpose4(v);
        _Pragma("GCC unroll 4") for (Index i = 0; i < 4; ++i) hn::Store(v[i], d, panel + (j + i) * kNr + half);
      }
    } else {
      for (Index z = 0; z < k; ++z) hn::Store(hn::Zero(d), d, panel + z * kNr + half);
    }
    for (Index i = 0; i < present; ++i)
      for (Index z = j; z < k; ++z) panel[z * kNr + half + i] = rows[half + i][z];
  }
}

void unpack_transposed(const float* HWY_RESTRICT panel, Index count, Index k, const float* scale, float* const* rows) {
  const Tag d;
  const hn::CappedTag<float, 4> d4;
  for (Index half = 0; half < count; half += kLanes) {
    const Index present = HWY_MIN(count - half, kLanes);
    const Vector factor = scale == nullptr ? hn::Set(d, 1.0F) : hn::LoadU(d, scale + half);
    Index j = 0;
    for (; j + 4 <= k; j += 4) {
      Vector v[4];
      _Pragma("GCC unroll 4") for (Index i = 0; i < 4; ++i) v[i] =
          hn::Mul(hn::Load(d, panel + (j + i) * kNr + half), factor);
      transpose4(v);
      HWY_ALIGN float blocks[4 * kLanes];
      if (present == kLanes) {
        _Pragma("GCC unroll 4") for (Index i = 0; i < 4; ++i) {
#if HWY_MAX_BYTES == 16
          hn::StoreU(v[i], d4, rows[half + i] + j);
#elif HWY_MAX_BYTES == 32
          hn::StoreU(hn::LowerHalf(v[i]), d4, rows[half + i] + j);
          hn::StoreU(hn::UpperHalf(d4, v[i]), d4, rows[half + i + 4] + j);
#else
          hn::Store(v[i], d, blocks + i * kLanes);
          for (Index block = 0; block < kLanes / 4; ++block)
            hn::StoreU(hn::Load(d4, blocks + i * kLanes + 4 * block), d4, rows[half + 4 * block + i] + j);
#endif
        }
        continue;
      }
      for (Index i = 0; i < 4; ++i) hn::Store(v[i], d, blocks + i * kLanes);
      for (Index i = 0; i < present; ++i)
        hn::StoreU(hn::Load(d4, blocks + (i % 4) * kLanes + i / 4 * 4), d4, rows[half + i] + j);
    }
    for (; j < k; ++j)
      for (Index i = 0; i < present; ++i)
        rows[half + i][j] = panel[j * kNr + half + i] * (scale == nullptr ? 1.0F : scale[half + i]);
  }
}

void pack_row(const float* HWY_RESTRICT row, const float* ahead, Index n, float* HWY_RESTRICT to, Index panel_stride) {
  const Tag d;
  Index j = 0;
  for (; j + kNr <= n; j += kNr, to += panel_stride) {
    hwy::Prefetch(ahead + j);
    hn::Store(hn::LoadU(d, row + j), d, to);
    hn::Store(hn::LoadU(d, row + j + kLanes), d, to + kLanes);
  }
  if (j == n) return;
  for (Index i = 0; i < kNr; ++i) to[i] = j + i < n ? row[j + i] : 0.0F;
}

template <int kVectors, LeftLayout kLayout, int... kRows>
void fill(TileKernel* table, std::integer_sequence<int, kRows...>) {
  ((table[kRows] = &tile<kRows + 1, kVectors, kLayout>), ...);
}

template <LeftLayout kLayout>
void fill_layout(GemmKernels& g) {
  fill<1, kLayout>(g.tile[static_cast<int>(kLayout)][0],
                   std::make_integer_sequence<int, static_cast<int>(tile_rows(true, kLayout))>());
  fill<2, kLayout>(g.tile[static_cast<int>(kLayout)][1],
                   std::make_integer_sequence<int, static_cast<int>(tile_rows(false, kLayout))>());
}

GemmKernels make_kernels() {
  GemmKernels g{};
  g.lanes = kLanes;
  g.nr = kNr;
  fill_layout<LeftLayout::kRows>(g);
  fill_layout<LeftLayout::kColumns>(g);
  fill_layout<LeftLayout::kPanels>(g);
  g.few[0] = &few<1>;
  g.few[1] = &few<2>;
  g.few[2] = &few<3>;
  g.few[3] = &few<4>;
  g.few_of_tile[0] = &few_of_tile<1>;
  g.few_of_tile[1] = &few_of_tile<2>;
  g.few_of_tile[2] = &few_of_tile<3>;
  g.few_of_tile[3] = &few_of_tile<4>;
  g.pack_transposed = &pack_transposed;
  g.unpack_transposed = &unpack_transposed;
  g.pack_row = &pack_row;
  return g;
}

}  // namespace

const GemmKernels& kernels_of_target() {
  static const GemmKernels g = make_kernels();
  return g;
}
const char* name_of_target() { return hwy::TargetName(HWY_TARGET); }

}  // namespace switchyard::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace switchyard::kernels {

HWY_EXPORT(kernels_of_target);
HWY_EXPORT(name_of_target);

const GemmKernels& gemm_kernels() { return HWY_DYNAMIC_DISPATCH(kernels_of_target)(); }
const char* instruction_set() { return HWY_DYNAMIC_DISPATCH(name_of_target)(); }

void rows_times_panel(const GemmKernels& g, const float* a, Index a_stride, Index m, Index k, const float* panel,
                      Index columns, float* c, bool add, Ahead* ahead) {
  for (Index k0 = 0; k0 < k; k0 += kKBlock)
    multiply_block(g, LeftLayout::kRows, m, std::min(kKBlock, k - k0), a + k0, a_stride, panel + k0 * g.nr, c, g.nr,
                   columns, add || k0 > 0, ahead);
}

void rows_times_few(const GemmKernels& g, ConstMatrix w, Index begin, Index end, const float* const* x, Index count,
                    float* const* c, bool add) {
  for (Index i = begin; i < end; i += g.nr) {
    // The last rows are computed together with some before them.
    const Index first = std::min(i, w.rows - g.nr), skip = i - first, rows = std::min(end - i, g.nr - skip);
    float* to[kMaxFew];
    if (first == i && first + g.nr <= end) {
      for (Index t = 0; t < count; ++t) to[t] = c[t] + first;
      g.few[count - 1](w.row(first), w.stride, w.cols, x, to, 0, add);
      continue;
    }
    // Other rows of c may belong to another thread.
    float tail[kMaxFew][kMaxPanelColumns] = {};
    for (Index t = 0; t < count; ++t) {
      to[t] = tail[t];
      if (add) std::copy_n(c[t] + i, rows, tail[t] + skip);
    }
    g.few[count - 1](w.row(first), w.stride, w.cols, x, to, skip, add);
    for (Index t = 0; t < count; ++t) std::copy_n(tail[t] + skip, rows, c[t] + i);
  }
}

void pack_rows(const GemmKernels& g, ConstMatrix b, Index row, Index k, Index column, Index n, float* panels) {
  constexpr Index kRowsAhead = 8;
  for (Index j = 0; j < k; ++j) {
    const float* from = b.row(row + j) + column;
    g.pack_row(from, from + kRowsAhead * b.stride, n, panels + j * g.nr, k * g.nr);
  }
}

namespace {

// One row of k at a time, so that a is read along its rows.
template <int kRows>
void pack_tiles(const float* a, Index a_stride, Index tiles, Index larger, Index k, float* packed) {
  for (Index j = 0; j < k; ++j) {
    const float* from = a + j * a_stride;
    float* to = packed;
    Index t = 0;
    for (; t < larger; ++t, from += kRows + 1, to += (kRows + 1) * k)
      std::memcpy(to + j * (kRows + 1), from, (kRows + 1) * sizeof(float));
    for (; t < tiles; ++t, from += kRows, to += kRows * k) std::memcpy(to + j * kRows, from, kRows * sizeof(float));
  }
}

}  // namespace

void pack_left_transposed(const float* a, Index a_stride, Index m, Index k, float* packed) {
  if (m == 0) return;
  static constexpr decltype(&pack_tiles<1>) kPack[6] = {&pack_tiles<1>, &pack_tiles<2>, &pack_tiles<3>,
                                                        &pack_tiles<4>, &pack_tiles<5>, &pack_tiles<6>};
  const Index tiles = ceil_div(m, 6);  // as for_each_tile cuts them
  kPack[m / tiles - 1](a, a_stride, tiles, m % tiles, k, packed);
}

void multiply_packed(const GemmKernels& g, Index m, Index k, const float* packed, const float* panel, float* c,
                     Index c_stride, Index columns, bool add) {
  const TileKernel* tiles = g.tile[static_cast<int>(LeftLayout::kColumns)][columns <= g.lanes ? 0 : 1];
  for_each_tile(m, 6, [&](Index i, Index rows) {
    tiles[rows - 1](k, packed + i * k, rows, panel, c + i * c_stride, c_stride, columns, add);
  });
}

}  // namespace switchyard::kernels
#endif  // HWY_ONCE
