#pragma once
// Weights that only some routers have. One list says which, so that parameters, checkpoints and gradients need not know
// what they are for.
//   router_noise        [R, D]  standard deviation of the Shazeer noise: softplus(x W^T)
//   router_projection   [P, D]  into the space of the cosine router, whose router is [R, P]
//   router_temperature  [1, 1]  log of the cosine router's scale, relative to its initial value
//   router_residual     [R, R]  of the logits of the MoE layer before (MoE++)
//   constants           [Z, D]  the constant experts' vectors
//   slot_scale          [1, 1]  log of the scale of Soft MoE's logits
//   constant_gate       [2Z, D] how much of its input and of the vector a constant expert gives: a softmax of two

#include <array>
#include <string_view>
#include <vector>

#include "switchyard/moe/config.hpp"
#include "switchyard/tensor/view.hpp"

namespace switchyard::moe {

enum class RouterPart { kNoise, kProjection, kTemperature, kResidual, kConstants, kConstantGate, kSlotScale, kCount };
inline constexpr std::size_t kRouterParts = static_cast<std::size_t>(RouterPart::kCount);

struct RouterPartShape {
  RouterPart part;
  std::string_view name;
  Index rows, cols;
  bool random;  // starts as the router does; otherwise at 0
};
// Those that this router has, for inputs of `width`.
std::vector<RouterPartShape> router_parts(const RouterConfig& router, Index width);
// Columns of the router's own matrix [R, ...].
Index router_width(const RouterConfig& router, Index width);

// One view a part; empty where the router does not have it (or, among gradients, where it is frozen).
template <class View>
struct RouterParts {
  std::array<View, kRouterParts> views;
  View& operator[](RouterPart part) { return views[static_cast<std::size_t>(part)]; }
  const View& operator[](RouterPart part) const { return views[static_cast<std::size_t>(part)]; }
};

}  // namespace switchyard::moe
