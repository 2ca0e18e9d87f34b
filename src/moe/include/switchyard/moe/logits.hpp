#pragma once
// From the layer's input to the router's logits, in the precision that the config asks for.
//   linear   r = x W^T                                                    everyone
//   cosine   r_e = scale * <p / |p|, w_e / |w_e|>, p = x P^T, scale = 2 exp(temperature), at most 100
//            Chi et al. 2022, arXiv 2204.09179; as Tutel's cosine gate
// then, where asked for: + bias, + residual (logits of the MoE layer before) W_r^T (MoE++, arXiv 2410.07348), divided
// by the temperature.

#include <span>
#include <string>

#include "switchyard/moe/router_parts.hpp"

namespace switchyard::moe {

struct RouterWeights {
  ConstMatrix router_ED;
  std::span<const float> bias_E;
  RouterParts<ConstMatrix> parts;
};
struct RouterGradients {
  Matrix router_ED;
  std::span<float> bias_E;
  RouterParts<Matrix> parts;
};

struct LogitsRule {
  std::string_view name;
  void (*forward)(const RouterConfig& router, const RouterWeights& weights, ConstMatrix x_TD, Matrix logits_TR);
  // d_x += and gradients += ; an empty gradient is frozen.
  void (*backward)(const RouterConfig& router, const RouterWeights& weights, ConstMatrix x_TD, ConstMatrix d_logits_TR,
                   Matrix d_x_TD, const RouterGradients& gradients);
};
std::span<const LogitsRule> logits_rules();
const LogitsRule& find_logits_rule(std::string_view name);  // kBadInput listing the names

bool is_precision(std::string_view name);
std::string precision_names();

// previous_TR is empty where there is no layer before, whose logits then count as 0.
void router_logits(const RouterConfig& router, const RouterWeights& weights, ConstMatrix x_TD, ConstMatrix previous_TR,
                   Matrix logits_TR);
// d_previous_TR (may be empty) is added to. Precision counts as float32 here: rounding has no gradient of its own.
void router_logits_backward(const RouterConfig& router, const RouterWeights& weights, ConstMatrix x_TD,
                            ConstMatrix previous_TR, ConstMatrix d_logits_TR, Matrix d_x_TD, Matrix d_previous_TR,
                            const RouterGradients& gradients);

}  // namespace switchyard::moe
