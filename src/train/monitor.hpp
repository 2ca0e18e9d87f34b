#pragma once
// Notices that routing has collapsed and says what to try.

#include <map>
#include <string>
#include <vector>

#include "switchyard/moe/statistics.hpp"
#include "switchyard/train/recipe.hpp"

namespace switchyard::train {

class CollapseMonitor {
 public:
  explicit CollapseMonitor(const Recipe& recipe);
  // One step's statistics. Returns what to warn of: each trouble once, and again only after it has passed.
  std::vector<std::string> observe(const std::map<Index, moe::RoutingStatistics>& layers);

 private:
  struct State {
    Index violation_steps = 0;
    std::vector<Index> dead_steps_E;
  };
  MonitorConfig config_;
  std::string remedy_;
  std::map<Index, State> layers_;
};

}  // namespace switchyard::train
