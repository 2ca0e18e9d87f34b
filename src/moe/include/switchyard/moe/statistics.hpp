#pragma once
// What a layer's routing looked like, summed over any number of calls.

#include <map>
#include <string_view>
#include <vector>

#include "switchyard/moe/observer.hpp"

namespace switchyard::moe {

struct RoutingStatistics {
  Index tokens = 0;                  // without padding
  Index assignments = 0;             // before capacity
  Index dropped = 0;                 // that reached no expert, nor the shared one in its place
  Index rerouted = 0;                // to another expert than the chosen one, or to the shared expert
  std::vector<Index> load_E;         // kept assignments an expert got
  std::vector<double> importance_E;  // sum of their weights
  double entropy_sum = 0.0;          // over tokens, of the router's probabilities, in nats
  double load_balance_sum = 0.0;     // raw losses, a call each
  double z_loss_sum = 0.0;
  // Likewise of every loss that has a coefficient, by its name in router_losses().
  std::map<std::string_view, double> loss_sum;
  Index calls = 0;

  void add(const RoutingEvent& event);
  void merge(const RoutingStatistics& other);

  double mean_load() const;
  double max_violation() const;             // MaxVio = max load / mean load - 1; 0 when even
  double mean_entropy() const;              // nats a token; log(E) when the router is undecided
  double drop_rate() const;                 // dropped / assignments
  double reroute_rate() const;              // rerouted / assignments
  std::vector<Index> dead_experts() const;  // experts that got nothing
};

// Keeps the statistics of every MoE layer it sees.
class StatisticsRecorder final : public RoutingObserver {
 public:
  void on_routing(const RoutingEvent& event) override;
  // By layer index; only MoE layers appear.
  const std::map<Index, RoutingStatistics>& layers() const { return layers_; }
  void clear() { layers_.clear(); }

 private:
  std::map<Index, RoutingStatistics> layers_;
};

// Hands every event to several observers, in order. Does not own them.
class ObserverList final : public RoutingObserver {
 public:
  void add(RoutingObserver* observer) { observers_.push_back(observer); }
  void on_routing(const RoutingEvent& event) override {
    for (RoutingObserver* observer : observers_) observer->on_routing(event);
  }

 private:
  std::vector<RoutingObserver*> observers_;
};

}  // namespace switchyard::moe
