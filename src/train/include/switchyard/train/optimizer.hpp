#pragma once
// AdamW with decoupled weight decay, parameter groups and clipping by global norm.

#include <span>
#include <vector>

#include "switchyard/autograd/value.hpp"
#include "switchyard/train/recipe.hpp"

namespace switchyard::train {

// The learning rate at a step (0-based), router factor not included.
//   warm-up   linear from lr / warmup_steps to lr
//   cosine    half a cosine to min_lr_ratio * lr at the last step
//   wsd       constant, then linear over the last decay_fraction of the run.  MiniCPM, arXiv 2404.06395
double learning_rate(const OptimizerConfig& config, Index step, Index steps);

// Two float32 moments a trainable parameter. State depends only on the gradients seen, in order.
class AdamW {
 public:
  AdamW(const OptimizerConfig& config, std::span<autograd::Parameter* const> parameters);

  // Applies one step with the gradients times `gradient_scale` (clipping included by the caller) and zeroes them.
  // step counts from 0. Updates are elementwise: the same bits at any thread count.
  void step(double learning_rate, double gradient_scale, Index step);

  struct Moments {
    autograd::Parameter* parameter = nullptr;
    Tensor first, second;
    float learning_rate_factor = 1.0F;
    float weight_decay = 0.0F;
  };
  std::span<Moments> moments() { return moments_; }

 private:
  OptimizerConfig config_;
  std::vector<Moments> moments_;
};

// sqrt of the sum over parameters of squared gradients.
double gradient_norm(std::span<autograd::Parameter* const> parameters);

}  // namespace switchyard::train
