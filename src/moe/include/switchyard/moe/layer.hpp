#pragma once
// The MoE layer: route, dispatch, experts, combine; forward and backward as plain functions on views.
//
//   logits_TR = x W_r^T (+ bias)            logits.hpp
//   (noisy    = logits + noise              noise.hpp, training)
//   scores_TE = score(logits)               score.hpp
//   list      = select(scores)              select.hpp: (token, expert, score)
//   weights   = weigh(list)                 weights.hpp
//   capacity edits the list                 capacity.hpp
//   plan      = counting sort by expert     assignments.hpp
//   y_SD      = experts, grouped            kernels/grouped_ffn.hpp
//   y_TD      = sum of a token's slots in order of rank (+ shared expert)

#include <cstdint>
#include <span>
#include <vector>

#include "switchyard/moe/assignments.hpp"
#include "switchyard/moe/config.hpp"
#include "switchyard/moe/expert_store.hpp"
#include "switchyard/moe/logits.hpp"
#include "switchyard/moe/observer.hpp"
#include "switchyard/tensor/tensor.hpp"

namespace switchyard::moe {

// Views of one layer's weights. Optional parts are empty.
struct MoeWeights {
  RouterWeights router;
  std::span<const float> selection_bias_E;
  ExpertStore* experts = nullptr;
  kernels::FfnWeights shared;
  std::span<const float> shared_gate_D;
};

// Where gradients are added. An empty view means frozen: its gradient is not computed.
struct MoeGradients {
  RouterGradients router;
  std::span<const kernels::FfnGradients> experts;
  kernels::FfnGradients shared;
  std::span<float> shared_gate_D;
};

// One call's circumstances.
struct MoeCall {
  Index layer = 0;
  bool training = false;   // capacity, noise and losses apply
  std::uint64_t seed = 0;  // with step and layer, of the router's random stream
  std::uint32_t step = 0;
  std::span<const std::int32_t> token_id_T;
  std::span<const std::uint8_t> valid_T;
  Index sequence = 0;                     // tokens a sequence, for rules that go by position; 0 = one sequence
  ConstMatrix previous_logits_TR;         // of the MoE layer before, for router.residual; empty = none
  std::span<const Index> load_before_E;   // choices of this layer in earlier micro-batches of the step; may be empty
  const Assignments* replayed = nullptr;  // for router.select "replay"
  RoutingObserver* observer = nullptr;
};

// What forward leaves for backward. Move-only; backward uses it up.
struct MoeSaved {
  Tensor logits_TR, scores_TE;           // logits as scores saw them
  Tensor clean_logits_TR, noise_std_TR;  // only where scores saw noise
  MoeCall call;                          // that of forward, without its views
  Assignments assignments;
  DispatchPlan plan;
  kernels::GroupedFfnSaved experts, shared;
  Tensor shared_gate_T1;                                              // sigmoid(x . g); only for a gated shared expert
  Tensor soft_dispatch_TS, soft_combine_TS, soft_in_SD, soft_out_SD;  // only of a layer that mixes (soft.hpp)
  std::vector<std::uint8_t> valid_T;
  std::vector<Index> load_before_E;
};

// y_TD is overwritten; padding gets zeros. x and y must not overlap. T = 0 is legal. saved may be null (inference).
// Losses are computed in training or where an observer is given; total is 0 outside training. The config must have
// passed validate(). Shapes that do not belong together are kInternal.
RoutingLosses moe_forward(const MoeConfig& config, const MoeWeights& weights, const MoeCall& call, ConstMatrix x_TD,
                          Matrix y_TD, MoeSaved* saved);

// d_x_TD is overwritten. previous_logits_TR is that of forward's call; d_previous_logits_TR (may be empty) is added to,
// and d_logits_TR (may be empty) is what a later layer's residual asks of this one's logits. d_losses is
// dL/d(RoutingLosses::total), usually the loss scale. The choice of experts is taken as a constant, as everywhere.
// Experts without tokens get no gradient added.
void moe_backward(const MoeConfig& config, const MoeWeights& weights, MoeSaved& saved, ConstMatrix x_TD,
                  ConstMatrix d_y_TD, float d_losses, Matrix d_x_TD, const MoeGradients& gradients,
                  ConstMatrix previous_logits_TR = {}, Matrix d_previous_logits_TR = {}, ConstMatrix d_logits_TR = {});

}  // namespace switchyard::moe
