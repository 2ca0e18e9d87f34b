#pragma once
// The seam through which anyone learns what was routed. Statistics, traces, the live page, prefetching and health
// checks are observers; nothing else looks inside a layer.

#include <cstdint>
#include <span>

#include "switchyard/moe/assignments.hpp"
#include "switchyard/moe/config.hpp"
#include "switchyard/tensor/view.hpp"

namespace switchyard::moe {

// Auxiliary losses of one layer and one call (losses.hpp), raw; those but load_balance and z_loss are computed only
// where they have a coefficient. total is what is added to the training loss, coefficients applied.
struct RoutingLosses {
  float load_balance = 0.0F;
  float importance_cv = 0.0F;
  float load_cv = 0.0F;
  float usage_variance = 0.0F;
  float device = 0.0F;
  float communication = 0.0F;
  float entropy = 0.0F;
  float z_loss = 0.0F;
  float total = 0.0F;
};

// All references are valid during the call only.
struct RoutingEvent {
  Index layer = 0;  // index of the transformer layer
  const MoeConfig& config;
  ConstMatrix logits_TE;
  ConstMatrix scores_TE;
  const Assignments& assignments;
  const DispatchPlan& plan;
  std::span<const std::int32_t> token_id_T;  // empty where the caller has none
  std::span<const std::uint8_t> valid_T;     // 0 = padding; empty = all are real
  RoutingLosses losses;
  bool training = false;
  std::span<const float> selection_bias_E = {};  // empty where the router has none
};

// Called once a layer and forward pass, in layer order, on the thread that runs the model, before the experts run;
// not again when a layer is recomputed for its gradient. Must not throw.
class RoutingObserver {
 public:
  virtual ~RoutingObserver() = default;
  virtual void on_routing(const RoutingEvent& event) = 0;
};

}  // namespace switchyard::moe
