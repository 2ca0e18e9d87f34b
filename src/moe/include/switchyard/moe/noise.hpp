#pragma once
// Noise on router logits, in training only: noisy = logits + noise. Draws are of the call's random stream, one a token
// and logit: the same at any number of threads.
//   none
//   gaussian   n * noise_std                                              vmoe and Tutel take noise_std / E
//   shazeer    n * noise_std * (softplus(x W_n^T) + 0.01)                 Shazeer et al. 2017, arXiv 1701.06538
//   gumbel     Gumbel(0, 1) * noise_std                                   DeepSpeed's RSample: noise_std 1 on
//   "selection"

#include <span>

#include "switchyard/base/random.hpp"
#include "switchyard/moe/logits.hpp"
#include "switchyard/tensor/tensor.hpp"

namespace switchyard::moe {

struct NoiseRule {
  std::string_view name;
  // noisy_TR from logits_TR; std_TR receives the standard deviation of each draw.
  void (*forward)(const RouterConfig& router, const RouterWeights& weights, ConstMatrix x_TD, RandomStream random,
                  ConstMatrix logits_TR, Matrix noisy_TR, Matrix std_TR);
  // d_noisy_TR and d_std_TR to what the deviation was made of. null: it is constant. (d_logits += d_noisy is common to
  // all rules.)
  void (*backward)(const RouterConfig& router, const RouterWeights& weights, ConstMatrix x_TD, RandomStream random,
                   ConstMatrix d_noisy_TR, ConstMatrix d_std_TR, Matrix d_x_TD, const RouterGradients& gradients);
};
std::span<const NoiseRule> noise_rules();
const NoiseRule& find_noise_rule(std::string_view name);  // kBadInput listing the names

}  // namespace switchyard::moe
