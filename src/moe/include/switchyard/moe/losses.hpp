#pragma once
// Auxiliary losses of the router. Values are raw (no coefficient), over the valid tokens of one call.
//   load balance   E * sum_e f_e P_e, f_e = share of all assignments that chose e (before capacity, no gradient),
//                  P_e = mean over tokens of the probability of e. 1 when even, more when scores and choices lean to
//                  the same experts. 0 without tokens.                                  Switch, arXiv 2101.03961
//   z-loss         mean over tokens of logsumexp(logits)^2.                              ST-MoE, arXiv 2202.08906

#include <cstdint>
#include <span>
#include <string_view>

#include "switchyard/moe/assignments.hpp"
#include "switchyard/moe/observer.hpp"
#include "switchyard/moe/score.hpp"

namespace switchyard::moe {

struct LossInput {
  const MoeConfig& config;
  ConstMatrix logits_TR;  // with noise, where scores saw it
  ConstMatrix scores_TE;
  const Assignments& assignments;
  std::span<const std::uint8_t> valid_T;
  Index sequence = 0;                    // tokens a sequence; 0 = one sequence
  std::span<const Index> load_before_E;  // choices of earlier micro-batches of this step; may be empty
  ConstMatrix clean_logits_TR;           // without noise; empty where scores saw none
  ConstMatrix noise_std_TR;              // of the noise; empty likewise
};

// Whichever of these a loss depends on is added to.
struct LossGradients {
  Matrix scores_TE;
  Matrix logits_TR;
  Matrix noise_std_TR;  // empty where scores saw no noise
};

float load_balance_loss(const LossInput& input);
void load_balance_backward(const LossInput& input, float d, const LossGradients& gradients);

float z_loss(const LossInput& input);
void z_loss_backward(const LossInput& input, float d, const LossGradients& gradients);

// One auxiliary loss: what it is, where its coefficient stands and where its value goes.
struct RouterLoss {
  std::string_view name;
  float BalanceConfig::*coefficient;
  float RoutingLosses::*value;
  float (*forward)(const LossInput& input);
  void (*backward)(const LossInput& input, float d, const LossGradients& gradients);  // += d * gradient
  bool always;  // computed for statistics, also where its coefficient is 0
};
// Every loss; the layer applies them all.
std::span<const RouterLoss> router_losses();

// Auxiliary-loss-free balancing, once an optimiser step: bias_e += rate * sign(mean(load) - load_e), so that experts
// with less than the mean are chosen more often. Wang et al. 2024, arXiv 2408.15664. load: assignments an expert got
// over the whole batch, without padding.
void update_selection_bias(std::span<const Index> load_E, float rate, std::span<float> selection_bias_E);

}  // namespace switchyard::moe
