#include "oracle/rope.hpp"

#include <cmath>
#include <complex>
#include <numbers>

namespace switchyard::oracle {
namespace {

constexpr double kTurn = 2.0 * std::numbers::pi;

// How much of pair i is interpolated: 0 for fast pairs, 1 for slow ones.
double yarn_ramp(double i, double r, double theta, const kernels::RopeScaling& s) {
  double low = r * std::log(s.original_positions / (kTurn * s.beta_fast)) / (2.0 * std::log(theta));
  double high = r * std::log(s.original_positions / (kTurn * s.beta_slow)) / (2.0 * std::log(theta));
  if (s.truncate) low = std::floor(low), high = std::ceil(high);
  if (low < 0.0) low = 0.0;
  if (high > r - 1.0) high = r - 1.0;
  if (low == high) high += 0.001;
  const double ramp = (i - low) / (high - low);
  return ramp < 0.0 ? 0.0 : ramp > 1.0 ? 1.0 : ramp;
}

double llama3(double f, const kernels::RopeScaling& s) {
  const double wavelength = kTurn / f;
  if (wavelength < s.original_positions / s.high_frequency_factor) return f;
  if (wavelength > s.original_positions / s.low_frequency_factor) return f / s.factor;
  const double t =
      (s.original_positions / wavelength - s.low_frequency_factor) / (s.high_frequency_factor - s.low_frequency_factor);
  return (1.0 - t) * f / s.factor + t * f;
}

}  // namespace

std::vector<double> rope_frequencies(Index rotary_dim, double theta, const kernels::RopeScaling& s, bool long_text) {
  const auto r = static_cast<double>(rotary_dim);
  std::vector<double> result;
  for (std::size_t i = 0; i < static_cast<std::size_t>(rotary_dim / 2); ++i) {
    double f = 1.0 / std::pow(theta, 2.0 * static_cast<double>(i) / r);
    if (s.kind == "linear") f /= s.factor;
    if (s.kind == "llama3") f = llama3(f, s);
    if (s.kind == "longrope") f /= (long_text ? s.long_factors : s.short_factors)[i];
    if (s.kind == "yarn") {
      const double ramp = yarn_ramp(static_cast<double>(i), r, theta, s);
      f = ramp * f / s.factor + (1.0 - ramp) * f;
    }
    result.push_back(f);
  }
  return result;
}

std::vector<double> rope(std::vector<double> x_THC, Index head_dim, Index first,
                         const std::vector<std::int32_t>& position_T, const kernels::RopeTable& table,
                         kernels::RopePairing pairing) {
  const std::size_t pairs = table.frequencies.size(), C = static_cast<std::size_t>(head_dim);
  const std::size_t heads = x_THC.size() / position_T.size() / C;
  for (std::size_t t = 0; t < position_T.size(); ++t)
    for (std::size_t h = 0; h < heads; ++h)
      for (std::size_t i = 0; i < pairs; ++i) {
        const bool half = pairing == kernels::RopePairing::kHalfSplit;
        const std::size_t head = (t * heads + h) * C + static_cast<std::size_t>(first);
        double& real = x_THC[head + (half ? i : 2 * i)];
        double& imaginary = x_THC[head + (half ? i + pairs : 2 * i + 1)];
        // long double, so that reducing an angle of 1e6 and more is not the reference's own error.
        const long double angle =
            static_cast<long double>(position_T[t]) * static_cast<long double>(table.frequencies[i]);
        const auto turned =
            static_cast<double>(table.magnitude) * std::complex<double>(real, imaginary) *
            std::complex<double>(static_cast<double>(std::cos(angle)), static_cast<double>(std::sin(angle)));
        real = turned.real();
        imaginary = turned.imag();
      }
  return x_THC;
}

}  // namespace switchyard::oracle
