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

// select_top_k.cpp
Assignments select_top_k(const RouterConfig& router, const SelectionInput& input);

}  // namespace switchyard::moe
