#include "switchyard/moe/statistics.hpp"

#include <algorithm>
#include <cmath>

#include "rows.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/elementwise.hpp"
#include "switchyard/moe/losses.hpp"
#include "switchyard/moe/score.hpp"
#include "switchyard/tensor/tensor.hpp"

namespace switchyard::moe {
namespace {

// Sum over valid tokens of the entropy of their probabilities, in nats. With p = s / S it is log S - sum s log s / S,
// which needs no division an expert.
double entropy_sum(const RoutingEvent& event) {
  const bool softmax = find_score_function(event.config.router.score).probabilities == Probabilities::kSoftmaxOfLogits;
  Tensor p;
  if (softmax) {
    p = Tensor::uninitialized(DType::kF32, {event.logits_TE.rows, event.logits_TE.cols});
    kernels::softmax_rows(event.logits_TE, p.matrix());
  }
  const ConstMatrix scores_TE = softmax ? std::as_const(p).matrix() : event.scores_TE;
  std::vector<float> entropy_T(static_cast<std::size_t>(scores_TE.rows));
  parallel_for(scores_TE.rows, row_grain(8 * scores_TE.cols), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      if (!is_valid(event.valid_T, t)) continue;
      float sum = 0.0F, sum_log = 0.0F;
      for (Index e = 0; e < scores_TE.cols; ++e) {
        const float s = scores_TE(t, e);
        sum += s;
        if (s > 0.0F) sum_log += s * std::log(s);
      }
      if (sum != 0.0F) entropy_T[static_cast<std::size_t>(t)] = std::log(sum) - sum_log / sum;
    }
  });
  double total = 0.0;
  for (const float entropy : entropy_T) total += static_cast<double>(entropy);
  return total;
}

}  // namespace

void RoutingStatistics::add(const RoutingEvent& event) {
  const Assignments& list = event.assignments;
  const auto experts = static_cast<std::size_t>(list.experts);
  if (load_E.empty()) {
    load_E.resize(experts);
    importance_E.resize(experts);
  }
  require(load_E.size() == experts, "statistics of {} experts met a layer with {}", load_E.size(), experts);
  tokens += count_valid(event.valid_T, list.tokens);
  assignments += list.size();
  // What went to the shared expert has no slot, but was not lost either.
  dropped += list.size() - event.plan.slots() - (list.fallback_T.empty() ? 0 : list.rerouted);
  rerouted += list.rerouted;
  for (std::size_t e = 0; e < experts; ++e) {
    load_E[e] += event.plan.load(static_cast<Index>(e));
    for (auto s = static_cast<std::size_t>(event.plan.offset_E1[e]);
         s < static_cast<std::size_t>(event.plan.offset_E1[e + 1]); ++s)
      importance_E[e] += static_cast<double>(event.plan.weight_of_slot_S[s]);
  }
  entropy_sum += moe::entropy_sum(event);
  load_balance_sum += static_cast<double>(event.losses.load_balance);
  z_loss_sum += static_cast<double>(event.losses.z_loss);
  for (const RouterLoss& loss : router_losses())
    if (event.config.balance.*loss.coefficient != 0.0F)
      loss_sum[loss.name] += static_cast<double>(event.losses.*loss.value);
  ++calls;
}

void RoutingStatistics::merge(const RoutingStatistics& other) {
  if (load_E.empty()) {
    load_E.resize(other.load_E.size());
    importance_E.resize(other.load_E.size());
  }
  require(other.load_E.empty() || load_E.size() == other.load_E.size(), "statistics of {} experts met some of {}",
          load_E.size(), other.load_E.size());
  tokens += other.tokens;
  assignments += other.assignments;
  dropped += other.dropped;
  rerouted += other.rerouted;
  for (std::size_t e = 0; e < other.load_E.size(); ++e) {
    load_E[e] += other.load_E[e];
    importance_E[e] += other.importance_E[e];
  }
  entropy_sum += other.entropy_sum;
  load_balance_sum += other.load_balance_sum;
  z_loss_sum += other.z_loss_sum;
  for (const auto& [name, sum] : other.loss_sum) loss_sum[name] += sum;
  calls += other.calls;
}

double RoutingStatistics::mean_load() const {
  if (load_E.empty()) return 0.0;
  Index total = 0;
  for (const Index load : load_E) total += load;
  return static_cast<double>(total) / static_cast<double>(load_E.size());
}

double RoutingStatistics::max_violation() const {
  const double mean = mean_load();
  if (mean == 0.0) return 0.0;
  return static_cast<double>(*std::max_element(load_E.begin(), load_E.end())) / mean - 1.0;
}

double RoutingStatistics::mean_entropy() const { return tokens == 0 ? 0.0 : entropy_sum / static_cast<double>(tokens); }

double RoutingStatistics::drop_rate() const {
  return assignments == 0 ? 0.0 : static_cast<double>(dropped) / static_cast<double>(assignments);
}

double RoutingStatistics::reroute_rate() const {
  return assignments == 0 ? 0.0 : static_cast<double>(rerouted) / static_cast<double>(assignments);
}

std::vector<Index> RoutingStatistics::dead_experts() const {
  std::vector<Index> dead;
  for (std::size_t e = 0; e < load_E.size(); ++e)
    if (load_E[e] == 0) dead.push_back(static_cast<Index>(e));
  return dead;
}

void StatisticsRecorder::on_routing(const RoutingEvent& event) { layers_[event.layer].add(event); }

}  // namespace switchyard::moe
