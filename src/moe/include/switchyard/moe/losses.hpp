#pragma once
// Auxiliary losses of the router. Values are raw (no coefficient), over the valid tokens of one call; all but the
// z-loss and the entropy are 0 without tokens. c_e: choices that fell on expert e, before capacity, without gradient.
// p: a token's probabilities, P: their mean over tokens. E counts every expert that can be chosen.
//   load_balance    E * sum_e f_e P_e, f_e = c_e / sum of all c. 1 when even, more when scores and choices lean to the
//                   same experts. Switch, arXiv 2101.03961. load_balance_scope: over the call; over each "sequence",
//                   then the mean (DeepSeek); or f over the "global-batch" as far as it has come (arXiv 2501.11873).
//                   load_balance_counts "first": only each token's first choice counts (GShard).
//   importance_cv   CV^2 of the sums over tokens of each expert's weights, as the weight rule makes them. Shazeer
//                   et al. 2017, arXiv 1701.06538. CV^2 = variance / (mean^2 + 1e-10).
//   load_cv         CV^2 of the smooth load: the sum over tokens of the probability that the expert is among the top K
//                   if its noise is drawn again, Phi((clean - threshold) / std), where the threshold is the (K+1)-th
//                   noisy logit for an expert that is in and the K-th for one that is not. Ibid. Without noise on the
//                   scores, and where K = E, it is the CV^2 of c, which has no gradient.
//   usage_variance  mean over e of (E f_e - 1)^2: the variance of the usage counts over the square of their mean. c has
//                   no gradient, so P takes its place there: d(E f_e) = E dP_e.
//   device          D * sum_d f_d P_d over `devices` equal groups of experts, f and P summed over the group. 1 when
//                   even.
//   communication   sum_d D / (M T) t_d P_d, t_d the tokens sent to group d, M the groups that a token may be sent
//                   to: groups_kept where the groups are those of selection, else min(K, D). Both DeepSeek-V2, arXiv
//                   2405.04434, here over the call.
//   entropy         mean over tokens of -sum_e p_e log p_e. A positive coefficient lowers it: the router is made to
//                   decide (dynamic top-p, arXiv 2403.07652).
//   z_loss          mean over tokens of logsumexp(logits)^2.                              ST-MoE, arXiv 2202.08906

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

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
  Matrix noise_std_TR;            // empty where scores saw no noise
  std::span<float> score_A = {};  // of score_A of the assignments
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

// The choices that count as load in the balance loss: what load_before_E is the sum of.
std::vector<Index> balance_counts(const BalanceConfig& balance, const Assignments& assignments);

}  // namespace switchyard::moe
