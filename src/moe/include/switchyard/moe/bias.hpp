#pragma once
// Balancing without a loss: the selection bias b_e, which selection adds to the score of expert e, moves once an
// optimiser step. Rules of balance.bias_update, u = balance.bias_update_rate:
//   sign      b_e += u * sign(mean(load) - load_e): experts with less than the mean are chosen more often. load is the
//             assignments that an expert got over the whole batch, after drops, without padding. arXiv 2408.15664;
//             DeepSeek-V3
//   quantile  b_e += u * (b'_e - b_e), where b' is what would have sent every expert its share of the tokens: b'_e =
//             -(the (floor(T K / E) + 1)-th largest over tokens of s_e - a), a = a token's (K+1)-th largest s + b; the
//             mean over the step's micro-batches. u = 1 takes b' itself, less is a moving average. Megatron-LM's
//             quantile balancing. Nothing happens where K = E.
// Then, with bias_centre, the mean of b is taken off (torchtitan). From step bias_freeze_after on b stays as it is.

#include <map>
#include <span>
#include <string_view>
#include <vector>

#include "switchyard/moe/config.hpp"
#include "switchyard/moe/observer.hpp"

namespace switchyard::moe {

struct BiasInput {
  std::span<const Index> load_E;
  std::span<const double> target_E;  // b', for rules that want it; empty where there is none
};

struct BiasRule {
  std::string_view name;
  bool wants_target;
  void (*update)(float rate, const BiasInput& input, std::span<float> bias_E);
};
std::span<const BiasRule> bias_rules();
const BiasRule& find_bias_rule(std::string_view name);  // kBadInput listing the names

// The whole of an optimiser step's update. step counts from 0; a rate of 0 changes nothing.
void update_selection_bias(const BalanceConfig& balance, Index step, const BiasInput& input, std::span<float> bias_E);

// Collects b' of the layers whose rule wants it.
class BiasTargets final : public RoutingObserver {
 public:
  void on_routing(const RoutingEvent& event) override;
  // The mean over the calls so far; empty where the layer has none.
  std::vector<double> target(Index layer) const;

 private:
  struct Sum {
    std::vector<double> bias_E;
    Index calls = 0;
  };
  std::map<Index, Sum> layers_;
};

// b' of one call; empty where K = E or there is no token.
std::vector<double> quantile_bias(ConstMatrix scores_TE, std::span<const float> bias_E,
                                  std::span<const std::uint8_t> valid_T, Index top_k);

}  // namespace switchyard::moe
