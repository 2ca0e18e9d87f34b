#pragma once
// Dead experts come back: one that got no token for train.revive_after steps becomes a copy of the most loaded expert
// of its layer, every number times 1 + train.revive_noise * n, n standard normal. Its row of the router goes with it,
// its selection bias without noise; what AdamW remembers of them is forgotten.

#include <map>
#include <string>
#include <vector>

#include "switchyard/moe/statistics.hpp"
#include "switchyard/train/optimizer.hpp"
#include "switchyard/train/recipe.hpp"

namespace switchyard::model {
class Transformer;
}

namespace switchyard::train {

// Steps on end that each expert got no token, by layer. Part of a checkpoint.
using DeadSteps = std::map<Index, std::vector<Index>>;

class Revival {
 public:
  explicit Revival(const TrainConfig& config) : config_(config) {}
  // After a step (0-based) with these loads. Returns a line for every expert that came back. Parameters that are not
  // trained stay as they are.
  std::vector<std::string> observe(Index step, const std::map<Index, moe::RoutingStatistics>& layers,
                                   model::Transformer& transformer, AdamW& optimizer);

  const DeadSteps& dead_steps() const { return dead_steps_; }
  void restore(DeadSteps dead_steps) { dead_steps_ = std::move(dead_steps); }

 private:
  const TrainConfig& config_;
  DeadSteps dead_steps_;
};

}  // namespace switchyard::train
