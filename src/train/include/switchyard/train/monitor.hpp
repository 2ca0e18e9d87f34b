#pragma once
// Notices that routing has collapsed, or swings to and fro, and says what to try.

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "switchyard/moe/statistics.hpp"
#include "switchyard/train/recipe.hpp"

namespace switchyard::train {

// What the monitor remembers of a layer. Part of a checkpoint: a run that goes on warns where one that was never
// stopped would have.
struct MonitorState {
  Index violation_steps = 0;              // steps on end with MaxVio above the limit
  std::vector<Index> dead_steps_E;        // steps on end that each expert got no token
  std::deque<std::vector<Index>> load_E;  // of the last steps, monitor.patience at most
  bool swings = false;                    // it has been said that the loads do
};
using MonitorStates = std::map<Index, MonitorState>;  // by layer

class CollapseMonitor {
 public:
  explicit CollapseMonitor(const Recipe& recipe);
  // One step's statistics. Returns what to warn of: each trouble once, and again only after it has passed.
  std::vector<std::string> observe(const std::map<Index, moe::RoutingStatistics>& layers);

  const MonitorStates& states() const { return layers_; }
  void restore(MonitorStates states) { layers_ = std::move(states); }

 private:
  void observe_swing(Index layer, const moe::RoutingStatistics& statistics, MonitorState& state,
                     std::vector<std::string>& warnings) const;
  MonitorConfig config_;
  std::string remedy_, swing_remedy_;
  MonitorStates layers_;
};

}  // namespace switchyard::train
