#pragma once
// Which key is which member, declared once: recipes, saved models and `switchyard presets` all walk this. A visitor is
// called as v("key", member) for bool, Index, std::uint64_t, float, std::string and std::vector<Index>.

#include "switchyard/moe/config.hpp"

namespace switchyard::moe {

// What a router does outside training too. All but the number of experts, which a recipe has in another table.
template <class V, class Router>
void visit_router_inference(V& v, Router& c) {
  v("top_k", c.top_k);
  v("logits", c.logits);
  v("cosine_width", c.cosine_width);
  v("logits_bias", c.logits_bias);
  v("residual", c.residual);
  v("temperature", c.temperature);
  v("precision", c.precision);
  v("score", c.score);
  v("levels", c.levels);
  v("level_top_k", c.level_top_k);
  v("select", c.select);
  v("selection_bias", c.selection_bias);
  v("groups", c.groups);
  v("groups_kept", c.groups_kept);
  v("group_score", c.group_score);
  v("threshold", c.threshold);
  v("second", c.second);
  v("hash_seed", c.hash_seed);
  v("slots", c.slots);
  v("normalise", c.normalise);
  v("norm_p", c.norm_p);
  v("scale", c.scale);
  v("zero_experts", c.zero_experts);
  v("copy_experts", c.copy_experts);
  v("constant_experts", c.constant_experts);
}

// What it does in training only. (Noise "shazeer" has weights all the same.)
template <class V, class Router>
void visit_router_training(V& v, Router& c) {
  v("jitter", c.jitter);
  v("jitter_on", c.jitter_on);
  v("noise", c.noise);
  v("noise_std", c.noise_std);
  v("noise_on", c.noise_on);
  v("uniform_warmup", c.uniform_warmup);
  v("expert_dropout", c.expert_dropout);
  v("dense_gradient", c.dense_gradient);
}

template <class V, class Router>
void visit_router(V& v, Router& c) {
  visit_router_inference(v, c);
  visit_router_training(v, c);
}

template <class V, class Capacity>
void visit_capacity(V& v, Capacity& c) {
  v("factor", c.factor);
  v("evaluation_factor", c.evaluation_factor);
  v("minimum", c.minimum);
  v("formula", c.formula);
  v("scope", c.scope);
  v("drop", c.drop);
  v("overflow", c.overflow);
  v("overflow_scale", c.overflow_scale);
  v("fallback_expert", c.fallback_expert);
  v("renormalise", c.renormalise);
}

template <class V, class Balance>
void visit_balance(V& v, Balance& c) {
  v("load_balance", c.load_balance);
  v("load_balance_scope", c.load_balance_scope);
  v("load_balance_counts", c.load_balance_counts);
  v("importance_cv", c.importance_cv);
  v("load_cv", c.load_cv);
  v("usage_variance", c.usage_variance);
  v("device", c.device);
  v("communication", c.communication);
  v("devices", c.devices);
  v("z_loss", c.z_loss);
  v("entropy", c.entropy);
  v("bias_update", c.bias_update);
  v("bias_update_rate", c.bias_update_rate);
  v("bias_centre", c.bias_centre);
  v("bias_freeze_after", c.bias_freeze_after);
}

}  // namespace switchyard::moe
