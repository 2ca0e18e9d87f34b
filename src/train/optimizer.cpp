#include "switchyard/train/optimizer.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "switchyard/kernels/adamw.hpp"
#include "switchyard/kernels/elementwise.hpp"

namespace switchyard::train {
namespace {

bool decays(autograd::ParameterRole role) {
  return role != autograd::ParameterRole::kNorm && role != autograd::ParameterRole::kBias;
}

}  // namespace

double learning_rate(const OptimizerConfig& config, Index step, Index steps) {
  const double peak = config.learning_rate, least = peak * config.min_lr_ratio;
  if (step < config.warmup_steps) {
    return peak * static_cast<double>(step + 1) / static_cast<double>(config.warmup_steps);
  }
  if (config.schedule == "constant") return peak;
  if (config.schedule == "wsd") {
    const double decay_steps = std::max(1.0, config.decay_fraction * static_cast<double>(steps));
    const double into_decay = static_cast<double>(step + 1) - (static_cast<double>(steps) - decay_steps);
    return into_decay <= 0.0 ? peak : peak + (least - peak) * std::min(1.0, into_decay / decay_steps);
  }
  const double span = std::max<double>(1.0, static_cast<double>(steps - 1 - config.warmup_steps));
  const double share = std::min(1.0, static_cast<double>(step - config.warmup_steps) / span);
  return least + 0.5 * (peak - least) * (1.0 + std::cos(std::numbers::pi * share));
}

AdamW::AdamW(const OptimizerConfig& config, std::span<autograd::Parameter* const> parameters) : config_(config) {
  for (autograd::Parameter* parameter : parameters) {
    if (!parameter->wants_grad()) continue;
    Moments m;
    m.parameter = parameter;
    m.first = Tensor::zeros(DType::kF32, parameter->value.shape());
    m.second = Tensor::zeros(DType::kF32, parameter->value.shape());
    m.learning_rate_factor =
        parameter->role == autograd::ParameterRole::kRouter ? static_cast<float>(config.router_lr_factor) : 1.0F;
    m.weight_decay = decays(parameter->role) ? static_cast<float>(config.weight_decay) : 0.0F;
    moments_.push_back(std::move(m));
  }
}

void AdamW::step(double rate, double gradient_scale, Index step) {
  const double correction1 = 1.0 - std::pow(config_.beta1, static_cast<double>(step + 1));
  const double correction2 = 1.0 - std::pow(config_.beta2, static_cast<double>(step + 1));
  for (Moments& m : moments_) {
    const double group_rate = rate * m.learning_rate_factor;
    kernels::AdamWStep update;
    update.gradient_scale = static_cast<float>(gradient_scale);
    update.beta1 = static_cast<float>(config_.beta1);
    update.beta2 = static_cast<float>(config_.beta2);
    update.epsilon = static_cast<float>(config_.epsilon);
    update.step_size = static_cast<float>(group_rate / correction1);
    update.second_correction = static_cast<float>(1.0 / correction2);
    update.keep = static_cast<float>(1.0 - group_rate * m.weight_decay);
    kernels::adamw_update(update, m.parameter->value.f32(), m.parameter->ensure_grad().f32(), m.first.f32(),
                          m.second.f32());
  }
}

double gradient_norm(std::span<autograd::Parameter* const> parameters) {
  double sum = 0.0;
  for (const autograd::Parameter* parameter : parameters) {
    if (parameter->wants_grad() && parameter->grad.defined()) sum += kernels::sum_of_squares(parameter->grad.f32());
  }
  return std::sqrt(sum);
}

}  // namespace switchyard::train
