#pragma once
// Capacity, overflow, losses and biases that balance experts, one loop after another in double, from the formulas.

#include <cstdint>
#include <string>
#include <vector>

#include "oracle/moe.hpp"

namespace switchyard::oracle {

// The factor is the fraction numerator / denominator, so that all of it is done in whole numbers.
Index capacity(const std::string& formula, Index numerator, Index denominator, Index tokens, Index experts,
               Index top_k);

// Marks what no longer fits when the choices come in the order of the rule: "weights", "position-by-rank" or
// "batch-priority".
void drop_in_order(const std::string& rule, Index capacity, Index experts, std::vector<MoeChoice>& choices);

// Gives every dropped choice, in order, the best other expert with room.
void reroute(Index capacity, const Values& scores_TE, Index experts, std::vector<MoeChoice>& choices);

struct BalanceProblem {
  Index tokens = 0, experts = 0, top_k = 1, devices = 1, devices_a_token = 1;
  Index sequence = 0;                 // 0: all tokens are one
  bool first_only = false;            // of the load balance
  std::vector<double> before_E;       // counts of earlier micro-batches
  std::vector<std::uint8_t> valid_T;  // empty: all are real
  std::vector<MoeChoice> choices;
};
double load_balance(const BalanceProblem& problem, const Values& p_TE);
double usage_variance(const BalanceProblem& problem);
// What stands for the gradient of the variance: its derivative by the counts, times probabilities in their place.
double usage_variance_surrogate(const BalanceProblem& problem, const Values& p_TE);
double device(const BalanceProblem& problem, const Values& p_TE);
double communication(const BalanceProblem& problem, const Values& p_TE);
double entropy(const BalanceProblem& problem, const Values& p_TE);
// CV^2 of the sums of weights; `choices` with weights.
double importance_cv(const std::vector<MoeChoice>& choices, Index experts);
// CV^2 of the smooth load. noisy = clean + std * draw.
double load_cv(const BalanceProblem& problem, const Values& clean_TE, const Values& std_TE, const Values& draw_TE);

// The bias that would have sent each expert its share.
Values quantile_bias(const Values& scores_TE, const Values& bias_E, Index experts, Index top_k,
                     const std::vector<std::uint8_t>& valid_T);

}  // namespace switchyard::oracle
