#pragma once
// The schemes that the tables in score.cpp and select.cpp list. One file a scheme.

#include "switchyard/moe/score.hpp"
#include "switchyard/moe/select.hpp"

namespace switchyard::moe {

// score_softmax.cpp
void softmax_score(const RouterConfig&, ConstMatrix logits_TE, Matrix scores_TE);
void softmax_score_backward(const RouterConfig&, ConstMatrix logits_TE, ConstMatrix scores_TE, ConstMatrix d_scores_TE,
                            Matrix d_logits_TE);

// score_sigmoid.cpp
void sigmoid_score(const RouterConfig&, ConstMatrix logits_TE, Matrix scores_TE);
void sigmoid_score_backward(const RouterConfig&, ConstMatrix logits_TE, ConstMatrix scores_TE, ConstMatrix d_scores_TE,
                            Matrix d_logits_TE);

// score_logits.cpp
void logits_score(const RouterConfig&, ConstMatrix logits_TE, Matrix scores_TE);
void logits_score_backward(const RouterConfig&, ConstMatrix logits_TE, ConstMatrix scores_TE, ConstMatrix d_scores_TE,
                           Matrix d_logits_TE);

// score_sqrt_softplus.cpp
void sqrt_softplus_score(const RouterConfig&, ConstMatrix logits_TE, Matrix scores_TE);
void sqrt_softplus_score_backward(const RouterConfig&, ConstMatrix logits_TE, ConstMatrix scores_TE,
                                  ConstMatrix d_scores_TE, Matrix d_logits_TE);

// score_tree.cpp
Index tree_logits(const RouterConfig& router);
void tree_score(const RouterConfig& router, ConstMatrix logits_TR, Matrix scores_TE);
void tree_score_backward(const RouterConfig& router, ConstMatrix logits_TR, ConstMatrix scores_TE,
                         ConstMatrix d_scores_TE, Matrix d_logits_TR);
void check_tree_levels(const RouterConfig& router);

// One file a rule: select_NAME.cpp. select_dynamic.cpp has top-p and threshold, select_forced.cpp those that look at no
// score, selection_checks.cpp the short checks.
Assignments select_top_k(const RouterConfig& router, const SelectionInput& input);
Assignments select_tree(const RouterConfig& router, const SelectionInput& input);
Assignments select_group_limited(const RouterConfig& router, const SelectionInput& input);
Assignments select_gshard(const RouterConfig& router, const SelectionInput& input);
Assignments select_hash(const RouterConfig& router, const SelectionInput& input);
void select_hash_backward(const RouterConfig& router, const SelectionInput& input, const Assignments& assignments,
                          std::span<const float> d_score_A, Matrix d_logits_TR);
Assignments select_hash_gated(const RouterConfig& router, const SelectionInput& input);
Assignments select_expert_choice(const RouterConfig& router, const SelectionInput& input);
Assignments select_sinkhorn(const RouterConfig& router, const SelectionInput& input);
Assignments select_base(const RouterConfig& router, const SelectionInput& input);
Assignments select_top_p(const RouterConfig& router, const SelectionInput& input);
Assignments select_threshold(const RouterConfig& router, const SelectionInput& input);
Assignments select_sparse_mixer(const RouterConfig& router, const SelectionInput& input);
void select_sparse_mixer_backward(const RouterConfig& router, const SelectionInput& input,
                                  const Assignments& assignments, std::span<const float> d_score_A, Matrix d_logits_TR);
Assignments select_random(const RouterConfig& router, const SelectionInput& input);
Assignments select_round_robin(const RouterConfig& router, const SelectionInput& input);
Assignments select_replay(const RouterConfig& router, const SelectionInput& input);

void check_select_tree(const RouterConfig& router);
void check_group_limited(const RouterConfig& router);
void check_gshard(const RouterConfig& router);
void check_forced(const RouterConfig& router);       // looks at neither choice nor logits
void check_from_logits(const RouterConfig& router);  // looks at logits and not at choice
void check_base(const RouterConfig& router);
void check_top_p(const RouterConfig& router);

}  // namespace switchyard::moe
