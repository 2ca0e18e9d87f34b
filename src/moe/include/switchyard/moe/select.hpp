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
  ConstMatrix logits_TR;
  ConstMatrix scores_TE;  // of which weights are made
  ConstMatrix choice_TE;  // what experts are chosen by: the scores, or with noise that weights do not see
  std::span<const float> selection_bias_E;   // empty where the router has none
  std::span<const std::int32_t> token_id_T;  // for rules that look at the token itself; may be empty
  std::span<const std::uint8_t> valid_T;     // 0 = padding, which gets no assignments; empty = all are real
  RandomStream random;
  bool training = false;
  Index sequence = 0;                     // tokens a sequence: row t is position t % sequence; 0 = one sequence
  const Assignments* replayed = nullptr;  // for rule "replay": whose tokens and experts are taken
};

// A rule fills expert_A, score_A and offset_T1; weights come from weights.hpp, drops from capacity.hpp.
//   top-k   the K experts with the largest choice + selection bias
struct SelectionRule {
  std::string_view name;
  Assignments (*select)(const RouterConfig& router, const SelectionInput& input);
  bool causal;  // a token's choice depends on no later token, so that a model can generate with it
  // Where score_A is not scores_TE of the chosen experts: d_logits += gradient of dL/dscore_A. null: it is.
  void (*backward)(const RouterConfig& router, const SelectionInput& input, const Assignments& assignments,
                   std::span<const float> d_score_A, Matrix d_logits_TR) = nullptr;
  // What else the rule asks of a config, checked by MoeConfig::validate(). May be null. Throws kBadInput with a message
  // that begins "router.key: found, expected ...".
  void (*check)(const RouterConfig& router) = nullptr;
};

// The K best of choice + bias, best first: any number goes before NaN, the lowest index wins a tie. For rules that end
// in a top-k: key_K has room for k keys.
void top_k_of_row(const float* choice_E, const float* bias_E, Index experts, Index k, float* key_K,
                  std::int32_t* expert_K);
// offset_T1 and arrays for exactly k assignments of every valid token.
Assignments k_assignments(Index k, Index tokens, Index experts, std::span<const std::uint8_t> valid_T);

std::span<const SelectionRule> selection_rules();
const SelectionRule& find_selection_rule(std::string_view name);  // kBadInput listing the names

}  // namespace switchyard::moe
