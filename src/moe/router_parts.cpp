#include "switchyard/moe/router_parts.hpp"

#include "switchyard/moe/score.hpp"
#include "switchyard/moe/select.hpp"

namespace switchyard::moe {

std::vector<RouterPartShape> router_parts(const RouterConfig& router, Index width) {
  const Index logits = logits_of(router);
  std::vector<RouterPartShape> parts;
  if (router.noise == "shazeer") parts.push_back({RouterPart::kNoise, "router_noise", logits, width, false});
  if (router.logits == "cosine") {
    parts.push_back({RouterPart::kProjection, "router_projection", router.cosine_width, width, true});
    parts.push_back({RouterPart::kTemperature, "router_temperature", 1, 1, false});
  }
  if (router.residual) parts.push_back({RouterPart::kResidual, "router_residual", logits, logits, false});
  if (router.constant_experts > 0) {
    parts.push_back({RouterPart::kConstants, "constants", router.constant_experts, width, false});
    parts.push_back({RouterPart::kConstantGate, "constant_gate", 2 * router.constant_experts, width, false});
  }
  if (find_selection_rule(router.select).mixes) parts.push_back({RouterPart::kSlotScale, "slot_scale", 1, 1, false});
  return parts;
}

Index router_width(const RouterConfig& router, Index width) {
  return router.logits == "cosine" ? router.cosine_width : width;
}

}  // namespace switchyard::moe
