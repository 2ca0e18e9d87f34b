#pragma once
// Notices that routing has collapsed, or swings to and fro, and says what to try.

#include <deque>
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
    std::deque<std::vector<double>> share_E;  // of the last steps
    bool swings = false;
  };
  void observe_swing(Index layer, const moe::RoutingStatistics& statistics, State& state,
                     std::vector<std::string>& warnings) const;
  MonitorConfig config_;
  std::string remedy_, swing_remedy_;
  std::map<Index, State> layers_;
};

}  // namespace switchyard::train
