#include "switchyard/train/monitor.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace switchyard::train {
namespace {

// What to try, given what the recipe does already.
std::string make_remedy(const Recipe& recipe) {
  std::vector<std::string> ideas;
  if (recipe.balance.load_balance < 0.01F && !recipe.router.selection_bias) {
    ideas.emplace_back("raise balance.load_balance to 0.01");
    ideas.emplace_back("or balance without a loss: router.selection_bias = true, balance.bias_update_rate = 0.001");
  } else if (recipe.router.selection_bias) {
    ideas.push_back(fmt::format("raise balance.bias_update_rate (now {})", recipe.balance.bias_update_rate));
  } else {
    ideas.push_back(fmt::format("raise balance.load_balance (now {})", recipe.balance.load_balance));
  }
  if (recipe.balance.z_loss == 0.0F) ideas.emplace_back("add balance.z_loss = 0.001");
  ideas.push_back(fmt::format("lower optimizer.learning_rate (now {})", recipe.optimizer.learning_rate));
  return fmt::format("{}", fmt::join(ideas, "; "));
}

std::string make_swing_remedy(const Recipe& recipe) {
  std::vector<std::string> ideas;
  if (recipe.router.selection_bias && recipe.balance.bias_update_rate > 0.0F)
    ideas.push_back(fmt::format("lower balance.bias_update_rate (now {})", recipe.balance.bias_update_rate));
  ideas.push_back(fmt::format("raise train.batch or train.accumulate (now {} and {})", recipe.train.batch,
                              recipe.train.accumulate));
  ideas.push_back(fmt::format("lower optimizer.router_lr_factor (now {})", recipe.optimizer.router_lr_factor));
  return fmt::format("{}", fmt::join(ideas, "; "));
}

// Loads that jump about at random have an autocorrelation of about 0, loads that alternate one near -1. Smaller swings
// than this share of the mean load (root mean square) are not worth a warning.
constexpr double kLeastSwing = 0.1;
constexpr Index kLeastSteps = 8;  // fewer tell nothing of a correlation

// Of all experts' loads together, each about its own mean, in mean loads of its step. The steps are of one size and
// every step has load.
struct Swing {
  explicit Swing(const std::deque<std::vector<Index>>& load_E) {
    const std::size_t steps = load_E.size(), experts = load_E.front().size();
    std::vector<double> unit;  // one over the mean load of each step
    for (const auto& load : load_E) {
      const Index sum = std::accumulate(load.begin(), load.end(), Index{0});
      unit.push_back(static_cast<double>(experts) / static_cast<double>(sum));
    }
    double variance = 0.0, covariance = 0.0;
    std::vector<double> share(steps);
    for (std::size_t e = 0; e < experts; ++e) {
      for (std::size_t i = 0; i < steps; ++i) share[i] = static_cast<double>(load_E[i][e]) * unit[i];
      const double mean = std::accumulate(share.begin(), share.end(), 0.0) / static_cast<double>(steps);
      for (std::size_t i = 0; i < steps; ++i) {
        variance += (share[i] - mean) * (share[i] - mean);
        if (i > 0) covariance += (share[i] - mean) * (share[i - 1] - mean);
      }
    }
    correlation = variance == 0.0 ? 0.0 : covariance / variance;
    size = std::sqrt(variance / static_cast<double>(steps * experts));
  }
  double correlation, size;
};

}  // namespace

CollapseMonitor::CollapseMonitor(const Recipe& recipe)
    : config_(recipe.monitor), remedy_(make_remedy(recipe)), swing_remedy_(make_swing_remedy(recipe)) {}

void CollapseMonitor::observe_swing(Index layer, const moe::RoutingStatistics& statistics, MonitorState& state,
                                    std::vector<std::string>& warnings) const {
  if (config_.oscillation == 0.0 || statistics.mean_load() == 0.0) return;
  const auto patience = static_cast<std::size_t>(config_.patience);
  state.load_E.push_back(statistics.load_E);
  while (state.load_E.size() > patience) state.load_E.pop_front();
  if (state.load_E.size() < patience || config_.patience < kLeastSteps) return;
  const Swing swing(state.load_E);
  const bool swings = swing.correlation < -config_.oscillation && swing.size > kLeastSwing;
  if (swings && !state.swings)
    warnings.push_back(
        fmt::format("layer {}: the experts' loads swing to and fro from step to step (autocorrelation {:.2f} over {} "
                    "steps, by {:.0f}% "
                    "of the mean load). Try: {}",
                    layer, swing.correlation, config_.patience, 100.0 * swing.size, swing_remedy_));
  state.swings = swings;
}

std::vector<std::string> CollapseMonitor::observe(const std::map<Index, moe::RoutingStatistics>& layers) {
  std::vector<std::string> warnings;
  for (const auto& [layer, statistics] : layers) {
    MonitorState& state = layers_[layer];
    state.dead_steps_E.resize(statistics.load_E.size());

    state.violation_steps = statistics.max_violation() > config_.max_violation ? state.violation_steps + 1 : 0;
    if (state.violation_steps == config_.patience) {
      const auto busiest = std::max_element(statistics.load_E.begin(), statistics.load_E.end());
      const auto expert = busiest - statistics.load_E.begin();
      warnings.push_back(fmt::format(
          "layer {}: expert {} gets {:.1f} times the mean load (MaxVio {:.2f}, above {} for {} steps). Try: {}", layer,
          expert, static_cast<double>(*busiest) / statistics.mean_load(), statistics.max_violation(),
          config_.max_violation, config_.patience, remedy_));
    }

    observe_swing(layer, statistics, state, warnings);
    std::vector<std::size_t> dead;
    for (std::size_t e = 0; e < statistics.load_E.size(); ++e) {
      state.dead_steps_E[e] = statistics.load_E[e] == 0 ? state.dead_steps_E[e] + 1 : 0;
      if (state.dead_steps_E[e] == config_.patience) dead.push_back(e);
    }
    if (!dead.empty()) {
      warnings.push_back(fmt::format("layer {}: expert{} {} got no token for {} steps. Try: {}", layer,
                                     dead.size() == 1 ? "" : "s", fmt::join(dead, ", "), config_.patience, remedy_));
    }
  }
  return warnings;
}

}  // namespace switchyard::train
