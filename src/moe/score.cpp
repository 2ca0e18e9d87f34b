#include "switchyard/moe/score.hpp"

#include <array>

#include "named_table.hpp"
#include "schemes.hpp"
#include "switchyard/moe/select.hpp"

namespace switchyard::moe {
namespace {

constexpr std::array kScoreFunctions = {
    ScoreFunction{"softmax", softmax_score, softmax_score_backward, Probabilities::kScores},
    ScoreFunction{"sigmoid", sigmoid_score, sigmoid_score_backward, Probabilities::kNormalised},
    ScoreFunction{"sqrt-softplus", sqrt_softplus_score, sqrt_softplus_score_backward, Probabilities::kNormalised},
    ScoreFunction{"tree", tree_score, tree_score_backward, Probabilities::kScores, tree_logits, check_tree_levels},
    ScoreFunction{"logits", logits_score, logits_score_backward, Probabilities::kSoftmaxOfLogits},
};

}  // namespace

Index logits_of(const RouterConfig& router) {
  if (find_selection_rule(router.select).mixes) return router.experts * router.slots;
  const ScoreFunction& score = find_score_function(router.score);
  return score.logits == nullptr ? router.choices() : score.logits(router);
}

std::span<const ScoreFunction> score_functions() { return kScoreFunctions; }

const ScoreFunction& find_score_function(std::string_view name) {
  return require_row(score_functions(), name, "router score");
}

}  // namespace switchyard::moe
