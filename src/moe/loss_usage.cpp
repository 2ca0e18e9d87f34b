#include "loss_rules.hpp"

namespace switchyard::moe {
namespace {

// An expert's choices over the mean of all: 1 is even.
std::vector<double> usage(const LossInput& input) {
  std::vector<double> usage_E = shares(count_choices(input.assignments, false, 0, input.assignments.tokens));
  for (double& u : usage_E) u *= static_cast<double>(usage_E.size());
  return usage_E;
}

}  // namespace

float usage_variance_loss(const LossInput& input) {
  if (input.assignments.size() == 0) return 0.0F;
  double sum = 0.0;
  for (const double u : usage(input)) sum += (u - 1.0) * (u - 1.0);
  return static_cast<float>(sum / static_cast<double>(input.assignments.experts));
}

// With E P_e, P the mean probability, in the place of du_e.
void usage_variance_backward(const LossInput& input, float d, const LossGradients& gradients) {
  const Index tokens = input.scores_TE.rows, real = count_valid(input.valid_T, tokens);
  if (real == 0 || input.assignments.size() == 0) return;
  std::vector<float> d_p_E;
  for (const double u : usage(input))
    d_p_E.push_back(static_cast<float>(2.0 * (u - 1.0) * static_cast<double>(d) / static_cast<double>(real)));
  const RouterProbabilities probabilities(input.config.router, input.logits_TR, input.scores_TE);
  add_probability_gradient(probabilities, d_p_E, input.valid_T, 0, tokens, gradients);
}

}  // namespace switchyard::moe
