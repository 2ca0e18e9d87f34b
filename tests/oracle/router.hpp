#pragma once
// The router's logits and what stands around them, in double, written from the formulas.

#include <functional>
#include <vector>

#include "oracle/moe.hpp"

namespace switchyard::oracle {

struct RouterProblem {
  Index tokens = 0, width = 0, experts = 0, cosine_width = 0;
  double temperature = 1.0;
  Values x_TD, router_ED;           // the router is [E, P] for a cosine
  Values bias_E;                    // may be empty
  Values previous_TE, residual_EE;  // may be empty
  Values projection_PD;             // a cosine router where it is not empty
  double log_scale = 0.0;           // relative to 2
};
Values router_logits(const RouterProblem& problem);

// log(1 + exp(x W^T)) + 0.01
Values shazeer_deviation(const Values& x_TD, const Values& noise_ED, Index width, Index experts);

// One token through an expert without matrices: a softmax of two decides between x and the vector.
Values constant_expert(const double* x_D, const double* vector_D, const double* gate_2D, Index width);

// Soft MoE over one sequence: `expert(slot, x)` is the output of the slot's expert for the mix x.
Values soft_moe(const Values& x_TD, const Values& phi_SD, double log_scale, Index width,
                const std::vector<std::uint8_t>& valid_T,
                const std::function<Values(Index slot, const Values& x_D)>& expert);

}  // namespace switchyard::oracle
