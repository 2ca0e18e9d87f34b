#pragma once
// Scores and selection rules as scalar loops in double, written from the formulas and sharing no code with src/moe.
// Functions of one token take its row; what a rule draws at random is given.

#include <string>
#include <vector>

#include "oracle/moe.hpp"

namespace switchyard::oracle {

// Levels are the branches a level; a token's logits stand level by level.
Values tree_scores(const Values& logits_TR, const std::vector<Index>& levels);

// Best first, a tie to the lower index, as all below.
std::vector<Index> tree_experts(const Values& key_E, const std::vector<Index>& levels, const std::vector<Index>& keep);
std::vector<Index> group_limited_experts(const Values& key_E, Index groups, Index kept, const std::string& group_score,
                                         Index k);

// Experts of each token.
std::vector<std::vector<Index>> expert_choice(const Values& key_TE, Index experts, Index top_k,
                                              const std::vector<std::uint8_t>& valid_T, Index sequence);

// exp(logits) times the factors of rows and columns, until the mean change of the columns' is at most 1e-4.
Values sinkhorn(const Values& logits_TE, Index experts);

// The largest sum of values of an assignment of every token to one expert, at most `room` tokens each.
double best_balanced_sum(const Values& value_TE, Index experts, Index room);

std::vector<Index> top_p_experts(const Values& score_E, double threshold, Index most);

struct MixedExpert {
  Index expert = 0;
  double share = 0.0, factor = 1.0;
};
// gumbel_KE, uniform_K: draws; empty outside training. Where `fixed` is not empty, those are the experts.
std::vector<MixedExpert> sparse_mixer(const Values& logit_E, Index k, double jitter, const Values& gumbel_KE,
                                      const Values& uniform_K, const std::vector<Index>& fixed = {});

}  // namespace switchyard::oracle
