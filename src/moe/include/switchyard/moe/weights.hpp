#pragma once
// From the scores of the chosen experts to the weights of their outputs.
//   none   w = s
//   sum    w = s / (sum of the token's chosen s + 1e-20)
// and both times router.scale. Weights are made before capacity drops anything: a lone survivor keeps its weight.

#include <span>
#include <string_view>

#include "switchyard/moe/assignments.hpp"
#include "switchyard/moe/config.hpp"

namespace switchyard::moe {

struct WeightRule {
  std::string_view name;
  void (*forward)(float scale, Assignments& assignments);  // fills weight_A from score_A
  // d_score_A from d_weight_A (overwritten).
  void (*backward)(float scale, const Assignments& assignments, std::span<const float> d_weight_A,
                   std::span<float> d_score_A);
};

std::span<const WeightRule> weight_rules();
const WeightRule& find_weight_rule(std::string_view name);  // kBadInput listing the names

}  // namespace switchyard::moe
