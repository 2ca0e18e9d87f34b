#include "switchyard/kernels/rope.hpp"

#include <algorithm>
#include <cmath>

#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "rope.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace switchyard::kernels::HWY_NAMESPACE {

// 1 - x^2/2! + ... and x - x^3/3! + ... for |x| <= pi/4: the first term left out is below 2e-10.
template <class D, class V>
HWY_INLINE void cos_sin_reduced(D d, V x, V& cosine, V& sine) {
  const V z = hn::Mul(x, x);
  V c = hn::Set(d, -1.0 / 3628800.0);
  c = hn::MulAdd(c, z, hn::Set(d, 1.0 / 40320.0));
  c = hn::MulAdd(c, z, hn::Set(d, -1.0 / 720.0));
  c = hn::MulAdd(c, z, hn::Set(d, 1.0 / 24.0));
  c = hn::MulAdd(c, z, hn::Set(d, -0.5));
  cosine = hn::MulAdd(c, z, hn::Set(d, 1.0));
  V s = hn::Set(d, -1.0 / 39916800.0);
  s = hn::MulAdd(s, z, hn::Set(d, 1.0 / 362880.0));
  s = hn::MulAdd(s, z, hn::Set(d, -1.0 / 5040.0));
  s = hn::MulAdd(s, z, hn::Set(d, 1.0 / 120.0));
  s = hn::MulAdd(s, z, hn::Set(d, -1.0 / 6.0));
  sine = hn::MulAdd(hn::Mul(s, z), x, x);
}

// Cosine and sine of position * frequency[i], at cosine[i] and sine[i].
template <class D>
HWY_INLINE void angle_terms(D d, double position, const float* frequency, float* cosine, float* sine) {
  const hn::Rebind<float, D> df;
  using V = hn::Vec<D>;
  const V angle = hn::Mul(hn::Set(d, position), hn::PromoteTo(d, hn::LoadU(df, frequency)));
  const V turns = hn::Round(hn::Mul(angle, hn::Set(d, 2.0 / 3.14159265358979323846)));
  // pi/2 in three parts. The first two have 22 bits, so that their product with a 31-bit count is exact.
  V x = hn::NegMulAdd(turns, hn::Set(d, 0x1.921fb0p+0), angle);
  x = hn::NegMulAdd(turns, hn::Set(d, 0x1.5110b0p-22), x);
  x = hn::NegMulAdd(turns, hn::Set(d, 0x1.18469898cc517p-44), x);
  V c, s;
  cos_sin_reduced(d, x, c, s);
  const V quarter = hn::Sub(turns, hn::Mul(hn::Set(d, 4.0), hn::Floor(hn::Mul(turns, hn::Set(d, 0.25)))));
  const auto first = hn::Eq(quarter, hn::Set(d, 1.0)), third = hn::Eq(quarter, hn::Set(d, 3.0));
  const auto swap = hn::Or(first, third);
  const V swapped_cosine = hn::IfThenElse(swap, s, c), swapped_sine = hn::IfThenElse(swap, c, s);
  const auto cosine_negative = hn::Or(first, hn::Eq(quarter, hn::Set(d, 2.0)));
  const auto sine_negative = hn::Ge(quarter, hn::Set(d, 2.0));
  const V signed_cosine = hn::IfThenElse(cosine_negative, hn::Neg(swapped_cosine), swapped_cosine);
  const V signed_sine = hn::IfThenElse(sine_negative, hn::Neg(swapped_sine), swapped_sine);
  hn::StoreU(hn::DemoteTo(df, signed_cosine), df, cosine);
  hn::StoreU(hn::DemoteTo(df, signed_sine), df, sine);
}

// Rows [begin, end) of the table, [position][cosine, sine][frequency]; row r belongs to position positions[r], or to
// first + r where positions is null.
void rope_table(const std::int32_t* positions, std::int64_t first, const float* frequency, Index pairs, bool inverse,
                float* table, Index begin, Index end) {
  const hn::ScalableTag<double> d;
  const hn::CappedTag<double, 1> one;
  const auto step = static_cast<Index>(hn::Lanes(d));
  for (Index r = begin; r < end; ++r) {
    float* const cosine = table + r * 2 * pairs;
    float* const sine = cosine + pairs;
    const auto position = static_cast<double>(positions != nullptr ? positions[r] : first + r);
    const double turned = inverse ? -position : position;
    Index i = 0;
    for (; i + step <= pairs; i += step) angle_terms(d, turned, frequency + i, cosine + i, sine + i);
    for (; i < pairs; ++i) angle_terms(one, turned, frequency + i, cosine + i, sine + i);
  }
}

