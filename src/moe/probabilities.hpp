#pragma once
// What losses take as a token's probabilities over experts, whatever the score function: see Probabilities.

#include "switchyard/moe/losses.hpp"
#include "switchyard/moe/score.hpp"
#include "switchyard/tensor/tensor.hpp"

namespace switchyard::moe {

class RouterProbabilities {
 public:
  RouterProbabilities(const RouterConfig& router, ConstMatrix logits_TR, ConstMatrix scores_TE);
  ConstMatrix matrix() const { return made_.defined() ? made_.matrix() : scores_TE_; }
  // dL/dp of one token, [E], to the scores or logits that p came from. Different tokens may be given at once.
  void backward_row(Index t, const float* d_p_E, const LossGradients& gradients) const;

 private:
  Probabilities kind_;
  ConstMatrix scores_TE_;
  Tensor made_;  // undefined where the scores are the probabilities
};

}  // namespace switchyard::moe
