#pragma once
// From router logits to scores, one score an expert and token.
//   softmax   p_e = exp(r_e) / sum exp(r)       Shazeer et al. 2017, arXiv 1701.06538
//   sigmoid   s_e = 1 / (1 + exp(-r_e))         DeepSeek-V3, arXiv 2412.19437

#include <span>
#include <string_view>

#include "switchyard/tensor/view.hpp"

namespace switchyard::moe {

struct ScoreFunction {
  std::string_view name;
  void (*forward)(ConstMatrix logits_TE, Matrix scores_TE);
  // d_logits += gradient; logits and scores are those of forward.
  void (*backward)(ConstMatrix logits_TE, ConstMatrix scores_TE, ConstMatrix d_scores_TE, Matrix d_logits_TE);
  // Whether a row of scores sums to 1. Where not, losses on probabilities divide by the row's sum.
  bool is_distribution;
};

std::span<const ScoreFunction> score_functions();
const ScoreFunction& find_score_function(std::string_view name);  // kBadInput listing the names

}  // namespace switchyard::moe