// One row of heads, rotated by one row of the table.
void rope_row(float* x, Index heads, Index head_dim, const float* cosine, const float* sine, Index pairs,
              RopePairing pairing) {
  for (Index h = 0; h < heads; ++h, x += head_dim) {
    if (pairing == RopePairing::kHalfSplit) {
      for_each_vector(pairs, [=](auto d, Index i) HWY_ATTR {
        const auto a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + pairs + i);
        const auto c = hn::LoadU(d, cosine + i), s = hn::LoadU(d, sine + i);
        hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, x + i);
        hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), d, x + pairs + i);
      });
    } else {
      for_each_vector(pairs, [=](auto d, Index i) HWY_ATTR {
        hn::Vec<decltype(d)> a, b;
        hn::LoadInterleaved2(d, x + 2 * i, a, b);
        const auto c = hn::LoadU(d, cosine + i), s = hn::LoadU(d, sine + i);
        hn::StoreInterleaved2(hn::NegMulAdd(b, s, hn::Mul(a, c)), hn::MulAdd(a, s, hn::Mul(b, c)), d, x + 2 * i);
      });
    }
  }
}

}  // namespace switchyard::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace switchyard::kernels {
namespace {

HWY_EXPORT(rope_table);
HWY_EXPORT(rope_row);

}  // namespace

std::vector<float> rope_frequencies(Index rotary_dim, double theta) {
  require(rotary_dim >= 0 && rotary_dim % 2 == 0, "rope: rotary_dim {} is not an even number", rotary_dim);
  require(theta > 0.0, "rope: theta {} is not positive", theta);
  std::vector<float> frequencies;
  for (Index i = 0; i < rotary_dim / 2; ++i)
    frequencies.push_back(
        static_cast<float>(std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim))));
  return frequencies;
}

void rope(Matrix x_THC, Index head_dim, std::span<const std::int32_t> position_T, std::span<const float> frequencies,
          RopePairing pairing, bool inverse) {
  const auto pairs = static_cast<Index>(frequencies.size());
  require(head_dim >= 1 && x_THC.cols % head_dim == 0 && 2 * pairs <= head_dim,
          "rope: {} columns, head_dim {} and {} frequencies do not fit together", x_THC.cols, head_dim, pairs);
  require(static_cast<Index>(position_T.size()) == x_THC.rows, "rope: {} positions for {} rows", position_T.size(),
          x_THC.rows);
  if (x_THC.empty() || pairs == 0) return;
  // Sequences of a batch stand at the same positions, so a table over the range is usually the smaller one.
  const auto ends = std::minmax_element(position_T.begin(), position_T.end());
  const Index lowest = *ends.first, range = *ends.second - lowest + 1;
  const bool by_position = range <= x_THC.rows;
  const Index table_rows = by_position ? range : x_THC.rows;
  std::vector<float> table(static_cast<std::size_t>(table_rows * 2 * pairs));
  parallel_for(table_rows, ceil_div(1024, pairs), [&](Index begin, Index end) {
    HWY_DYNAMIC_DISPATCH(rope_table)
    (by_position ? nullptr : position_T.data(), lowest, frequencies.data(), pairs, inverse, table.data(), begin, end);
  });
  const auto rotate = HWY_DYNAMIC_DISPATCH(rope_row);
  parallel_for(x_THC.rows, ceil_div(16384, x_THC.cols), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      const Index row = by_position ? Index{position_T[static_cast<std::size_t>(t)]} - lowest : t;
      const float* const cosine = table.data() + row * 2 * pairs;
      rotate(x_THC.row(t), x_THC.cols / head_dim, head_dim, cosine, cosine + pairs, pairs, pairing);
    }
  });
}

}  // namespace switchyard::kernels
#endif  // HWY_ONCE
