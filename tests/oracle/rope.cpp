#include "oracle/rope.hpp"

#include <complex>

namespace switchyard::oracle {

std::vector<double> rope(std::vector<double> x_THC, Index head_dim, const std::vector<std::int32_t>& position_T,
                         const std::vector<float>& frequencies, kernels::RopePairing pairing) {
  const std::size_t pairs = frequencies.size(), C = static_cast<std::size_t>(head_dim);
  const std::size_t heads = x_THC.size() / position_T.size() / C;
  for (std::size_t t = 0; t < position_T.size(); ++t)
    for (std::size_t h = 0; h < heads; ++h)
      for (std::size_t i = 0; i < pairs; ++i) {
        const bool half = pairing == kernels::RopePairing::kHalfSplit;
        double& real = x_THC[(t * heads + h) * C + (half ? i : 2 * i)];
        double& imaginary = x_THC[(t * heads + h) * C + (half ? i + pairs : 2 * i + 1)];
        // long double, so that reducing an angle of 1e6 and more is not the reference's own error.
        const long double angle = static_cast<long double>(position_T[t]) * static_cast<long double>(frequencies[i]);
        const auto turned =
            std::complex<double>(real, imaginary) *
            std::complex<double>(static_cast<double>(std::cos(angle)), static_cast<double>(std::sin(angle)));
        real = turned.real();
        imaginary = turned.imag();
      }
  return x_THC;
}

}  // namespace switchyard::oracle
