#pragma once
// Which key of a recipe is which member, declared once: reading, writing and the list of known keys all walk this.

#include "switchyard/moe/config_keys.hpp"
#include "switchyard/train/recipe.hpp"

namespace switchyard::train {

template <class V>
void visit_keys(V& v, DataConfig& c) {
  v("paths", c.paths);
  v("tokenizer", c.tokenizer);
  v("vocab", c.vocab);
  v("validation", c.validation);
}

template <class V>
void visit_keys(V& v, ModelRecipe& c) {
  v("width", c.width);
  v("layers", c.layers);
  v("heads", c.heads);
  v("kv_heads", c.kv_heads);
  v("head_dim", c.head_dim);
  v("ffn", c.ffn);
  v("hidden", c.hidden);
  v("activation", c.activation);
  v("tied_embeddings", c.tied_embeddings);
  v("qkv_bias", c.qkv_bias);
  v("qk_norm", c.qk_norm);
  v("rope_theta", c.rope_theta);
  v("norm_eps", c.norm_eps);
  v("dropout", c.dropout);
}

template <class V>
void visit_keys(V& v, ExpertsRecipe& c) {
  v("count", c.count);
  v("hidden", c.hidden);
  v("shared_hidden", c.shared_hidden);
  v("shared_gated", c.shared_gated);
  v("bias", c.bias);
}

template <class V>
void visit_keys(V& v, RouterRecipe& c) {
  v("preset", c.preset);
  moe::visit_router(v, c);
}

template <class V>
void visit_keys(V& v, moe::CapacityConfig& c) {
  moe::visit_capacity(v, c);
}

template <class V>
void visit_keys(V& v, BalanceRecipe& c) {
  moe::visit_balance(v, c);
}

template <class V>
void visit_keys(V& v, LayerRecipe& c) {
  v("at", c.at);
  v("ffn", c.ffn);
  v("hidden", c.hidden);
  v("experts", c.experts);
  v("expert_hidden", c.expert_hidden);
  v("shared_hidden", c.shared_hidden);
  v("top_k", c.top_k);
}

template <class V>
void visit_keys(V& v, InitRecipe& c) {
  v("std", c.std);
  v("truncate", c.truncate);
  v("scale_residual", c.scale_residual);
  v("router_std", c.router_std);
  v("embedding_std", c.embedding_std);
}

template <class V>
void visit_keys(V& v, OptimizerConfig& c) {
  v("learning_rate", c.learning_rate);
  v("beta1", c.beta1);
  v("beta2", c.beta2);
  v("epsilon", c.epsilon);
  v("weight_decay", c.weight_decay);
  v("clip_norm", c.clip_norm);
  v("router_lr_factor", c.router_lr_factor);
  v("schedule", c.schedule);
  v("warmup_steps", c.warmup_steps);
  v("decay_fraction", c.decay_fraction);
  v("min_lr_ratio", c.min_lr_ratio);
}

template <class V>
void visit_keys(V& v, TrainConfig& c) {
  v("steps", c.steps);
  v("batch", c.batch);
  v("sequence", c.sequence);
  v("accumulate", c.accumulate);
  v("seed", c.seed);
  v("evaluate_every", c.evaluate_every);
  v("evaluate_batches", c.evaluate_batches);
  v("sample_every", c.sample_every);
  v("checkpoint_every", c.checkpoint_every);
  v("keep_checkpoints", c.keep_checkpoints);
  v("freeze", c.freeze);
  v("revive_after", c.revive_after);
  v("revive_noise", c.revive_noise);
  v("recompute", c.recompute);
}

template <class V>
void visit_keys(V& v, MonitorConfig& c) {
  v("max_violation", c.max_violation);
  v("patience", c.patience);
  v("oscillation", c.oscillation);
}

// The tables of a recipe, in the order that they are written in. [[layer]] is an array and handled apart.
template <class V>
void visit_tables(V& v, Recipe& r) {
  v("data", r.data);
  v("model", r.model);
  v("experts", r.experts);
  v("router", r.router);
  v("capacity", r.capacity);
  v("balance", r.balance);
  v("init", r.init);
  v("optimizer", r.optimizer);
  v("train", r.train);
  v("monitor", r.monitor);
}

}  // namespace switchyard::train
