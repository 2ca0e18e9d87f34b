// Pieces that several kernels share, compiled once for each Highway target.
#if defined(SWITCHYARD_KERNELS_SIMD_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef SWITCHYARD_KERNELS_SIMD_INL_HPP
#undef SWITCHYARD_KERNELS_SIMD_INL_HPP
#else
#define SWITCHYARD_KERNELS_SIMD_INL_HPP
#endif

#include <hwy/highway.h>

#include "switchyard/base/index.hpp"

HWY_BEFORE_NAMESPACE();
namespace switchyard::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using OneFloatTag = hn::CappedTag<float, 1>;

inline HWY_ATTR Index lanes(FloatTag d) { return static_cast<Index>(hn::Lanes(d)); }

// Calls f(d, i) for whole vectors and then for single elements of [0, count). A lane computes the same bits in both,
// so an element's value does not depend on where it stands. f needs HWY_ATTR.
template <class F>
HWY_INLINE void for_each_vector(Index count, F&& f) {
  const FloatTag d;
  const Index step = lanes(d);
  Index i = 0;
  for (; i + step <= count; i += step) f(d, i);
  const OneFloatTag one;
  for (; i < count; ++i) f(one, i);
}

// e^r - 1 for |r| <= ln 2 / 2. The polynomial is a minimax fit, within 4e-9.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V expm1_reduced(D d, V r) {
  V q = hn::Set(d, 0.00139505998F);
  q = hn::MulAdd(q, r, hn::Set(d, 0.00836895406F));
  q = hn::MulAdd(q, r, hn::Set(d, 0.041666206F));
  q = hn::MulAdd(q, r, hn::Set(d, 0.166665182F));
  q = hn::MulAdd(q, r, hn::Set(d, 0.5F));
  return hn::MulAdd(hn::Mul(r, r), q, r);
}

// 2^n for an integer n within [-126, 127], given n + 1.5 * 2^23: its low bits are n, and shifting drops the rest.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V power_of_two(D d, V shifted_n) {
  const hn::RebindToSigned<D> di;
  return hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::BitCast(di, shifted_n), hn::Set(di, 127))));
}

// 2^n * e^r for |r| <= ln 2 / 2 and n an integer within [-126, 127].
template <class D, class V = hn::Vec<D>>
HWY_INLINE V scaled_exp(D d, V shifted_n, V r) {
  return hn::Mul(hn::Add(expm1_reduced(d, r), hn::Set(d, 1.0F)), power_of_two(d, shifted_n));
}

inline constexpr float kRoundShift = 12582912.0F;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits

// 2^x for x <= 127, within 2 ulp; 0 below 2^-126 (also for -infinity). NaN stays NaN.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp2_fast(D d, V x) {
  const V shifted = hn::Add(x, hn::Set(d, kRoundShift));
  const V fraction = hn::Sub(x, hn::Sub(shifted, hn::Set(d, kRoundShift)));
  const V y = scaled_exp(d, shifted, hn::Mul(fraction, hn::Set(d, 0.693147181F)));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -126.0F)), y);
}

// e^x for x <= 88, within 2 ulp; 0 below -87.3 (also for -infinity). NaN stays NaN.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp_fast(D d, V x) {
  const V shifted = hn::MulAdd(x, hn::Set(d, 1.44269504F), hn::Set(d, kRoundShift));
  const V n = hn::Sub(shifted, hn::Set(d, kRoundShift));
  // ln 2 in two parts; the first has 15 bits, so that n times it is exact.
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693145752F), x);
  r = hn::NegMulAdd(n, hn::Set(d, 1.42860677e-6F), r);
  const V y = scaled_exp(d, shifted, r);
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.3F)), y);
}

template <class D>
HWY_INLINE float sum_lanes(D d, hn::Vec<D> v) {
  return hn::GetLane(hn::SumOfLanes(d, v));
}

// Sums what step(d, i, sum) adds to its lanes for [0, count): four chains of vectors, so that they do not wait on one
// another, then single elements. step needs HWY_ATTR.
template <class F>
HWY_INLINE float sum_of(Index count, F&& step) {
  const FloatTag d;
  const Index n = lanes(d);
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  Index i = 0;
  for (; i + 4 * n <= count; i += 4 * n) {
    s0 = step(d, i, s0);
    s1 = step(d, i + n, s1);
    s2 = step(d, i + 2 * n, s2);
    s3 = step(d, i + 3 * n, s3);
  }
  for (; i + n <= count; i += n) s0 = step(d, i, s0);
  const OneFloatTag one;
  auto rest = hn::Zero(one);
  for (; i < count; ++i) rest = step(one, i, rest);
  return sum_lanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))) + hn::GetLane(rest);
}

}  // namespace switchyard::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
