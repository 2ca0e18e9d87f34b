// Rows of memory as columns of vectors, compiled once for each Highway target.
#if defined(SWITCHYARD_KERNELS_COLUMNS_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef SWITCHYARD_KERNELS_COLUMNS_INL_HPP
#undef SWITCHYARD_KERNELS_COLUMNS_INL_HPP
#else
#define SWITCHYARD_KERNELS_COLUMNS_INL_HPP
#endif

#include <hwy/highway.h>

#include <cstdint>

#include "switchyard/base/index.hpp"

HWY_BEFORE_NAMESPACE();
namespace switchyard::kernels::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

using Tag = hn::ScalableTag<float>;
using Vector = hn::Vec<Tag>;
inline constexpr Index kLanes = static_cast<Index>(hn::MaxLanes(Tag()));

// As many words of 32 bits of a row as D has lanes. T is float, or a byte of anything.
template <class D>
HWY_INLINE hn::Vec<D> load_row(D d, const float* row) {
  return hn::LoadU(d, row);
}
template <class D>
HWY_INLINE hn::Vec<D> load_row(D d, const std::uint8_t* row) {
  return hn::BitCast(d, hn::LoadU(hn::Repartition<std::uint8_t, D>(), row));
}
template <class T>
inline constexpr Index kWord = static_cast<Index>(sizeof(float) / sizeof(T));

// Four words of each of kLanes rows: block b of the result holds those of row 4 * b + i.
template <class T>
HWY_INLINE Vector load_blocks(const T* const* rows, Index i, Index j) {
  const hn::CappedTag<float, 4> d4;
#if HWY_MAX_BYTES == 64
  const hn::CappedTag<float, 8> d8;
  const auto low = hn::Combine(d8, load_row(d4, rows[i + 4] + j * kWord<T>), load_row(d4, rows[i] + j * kWord<T>));
  const auto high =
      hn::Combine(d8, load_row(d4, rows[i + 12] + j * kWord<T>), load_row(d4, rows[i + 8] + j * kWord<T>));
  return hn::Combine(Tag(), high, low);
#elif HWY_MAX_BYTES == 32
  return hn::Combine(Tag(), load_row(d4, rows[i + 4] + j * kWord<T>), load_row(d4, rows[i] + j * kWord<T>));
#else
  return load_row(d4, rows[i] + j * kWord<T>);
#endif
}

HWY_INLINE void transpose4(Vector v[4]) {
  const Tag d;
  const hn::RepartitionToWide<Tag> d2;
  const auto t0 = hn::BitCast(d2, hn::InterleaveLower(d, v[0], v[1]));
  const auto t1 = hn::BitCast(d2, hn::InterleaveUpper(d, v[0], v[1]));
  const auto t2 = hn::BitCast(d2, hn::InterleaveLower(d, v[2], v[3]));
  const auto t3 = hn::BitCast(d2, hn::InterleaveUpper(d, v[2], v[3]));
  v[0] = hn::BitCast(d, hn::InterleaveLower(d2, t0, t2));
  v[1] = hn::BitCast(d, hn::InterleaveUpper(d2, t0, t2));
  v[2] = hn::BitCast(d, hn::InterleaveLower(d2, t1, t3));
  v[3] = hn::BitCast(d, hn::InterleaveUpper(d2, t1, t3));
}

// kLanes columns of words of kLanes rows: v[j] receives column j. Each row is read in one piece.
template <class T>
HWY_INLINE void load_columns(const T* HWY_RESTRICT w, Index w_stride, Vector v[kLanes]) {
  const Tag d;
#if HWY_MAX_BYTES == 64
  const T* rows[kLanes];
  for (Index i = 0; i < kLanes; ++i) rows[i] = w + i * w_stride;
  for (Index j = 0; j < kLanes; j += 4) {
    for (Index i = 0; i < 4; ++i) v[j + i] = load_blocks(rows, i, j);
    transpose4(v + j);
  }
#else
  _Pragma("GCC unroll 8") for (Index i = 0; i < kLanes; ++i) v[i] = load_row(d, w + i * w_stride);
  _Pragma("GCC unroll 2") for (Index i = 0; i < kLanes; i += 4) transpose4(v + i);
#if HWY_MAX_BYTES == 32
  // Now v[i] holds columns i and 4 + i of the upper four rows, v[4 + i] those of the lower four.
  _Pragma("GCC unroll 4") for (Index i = 0; i < 4; ++i) {
    const Vector upper = v[i], lower = v[4 + i];
    v[i] = hn::ConcatLowerLower(d, lower, upper);
    v[4 + i] = hn::ConcatUpperUpper(d, lower, upper);
  }
#endif
#endif
}

}  // namespace
}  // namespace switchyard::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
