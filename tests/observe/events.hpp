#pragma once
// Routing events made by hand.

#include <cstdint>
#include <vector>

#include "switchyard/moe/observer.hpp"

namespace switchyard::observe {

// Tells the observer that layer `layer` sent token t to the experts choice[t], each with weight 1. `dropped` lists
// assignments that capacity refused.
inline void see(moe::RoutingObserver& observer, Index layer, Index experts,
                const std::vector<std::vector<std::int32_t>>& choice, const std::vector<std::int32_t>& token_ids,
                const std::vector<std::size_t>& dropped = {}) {
  moe::MoeConfig config;
  config.router.experts = experts;
  moe::Assignments list;
  list.tokens = static_cast<Index>(choice.size());
  list.experts = experts;
  list.offset_T1 = {0};
  for (const auto& chosen : choice) {
    list.expert_A.insert(list.expert_A.end(), chosen.begin(), chosen.end());
    list.offset_T1.push_back(static_cast<std::int32_t>(list.expert_A.size()));
  }
  list.score_A.assign(list.expert_A.size(), 1.0F);
  list.weight_A.assign(list.expert_A.size(), 1.0F);
  list.dropped_A.assign(list.expert_A.size(), 0);
  for (const std::size_t a : dropped) {
    list.dropped_A[a] = 1;
    list.weight_A[a] = 0.0F;
  }
  const moe::DispatchPlan plan = moe::make_dispatch_plan(list);
  const std::vector<float> even(choice.size() * static_cast<std::size_t>(experts), 1.0F / static_cast<float>(experts));
  const ConstMatrix scores_TE(even.data(), list.tokens, experts, experts);
  const moe::RoutingEvent event{.layer = layer,
                                .config = config,
                                .logits_TE = scores_TE,
                                .scores_TE = scores_TE,
                                .assignments = list,
                                .plan = plan,
                                .token_id_T = token_ids,
                                .valid_T = {},
                                .losses = {},
                                .training = false};
  observer.on_routing(event);
}

}  // namespace switchyard::observe
