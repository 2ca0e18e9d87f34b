#include "oracle/ffn.hpp"

#include <cmath>

namespace switchyard::oracle {

using kernels::Activation;

double activate(Activation activation, double gate, double up) {
  switch (activation.kind) {
    case Activation::Kind::kSwiGLU:
      return gate / (1.0 + std::exp(-gate)) * up;
    case Activation::Kind::kClampedSwiGLU: {
      const auto limit = static_cast<double>(activation.limit), slope = static_cast<double>(activation.slope);
      const double g = gate > limit ? limit : gate, u = up > limit ? limit : up < -limit ? -limit : up;
      return g / (1.0 + std::exp(-slope * g)) * (u + 1.0);
    }
    case Activation::Kind::kGatedGeluTanh:
      // (1 + tanh z) / 2 = 1 / (1 + e^-2z)
      return gate / (1.0 + std::exp(-std::sqrt(8.0 / M_PI) * (gate + 0.044715 * gate * gate * gate))) * up;
    case Activation::Kind::kGELU:
      return 0.5 * up * std::erfc(-up / std::sqrt(2.0));
    case Activation::Kind::kReLU:
      return up > 0.0 ? up : 0.0;
  }
  return NAN;
}

std::vector<double> ffn(Activation activation, const Ffn& expert, std::span<const double> x) {
  std::vector<double> h(static_cast<std::size_t>(expert.f)), y(static_cast<std::size_t>(expert.d));
  const auto d = static_cast<std::size_t>(expert.d), f = static_cast<std::size_t>(expert.f);
  for (std::size_t i = 0; i < f; ++i) {
    double gate = expert.gate_bias.empty() ? 0.0 : expert.gate_bias[i];
    double up = expert.up_bias.empty() ? 0.0 : expert.up_bias[i];
    for (std::size_t k = 0; k < d; ++k) {
      if (!expert.gate.empty()) gate += expert.gate[i * d + k] * x[k];
      up += expert.up[i * d + k] * x[k];
    }
    h[i] = activate(activation, gate, up);
  }
  for (std::size_t i = 0; i < d; ++i) {
    if (!expert.down_bias.empty()) y[i] = expert.down_bias[i];
    for (std::size_t k = 0; k < f; ++k) y[i] += expert.down[i * f + k] * h[k];
  }
  return y;
}

}  // namespace switchyard::oracle
