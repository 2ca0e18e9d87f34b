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

// A rule fills expert_A, score_A and offset_T1; weights come from weights.hpp, drops from capacity.hpp. "Key" is choice
// + selection bias; K is router.top_k.
//   top-k          the K experts with the largest key
//   group-limited  those among the experts of the groups_kept best of `groups` equal groups. group_score "max": the
//                  largest key (DeepSeek-V2, arXiv 2405.04434); "top-2-sum": the sum of the two largest (DeepSeek-V3,
//                  arXiv 2412.19437); "top-share": the sum of the K / groups_kept largest (Megatron-LM)
//   tree           level by level, the level_top_k[l] best children of each kept node, a node counting for the sum of
//                  its leaves' keys. Hierarchical MoE, Shazeer et al. 2017, arXiv 1701.06538, appendix B
//   gshard         the best expert and, as `second` says, the best of the others: "all" always, "none" never, "random"
//                  with probability min(1, g2 / threshold) (mesh-tensorflow), "threshold" where g2 > threshold,
//                  "gshard" where 2 g2 > U(0, 1) (Lepikhin et al. 2020, arXiv 2006.16668, algorithm 1), with g2 the
//                  second's share of the two scores; "gumbel" always the best of the others by logits + Gumbel noise,
//                  also outside training (fairscale, DeepSpeed). A second that is not taken is in the list as dropped:
//                  weights are made of both scores (normalise "sum": the first's is g1 / (g1 + g2) all the same)
//   expert-choice  each expert takes the C = ceil(T K / E) tokens with the largest key for it, of each sequence. Zhou
//                  et al. 2022, arXiv 2202.09368. Not causal
//   hash           K experts that a random table has for the token's id, with score 1. Roller et al. 2021, arXiv
//                  2106.04426. Needs token ids, else kBadInput
//   hash-gated     the same experts with their learned scores
//   sinkhorn       in training the K largest of exp(logits) scaled until every expert has the same sum (Megatron-LM's
//                  sinkhorn: mean change of the experts' factors at most 1e-4, here of at most 256 rounds; a row is
//                  divided by its largest element first, so that exp cannot overflow). Outside training the K largest
//                  logits, which is causal
//   base           in training an assignment of tokens to experts of at most ceil(T / E) tokens each, whose sum of
//                  logits is by an auction within T (max - min) / 256 of the largest there is, unless it takes more
//                  than 64 bids a token. Lewis et al. 2021, arXiv 2103.16716. Outside training the largest logit
//   top-p          the fewest best whose scores (as shares of all scores) sum to more than threshold, at most K. Huang
//                  et al. 2024, arXiv 2403.07652
//   threshold      all with key > threshold, at least the best and at most K
//   sparse-mixer   K times: of those not yet taken, mask experts with (max - r) / max(|r|, max) > 2 threshold, take in
//                  training a sample of the softmax over the rest (outside: the largest logit); score_A is its share,
//                  in training times 1/3 unless it is the largest or with probability 1/4 (Heun's third-order method).
//                  The gradient is that of the share without that factor. SparseMixer-v2, Liu et al. 2024, arXiv
//                  2409.12136, as published with Phi-3.5-MoE, whose jitter is threshold 0.01
//   random         K different experts, uniformly (Megatron-LM's forced load balancing)
//   round-robin, uniform  token t gets experts (t K + i) mod E (torchtitan's forced load balance)
//   soft           every expert works on mixes of all tokens: soft.hpp. Not causal
//   replay         the experts of SelectionInput::replayed, with the scores of now; padding gets none. kBadInput where
//                  shapes differ
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
  bool fixed_load = false;  // every expert takes a given number of tokens, so that a capacity makes no sense
  bool mixes = false;       // no choice at all: soft.hpp has its own forward and backward, and `select` is null
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
