#pragma once
// Activations of feed-forward networks.

#include <cstdint>
#include <span>
#include <string_view>

#include "switchyard/tensor/view.hpp"

namespace switchyard::kernels {

// Gated kinds combine two projections, h = f(gate) * up; the others have only `up`, h = f(up).
//   SwiGLU  f(x) = x * sigmoid(x)                                      Shazeer 2020, arXiv 2002.05202
//   clamped SwiGLU  f(x) = c * sigmoid(slope c) with c = min(x, limit), and `up` enters as clamp(up, -limit, limit) +
//   1;
//           where a bound is exceeded the gradient is 0                gpt-oss, OpenAI 2025, arXiv 2508.10925
//   GeGLU   f(x) = x/2 * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the tanh form of GELU (Grok-1)
//                                                                      Shazeer 2020, arXiv 2002.05202
//   GELU    f(x) = x/2 * (1 + erf(x / sqrt 2))                         Hendrycks and Gimpel 2016, arXiv 1606.08415
//   ReLU    f(x) = max(x, 0)
struct Activation {
  enum class Kind : std::uint8_t { kSwiGLU, kClampedSwiGLU, kGatedGeluTanh, kGELU, kReLU };
  Kind kind = Kind::kSwiGLU;
  float limit = 7.0F, slope = 1.702F;  // of the clamped kind: gpt-oss' own; the others do not read them

  static const Activation kSwiGLU, kClampedSwiGLU, kGatedGeluTanh, kGELU, kReLU;
  friend bool operator==(const Activation&, const Activation&) = default;
};
inline constexpr Activation Activation::kSwiGLU{Kind::kSwiGLU};
inline constexpr Activation Activation::kClampedSwiGLU{Kind::kClampedSwiGLU};
inline constexpr Activation Activation::kGatedGeluTanh{Kind::kGatedGeluTanh};
inline constexpr Activation Activation::kGELU{Kind::kGELU};
inline constexpr Activation Activation::kReLU{Kind::kReLU};

bool is_gated(Activation activation);
// Of the kind: "swiglu", "clamped-swiglu", "geglu-tanh", "gelu", "relu".
std::string_view activation_name(Activation activation);
Activation parse_activation(std::string_view name);  // kBadInput listing the names

// h[i] = f(gate[i]) * up[i], or f(up[i]) where not gated (gate is empty then). h may be up or gate.
void activate(Activation activation, std::span<const float> gate, std::span<const float> up, std::span<float> h);
// Given dL/dh, writes dL/dgate (where gated) and dL/dup. The outputs may be the inputs' memory.
void activate_backward(Activation activation, std::span<const float> gate, std::span<const float> up,
                       std::span<const float> d_h, std::span<float> d_gate, std::span<float> d_up);

}  // namespace switchyard::kernels
