#include "switchyard/kernels/rope.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

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

// magnitude times cosine and sine of position * frequency[i], at cosine[i] and sine[i].
template <class D>
HWY_INLINE void angle_terms(D d, double position, double magnitude, const float* frequency, float* cosine,
                            float* sine) {
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
  const V factor = hn::Set(d, magnitude);
  hn::StoreU(hn::DemoteTo(df, hn::Mul(factor, signed_cosine)), df, cosine);
  hn::StoreU(hn::DemoteTo(df, hn::Mul(factor, signed_sine)), df, sine);
}

// Rows [begin, end) of the cosines and sines, [position][cosine, sine][frequency]; row r belongs to position
// positions[r], or to lowest + r where positions is null.
void cosines_and_sines(const std::int32_t* positions, std::int64_t lowest, const RopeTable& table, bool inverse,
                       float* to, Index begin, Index end) {
  const hn::ScalableTag<double> d;
  const hn::CappedTag<double, 1> one;
  const auto step = static_cast<Index>(hn::Lanes(d)), pairs = static_cast<Index>(table.frequencies.size());
  const float* const frequency = table.frequencies.data();
  const auto magnitude = static_cast<double>(table.magnitude);
  for (Index r = begin; r < end; ++r) {
    float* const cosine = to + r * 2 * pairs;
    float* const sine = cosine + pairs;
    const auto position = static_cast<double>(positions != nullptr ? positions[r] : lowest + r);
    const double turned = inverse ? -position : position;
    Index i = 0;
    for (; i + step <= pairs; i += step) angle_terms(d, turned, magnitude, frequency + i, cosine + i, sine + i);
    for (; i < pairs; ++i) angle_terms(one, turned, magnitude, frequency + i, cosine + i, sine + i);
  }
}

// One row of heads, rotated by one row of cosines and sines. x is the first element to rotate.
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

HWY_EXPORT(cosines_and_sines);
HWY_EXPORT(rope_row);

void check_positive(const char* name, double value) {
  if (!(value > 0.0) || !std::isfinite(value))
    fail(ErrorKind::kBadInput, "rope: {} is {}, expected a finite number above 0", name, value);
}

std::vector<double> plain_frequencies(Index rotary_dim, double theta) {
  if (rotary_dim < 0 || rotary_dim % 2 != 0)
    fail(ErrorKind::kBadInput, "rope: {} elements of a head are to be rotated, expected an even number", rotary_dim);
  check_positive("theta", theta);
  std::vector<double> f;
  for (Index i = 0; i < rotary_dim / 2; ++i)
    f.push_back(std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim)));
  return f;
}

void scale_linear(const RopeScaling& scaling, std::vector<double>& f) {
  check_positive("factor", scaling.factor);
  for (double& x : f) x /= scaling.factor;
}

void scale_yarn(const RopeScaling& scaling, double theta, std::vector<double>& f) {
  check_positive("factor", scaling.factor);
  check_positive("original_positions", scaling.original_positions);
  check_positive("beta_fast", scaling.beta_fast);
  check_positive("beta_slow", scaling.beta_slow);
  if (theta <= 1.0) fail(ErrorKind::kBadInput, "rope: theta is {}, yarn expects a number above 1", theta);
  const double r = 2.0 * static_cast<double>(f.size());
  const auto pair_that_turns = [&](double times) {
    return r * std::log(scaling.original_positions / (2.0 * std::numbers::pi * times)) / (2.0 * std::log(theta));
  };
  double low = pair_that_turns(scaling.beta_fast), high = pair_that_turns(scaling.beta_slow);
  if (scaling.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, r - 1.0);
  if (low == high) high += 0.001;  // as the reference does, against dividing by 0
  for (std::size_t i = 0; i < f.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    f[i] = f[i] / scaling.factor * ramp + f[i] * (1.0 - ramp);
  }
}

void scale_llama3(const RopeScaling& scaling, std::vector<double>& f) {
  const double low = scaling.low_frequency_factor, high = scaling.high_frequency_factor;
  check_positive("factor", scaling.factor);
  check_positive("original_positions", scaling.original_positions);
  check_positive("low_frequency_factor", low);
  check_positive("high_frequency_factor", high);
  if (low > high)
    fail(ErrorKind::kBadInput, "rope: low_frequency_factor {} is above high_frequency_factor {}", low, high);
  for (double& x : f) {
    const double turns = scaling.original_positions * x / (2.0 * std::numbers::pi);  // in the original length
    if (turns > high) continue;
    const double smooth = turns < low || low == high ? 0.0 : (turns - low) / (high - low);
    x = (1.0 - smooth) * x / scaling.factor + smooth * x;
  }
}

