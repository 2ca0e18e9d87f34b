#pragma once
// The MoE layer and each of its stages, one scalar loop after another in double, written from the formulas and sharing
// no code with src/moe. Matrices are row-major vectors; shapes are in the names.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "switchyard/base/index.hpp"
#include "switchyard/kernels/activation.hpp"

namespace switchyard::oracle {

using Values = std::vector<double>;

// One (token, expert) pair. The choices of a list stand in token order, within a token best first.
struct MoeChoice {
  Index token = 0, expert = 0;
  double score = 0.0, weight = 0.0;
  bool dropped = false;
  double factor = 1.0;     // what capacity multiplies the weight by
  bool to_shared = false;  // dropped, but its weight goes to the shared expert
  Index chosen = -1;       // the expert before re-routing; -1: as expert
};

struct MoeProblem {
  Index tokens = 0, width = 0, experts = 0, hidden = 0, shared_hidden = 0;
  Index top_k = 1;
  std::string score = "softmax", normalise = "none";
  double scale = 1.0;
  kernels::Activation activation = kernels::Activation::kSwiGLU;
  Index capacity = -1;  // -1: no limit
  std::string drop = "probs";
  double load_balance = 0.0, z_loss = 0.0;  // coefficients
  bool renormalise = false;                 // weights are made of what was not dropped
  std::function<double(const struct MoeResult&)> more_losses;

  Values x_TD, router_ED, router_bias_E, selection_bias_E;  // biases may be empty
  Values gate_EFD, up_EFD, down_EDF;                        // gate empty where the activation is not gated
  Values gate_bias_EF, up_bias_EF, down_bias_ED;            // may be empty
  Values shared_gate_FD, shared_up_FD, shared_down_DF;
  Values shared_gate_D;               // empty: the shared expert has no gate of its own
  std::vector<std::uint8_t> valid_T;  // empty: all are real
};

struct MoeResult {
  Values logits_TE, scores_TE, y_TD;
  std::vector<MoeChoice> choices;
  double load_balance = 0.0, z_loss = 0.0, total = 0.0;
};

// Rows of logits to rows of scores; `score` is a name of the score table, where "tree" has one level.
Values moe_scores(const std::string& score, const Values& logits_TE, Index experts);

// The k experts with the largest score + bias, best first; a tie goes to the lower index, any number before NaN.
std::vector<Index> top_experts(const double* score_E, const Values& bias_E, Index experts, Index k);

std::vector<MoeChoice> top_k_choices(const Values& scores_TE, const Values& bias_E, Index experts, Index k,
                                     const std::vector<std::uint8_t>& valid_T);

// Fills weight from score.
void weigh(const std::string& normalise, double scale, std::vector<MoeChoice>& choices, double norm_p = 1.0);

// Marks as dropped, and gives weight 0 to, all but `capacity` choices of each expert.
void drop_over_capacity(const std::string& rule, Index capacity, Index experts, std::vector<MoeChoice>& choices);

double load_balance_loss(const Values& scores_TE, Index experts, const std::vector<MoeChoice>& choices,
                         const std::vector<std::uint8_t>& valid_T);
double z_loss(const Values& logits_TE, Index experts, const std::vector<std::uint8_t>& valid_T);

// One token through one expert. Biases may be null.
Values ffn(kernels::Activation activation, const double* x_D, Index width, Index hidden, const double* gate_FD,
           const double* up_FD, const double* down_DF, const double* gate_bias_F = nullptr,
           const double* up_bias_F = nullptr, const double* down_bias_D = nullptr);

// The whole layer. Where `fixed` is given, those experts are taken and those choices dropped, whatever the scores say:
// the layer as a smooth function of its inputs.
MoeResult moe_layer(const MoeProblem& problem, const std::vector<MoeChoice>* fixed = nullptr);

}  // namespace switchyard::oracle
