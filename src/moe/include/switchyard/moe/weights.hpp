#pragma once
// From the scores of the chosen experts to the weights of their outputs.
//   none   w = s
//   sum    w = s / (sum of the token's chosen s + 1e-20)
//   p-norm w = s / (sum |s|^p)^(1/p)                                      DBRX
//   softmax  of the chosen s; with score "logits": top-k, then softmax    gpt-oss, Megatron, Shazeer
// and all times router.scale. Weights are made before capacity drops anything (a lone survivor keeps its weight) unless
// capacity.renormalise asks for new ones after it.

#include <span>
#include <string_view>

#include "switchyard/moe/assignments.hpp"
#include "switchyard/moe/config.hpp"

namespace switchyard::moe {

struct WeightRule {
  std::string_view name;
  void (*forward)(const RouterConfig& router, Assignments& assignments);  // fills weight_A from score_A
  // d_score_A from d_weight_A (overwritten).
  void (*backward)(const RouterConfig& router, const Assignments& assignments, std::span<const float> d_weight_A,
                   std::span<float> d_score_A);
  float absent;  // the score that an assignment has whose expert is to count as not chosen
};

std::span<const WeightRule> weight_rules();
const WeightRule& find_weight_rule(std::string_view name);  // kBadInput listing the names

}  // namespace switchyard::moe
