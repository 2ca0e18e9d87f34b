#include "monitor.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace switchyard::train {
namespace {

// What to try, given what the recipe does already.
std::string make_remedy(const Recipe& recipe) {
  std::vector<std::string> ideas;
  if (recipe.balance.load_balance < 0.01F && !recipe.router.selection_bias) {
    ideas.push_back("raise balance.load_balance to 0.01");
    ideas.push_back("or balance without a loss: router.selection_bias = true, balance.bias_update_rate = 0.001");
  } else if (recipe.router.selection_bias) {
    ideas.push_back(fmt::format("raise balance.bias_update_rate (now {})", recipe.balance.bias_update_rate));
  } else {
    ideas.push_back(fmt::format("raise balance.load_balance (now {})", recipe.balance.load_balance));
  }
  if (recipe.balance.z_loss == 0.0F) ideas.push_back("add balance.z_loss = 0.001");
  ideas.push_back(fmt::format("lower optimizer.learning_rate (now {})", recipe.optimizer.learning_rate));
  return fmt::format("{}", fmt::join(ideas, "; "));
}

}  // namespace

CollapseMonitor::CollapseMonitor(const Recipe& recipe) : config_(recipe.monitor), remedy_(make_remedy(recipe)) {}

std::vector<std::string> CollapseMonitor::observe(const std::map<Index, moe::RoutingStatistics>& layers) {
  std::vector<std::string> warnings;
  for (const auto& [layer, statistics] : layers) {
    State& state = layers_[layer];
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
