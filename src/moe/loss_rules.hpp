#pragma once
// The losses that the table in losses.cpp lists, and what several of them count. One file a loss or a family.

#include <span>
#include <vector>

#include "probabilities.hpp"
#include "rows.hpp"
#include "switchyard/moe/losses.hpp"

namespace switchyard::moe {

// loss_cv.cpp
float importance_cv_loss(const LossInput& input);
void importance_cv_backward(const LossInput& input, float d, const LossGradients& gradients);
float load_cv_loss(const LossInput& input);
void load_cv_backward(const LossInput& input, float d, const LossGradients& gradients);

// loss_usage.cpp
float usage_variance_loss(const LossInput& input);
void usage_variance_backward(const LossInput& input, float d, const LossGradients& gradients);

// loss_device.cpp
float device_loss(const LossInput& input);
void device_backward(const LossInput& input, float d, const LossGradients& gradients);
float communication_loss(const LossInput& input);
void communication_backward(const LossInput& input, float d, const LossGradients& gradients);

// loss_entropy.cpp
float entropy_loss(const LossInput& input);
void entropy_backward(const LossInput& input, float d, const LossGradients& gradients);

// How many of the choices of tokens [begin, end) fell on each expert; of each token's first choice alone if asked.
std::vector<Index> count_choices(const Assignments& list, bool first_only, Index begin, Index end);
// Each count over their sum; zeros where that is 0.
std::vector<double> shares(const std::vector<Index>& count_E);

// Tokens of [begin, end) that are real.
inline Index valid_between(std::span<const std::uint8_t> valid_T, Index begin, Index end) {
  if (valid_T.empty()) return end - begin;
  return count_valid(valid_T.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)),
                     end - begin);
}

// Sum over the real tokens of [begin, end) of each expert's probability.
std::vector<double> probability_sum(ConstMatrix p_TE, std::span<const std::uint8_t> valid_T, Index begin, Index end);
// Gives every real token of [begin, end) the gradient d_p_E of its probabilities.
void add_probability_gradient(const RouterProbabilities& probabilities, std::span<const float> d_p_E,
                              std::span<const std::uint8_t> valid_T, Index begin, Index end,
                              const LossGradients& gradients);

}  // namespace switchyard::moe
