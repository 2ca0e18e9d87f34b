#pragma once
// From router logits to scores, one score an expert and token.
//   softmax   p_e = exp(r_e) / sum exp(r)       Shazeer et al. 2017, arXiv 1701.06538
//   sigmoid   s_e = 1 / (1 + exp(-r_e))         DeepSeek-V3, arXiv 2412.19437
//   sqrt-softplus  s_e = sqrt(log(1 + exp(r_e)))                               Megatron-LM, "sqrtsoftplus"
//   tree      product, along the path to leaf e, of softmaxes among siblings   hierarchical MoE, Shazeer et al. 2017,
//             appendix B, to any depth. RouterConfig::levels are the branches a level; the logits of a token are those
//             of all nodes but the root, level by level, the children of a node side by side
//   logits    s_e = r_e, for weights that are a softmax over the chosen (weights.hpp)   gpt-oss

#include <span>
#include <string_view>

#include "switchyard/moe/config.hpp"
#include "switchyard/tensor/view.hpp"

namespace switchyard::moe {

enum class Probabilities {
  kScores,           // scores sum to 1
  kNormalised,       // scores divided by their sum
  kSoftmaxOfLogits,  // scores may be negative
};

// E here counts every expert that can be chosen, RouterConfig::choices().
struct ScoreFunction {
  std::string_view name;
  void (*forward)(const RouterConfig& router, ConstMatrix logits_TR, Matrix scores_TE);
  // d_logits += gradient; logits and scores are those of forward.
  void (*backward)(const RouterConfig& router, ConstMatrix logits_TR, ConstMatrix scores_TE, ConstMatrix d_scores_TE,
                   Matrix d_logits_TR);
  // What losses and entropy take as a token's probabilities.
  Probabilities probabilities;
  // R, the width of a row of logits; null: R = E.
  Index (*logits)(const RouterConfig& router) = nullptr;
  // What else the function asks of a config, as SelectionRule::check. May be null.
  void (*check)(const RouterConfig& router) = nullptr;
};

// R: how many logits a token gets.
Index logits_of(const RouterConfig& router);

std::span<const ScoreFunction> score_functions();
const ScoreFunction& find_score_function(std::string_view name);  // kBadInput listing the names

}  // namespace switchyard::moe
