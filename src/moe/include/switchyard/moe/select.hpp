#pragma once
// From scores to assignments. Every rule breaks ties by the lowest expert index.

#include <cstdint>
#include <span>
#include <string_view>

#include "switchyard/base/random.hpp"
#include "switchyard/moe/assignments.hpp"
#include "switchyard/moe/config.hpp"
#include "switchyard/tensor/view.hpp"

namespace switchyard::moe {

struct SelectionInput {
  ConstMatrix logits_TE;
  ConstMatrix scores_TE;
  std::span<const float> selection_bias_E;   // empty where the router has none
  std::span<const std::int32_t> token_id_T;  // for rules that look at the token itself; may be empty
  std::span<const std::uint8_t> valid_T;     // 0 = padding, which gets no assignments; empty = all are real
  RandomStream random;
  bool training = false;
};

// A rule fills expert_A, score_A and offset_T1; weights come from weights.hpp, drops from capacity.hpp.
//   top-k   the K experts with the largest score + selection bias
struct SelectionRule {
  std::string_view name;
  Assignments (*select)(const RouterConfig& router, const SelectionInput& input);
  bool causal;  // a token's choice depends on no later token, so that a model can generate with it
};

std::span<const SelectionRule> selection_rules();
const SelectionRule& find_selection_rule(std::string_view name);  // kBadInput listing the names

}  // namespace switchyard::moe
