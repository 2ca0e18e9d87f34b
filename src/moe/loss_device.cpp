#include <algorithm>

#include "loss_rules.hpp"

namespace switchyard::moe {
namespace {

Index experts_a_device(const MoeConfig& config) { return config.router.experts / config.balance.devices; }

// Sum over devices of load_G[d] times the probability of d's experts. Those without weights are on no device.
float device_sum(const LossInput& input, const std::vector<double>& load_G) {
  const Index tokens = input.scores_TE.rows, real = count_valid(input.valid_T, tokens);
  if (real == 0) return 0.0F;
  const RouterProbabilities probabilities(input.config.router, input.logits_TR, input.scores_TE);
  const std::vector<double> sum_E = probability_sum(probabilities.matrix(), input.valid_T, 0, tokens);
  double loss = 0.0;
  for (Index e = 0; e < input.config.router.experts; ++e)
    loss += load_G[static_cast<std::size_t>(e / experts_a_device(input.config))] * sum_E[static_cast<std::size_t>(e)];
  return static_cast<float>(loss / static_cast<double>(real));
}

void device_sum_backward(const LossInput& input, const std::vector<double>& load_G, float d,
                         const LossGradients& gradients) {
  const Index tokens = input.scores_TE.rows, real = count_valid(input.valid_T, tokens);
  if (real == 0) return;
  std::vector<float> d_p_E(static_cast<std::size_t>(input.scores_TE.cols));
  for (Index e = 0; e < input.config.router.experts; ++e)
    d_p_E[static_cast<std::size_t>(e)] =
        static_cast<float>(load_G[static_cast<std::size_t>(e / experts_a_device(input.config))] *
                           static_cast<double>(d) / static_cast<double>(real));
  const RouterProbabilities probabilities(input.config.router, input.logits_TR, input.scores_TE);
  add_probability_gradient(probabilities, d_p_E, input.valid_T, 0, tokens, gradients);
}

// f': the mean over a device's experts of f_e = E / (K T) * choices of e.
std::vector<double> compute_load(const LossInput& input) {
  const std::vector<double> share_E = shares(count_choices(input.assignments, false, 0, input.assignments.tokens));
  const Index devices = input.config.balance.devices;
  std::vector<double> load_G(static_cast<std::size_t>(devices));
  for (Index e = 0; e < input.config.router.experts; ++e)
    load_G[static_cast<std::size_t>(e / experts_a_device(input.config))] +=
        share_E[static_cast<std::size_t>(e)] * static_cast<double>(devices);
  return load_G;
}

// The most devices that a token can be sent to.
Index devices_a_token(const MoeConfig& config) {
  const RouterConfig& router = config.router;
  const Index most = std::min(router.top_k, config.balance.devices);
  return router.groups == config.balance.devices ? std::min(most, router.groups_kept) : most;
}

// f'': D / (M T) times the tokens that are sent to a device.
std::vector<double> message_load(const LossInput& input) {
  const MoeConfig& config = input.config;
  const Assignments& list = input.assignments;
  const auto devices = static_cast<std::size_t>(config.balance.devices);
  const Index real = count_valid(input.valid_T, list.tokens);
  std::vector<Index> tokens_G(devices);
  std::vector<Index> last_G(devices, -1);
  for (Index t = 0; t < list.tokens; ++t) {
    const auto end = static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t) + 1]);
    for (auto a = static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t)]); a < end; ++a) {
      const Index expert = list.choices()[a];
      if (expert >= config.router.experts) continue;
      const auto device = static_cast<std::size_t>(expert / experts_a_device(config));
      if (last_G[device] == t) continue;
      last_G[device] = t;
      ++tokens_G[device];
    }
  }
  std::vector<double> load_G(devices);
  const double scale =
      static_cast<double>(devices) / static_cast<double>(std::max<Index>(1, devices_a_token(config) * real));
  for (std::size_t g = 0; g < devices; ++g) load_G[g] = scale * static_cast<double>(tokens_G[g]);
  return load_G;
}

}  // namespace

float device_loss(const LossInput& input) { return device_sum(input, compute_load(input)); }
void device_backward(const LossInput& input, float d, const LossGradients& gradients) {
  device_sum_backward(input, compute_load(input), d, gradients);
}

float communication_loss(const LossInput& input) { return device_sum(input, message_load(input)); }
void communication_backward(const LossInput& input, float d, const LossGradients& gradients) {
  device_sum_backward(input, message_load(input), d, gradients);
}

}  // namespace switchyard::moe
