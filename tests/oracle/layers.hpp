#pragma once
// The parts of a dense transformer by their definitions, in double. Matrices are row-major vectors; shapes are in the
// names. The feed-forward network is in oracle/moe.hpp, attention in oracle/attention.hpp, norms in oracle/norm.hpp.

#include <cstdint>
#include <vector>

#include "oracle/norm.hpp"
#include "switchyard/kernels/rope.hpp"

namespace switchyard::oracle {

// x_TD w_ND^T (+ bias_N, may be empty): [T, N].
std::vector<double> linear(const std::vector<double>& x_TD, const std::vector<double>& w_ND,
                           const std::vector<double>& bias_N, Index width);
// Whole heads are turned: pair i by position * theta^(-2i / head_dim).
std::vector<double> rotate(const std::vector<double>& x_THC, Index heads, Index head_dim,
                           const std::vector<std::int32_t>& position_T, double theta, kernels::RopePairing pairing);
// Mean over the targets >= 0 of logsumexp(logits_t) - logits_t[target].
double cross_entropy(const std::vector<double>& logits_TV, const std::vector<std::int32_t>& target_T, Index vocab);

}  // namespace switchyard::oracle