void scale_longrope(const RopeScaling& scaling, bool long_text, std::vector<double>& f) {
  const std::vector<double>& factors = long_text ? scaling.long_factors : scaling.short_factors;
  const char* const name = long_text ? "long_factors" : "short_factors";
  if (factors.size() != f.size())
    fail(ErrorKind::kBadInput, "rope: {} has {} numbers, expected one a pair, {}", name, factors.size(), f.size());
  for (std::size_t i = 0; i < f.size(); ++i) {
    check_positive(name, factors[i]);
    f[i] /= factors[i];
  }
}

}  // namespace

RopeTable rope_table(Index rotary_dim, double theta, const RopeScaling& scaling, bool long_text) {
  std::vector<double> f = plain_frequencies(rotary_dim, theta);
  double magnitude = 1.0;
  if (scaling.kind == "linear") {
    scale_linear(scaling, f);
  } else if (scaling.kind == "yarn") {
    scale_yarn(scaling, theta, f);
    magnitude = scaling.magnitude;
  } else if (scaling.kind == "llama3") {
    scale_llama3(scaling, f);
  } else if (scaling.kind == "longrope") {
    scale_longrope(scaling, long_text, f);
    magnitude = long_text ? scaling.long_magnitude : scaling.magnitude;
  } else if (scaling.kind != "none") {
    fail(ErrorKind::kBadInput, "rope: unknown kind of scaling '{}', expected none, linear, yarn, llama3 or longrope",
         scaling.kind);
  }
  check_positive("magnitude", magnitude);
  RopeTable table;
  table.magnitude = static_cast<float>(magnitude);
  for (const double x : f) {
    // Above it nothing could be said of an angle: the count of its quarter turns would not fit what reduces it.
    if (!(x <= 1000.0)) fail(ErrorKind::kBadInput, "rope: a frequency of {} radians a position, at most 1000", x);
    table.frequencies.push_back(static_cast<float>(x));
  }
  return table;
}

void rope(Matrix x_THC, Index head_dim, Index first, std::span<const std::int32_t> position_T, const RopeTable& table,
          RopePairing pairing, bool inverse) {
  const auto pairs = static_cast<Index>(table.frequencies.size());
  require(head_dim >= 1 && x_THC.cols % head_dim == 0 && first >= 0 && first + 2 * pairs <= head_dim,
          "rope: {} columns, head_dim {}, first {} and {} frequencies do not fit together", x_THC.cols, head_dim, first,
          pairs);
  require(static_cast<Index>(position_T.size()) == x_THC.rows, "rope: {} positions for {} rows", position_T.size(),
          x_THC.rows);
  if (x_THC.empty() || pairs == 0) return;
  // Sequences of a batch stand at the same positions, so terms for the whole range are usually the fewer.
  const auto ends = std::minmax_element(position_T.begin(), position_T.end());
  const Index lowest = *ends.first, range = *ends.second - lowest + 1;
  const bool by_position = range <= x_THC.rows;
  const Index term_rows = by_position ? range : x_THC.rows;
  std::vector<float> terms(static_cast<std::size_t>(term_rows * 2 * pairs));
  parallel_for(term_rows, ceil_div(1024, pairs), [&](Index begin, Index end) {
    HWY_DYNAMIC_DISPATCH(cosines_and_sines)
    (by_position ? nullptr : position_T.data(), lowest, table, inverse, terms.data(), begin, end);
  });
  const auto rotate = HWY_DYNAMIC_DISPATCH(rope_row);
  parallel_for(x_THC.rows, ceil_div(16384, x_THC.cols), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      const Index row = by_position ? Index{position_T[static_cast<std::size_t>(t)]} - lowest : t;
      const float* const cosine = terms.data() + row * 2 * pairs;
      rotate(x_THC.row(t) + first, x_THC.cols / head_dim, head_dim, cosine, cosine + pairs, pairs, pairing);
    }
  });
}

}  // namespace switchyard::kernels
#endif  // HWY_ONCE
