#include "switchyard/train/recipe.hpp"

#include <algorithm>
#include <cmath>

#include "switchyard/base/error.hpp"

namespace switchyard::train {
namespace {

void check(bool ok, std::string_view key, const auto& found, std::string_view expected) {
  if (!ok) fail(ErrorKind::kBadInput, "{} = {}, expected {}", key, found, expected);
}

// Also false for NaN.
bool within(double value, double low, double high) { return value >= low && value <= high; }

constexpr Index kMaxSize = Index{1} << 31;

void check_size(Index value, std::string_view key, Index least = 1) {
  check(value >= least && value <= kMaxSize, key, value, least == 0 ? "0 or more" : "1 or more");
}

}  // namespace

void Recipe::validate() const {
  check(!data.paths.empty(), "data.paths", "[]", "at least one text file or folder");
  check(data.tokenizer == "sentencepiece" || data.tokenizer == "byte" || data.tokenizer == "char", "data.tokenizer",
        data.tokenizer, "\"sentencepiece\", \"byte\" or \"char\"");
  check(data.vocab >= 2 && data.vocab <= 1'000'000, "data.vocab", data.vocab, "2 to 1000000");
  check(data.validation > 0.0 && data.validation < 1.0, "data.validation", data.validation, "between 0 and 1");

  check_size(model.width, "model.width");
  check(model.layers >= 1 && model.layers <= 10'000, "model.layers", model.layers, "1 to 10000");
  check_size(model.heads, "model.heads");
  check_size(model.kv_heads, "model.kv_heads", 0);
  check_size(model.head_dim, "model.head_dim", 0);
  check(model.ffn == "moe" || model.ffn == "dense", "model.ffn", model.ffn, "\"moe\" or \"dense\"");
  check_size(model.hidden, "model.hidden", 0);
  try {
    kernels::parse_activation(model.activation);
  } catch (const Error& error) {
    fail(ErrorKind::kBadInput, "model.activation = {}: {}", model.activation, error.what());
  }
  check(within(model.dropout, 0.0, 0.99), "model.dropout", model.dropout, "0 to 0.99");
  check(model.norm_eps > 0.0 && model.norm_eps < 1.0, "model.norm_eps", model.norm_eps, "between 0 and 1");
  check(within(model.rope_theta, 1.0, 1e12), "model.rope_theta", model.rope_theta, "1 to 1e12");
  if (model.head_dim == 0) {
    check(model.width % model.heads == 0, "model.width", model.width,
          fmt::format("a multiple of model.heads ({}), or model.head_dim set", model.heads));
  }
  check(experts.count >= 1 && experts.count <= moe::kMaxExperts, "experts.count", experts.count,
        fmt::format("1 to {}", moe::kMaxExperts));
  check_size(experts.hidden, "experts.hidden", 0);
  check_size(experts.shared_hidden, "experts.shared_hidden", 0);
  for (std::size_t i = 0; i < layer.size(); ++i) {
    const LayerRecipe& row = layer[i];
    const auto key = [i](std::string_view name) { return fmt::format("layer[{}].{}", i, name); };
    check(!row.at.empty(), key("at"), "[]", "the layers that the table is for, such as at = [0, 1]");
    for (const Index at : row.at) {
      check(at >= 0 && at < model.layers, key("at"), at, fmt::format("0 to {}", model.layers - 1));
    }
    check(row.ffn.empty() || row.ffn == "moe" || row.ffn == "dense", key("ffn"), row.ffn, "\"moe\" or \"dense\"");
    const auto check_change = [&](Index value, std::string_view name) {
      check(value >= -1 && value <= kMaxSize, key(name), value, "0 or more, or -1 for the model's own");
    };
    check_change(row.hidden, "hidden");
    check_change(row.experts, "experts");
    check_change(row.expert_hidden, "expert_hidden");
    check_change(row.shared_hidden, "shared_hidden");
    check_change(row.top_k, "top_k");
  }

  check(within(init.std, 0.0, 10.0), "init.std", init.std, "0 to 10");
  check(init.truncate == 0.0 || within(init.truncate, 0.5, 100.0), "init.truncate", init.truncate, "0 or 0.5 to 100");
  check(within(init.router_std, 0.0, 10.0), "init.router_std", init.router_std, "0 to 10");
  check(within(init.embedding_std, 0.0, 10.0), "init.embedding_std", init.embedding_std, "0 to 10");

  check(within(optimizer.learning_rate, 0.0, 100.0), "optimizer.learning_rate", optimizer.learning_rate, "0 to 100");
  check(optimizer.beta1 >= 0.0 && optimizer.beta1 < 1.0, "optimizer.beta1", optimizer.beta1, "0 or more, below 1");
  check(optimizer.beta2 >= 0.0 && optimizer.beta2 < 1.0, "optimizer.beta2", optimizer.beta2, "0 or more, below 1");
  check(optimizer.epsilon > 0.0 && optimizer.epsilon < 1.0, "optimizer.epsilon", optimizer.epsilon, "between 0 and 1");
  check(within(optimizer.weight_decay, 0.0, 10.0), "optimizer.weight_decay", optimizer.weight_decay, "0 to 10");
  check(within(optimizer.clip_norm, 0.0, 1e9), "optimizer.clip_norm", optimizer.clip_norm, "0 (off) or more");
  check(within(optimizer.router_lr_factor, 0.0, 1e3), "optimizer.router_lr_factor", optimizer.router_lr_factor,
        "0 to 1000");
  check(optimizer.schedule == "cosine" || optimizer.schedule == "wsd" || optimizer.schedule == "constant",
        "optimizer.schedule", optimizer.schedule, "\"cosine\", \"wsd\" or \"constant\"");
  check_size(optimizer.warmup_steps, "optimizer.warmup_steps", 0);
  check(within(optimizer.decay_fraction, 0.0, 1.0), "optimizer.decay_fraction", optimizer.decay_fraction, "0 to 1");
  check(within(optimizer.min_lr_ratio, 0.0, 1.0), "optimizer.min_lr_ratio", optimizer.min_lr_ratio, "0 to 1");

  check(train.steps >= 1 && train.steps <= 100'000'000, "train.steps", train.steps, "1 to 100000000");
  check(train.batch >= 1 && train.batch <= 1'000'000, "train.batch", train.batch, "1 to 1000000");
  check(train.sequence >= 1 && train.sequence <= 10'000'000, "train.sequence", train.sequence, "1 to 10000000");
  check(train.batch * train.sequence < kMaxSize, "train.batch", train.batch,
        "batch * sequence below 2^31 tokens a micro-batch");
  check(train.accumulate >= 1 && train.accumulate <= 100'000, "train.accumulate", train.accumulate, "1 to 100000");
  check_size(train.evaluate_every, "train.evaluate_every", 0);
  check_size(train.evaluate_batches, "train.evaluate_batches");
  check_size(train.sample_every, "train.sample_every", 0);
  check_size(train.checkpoint_every, "train.checkpoint_every", 0);
  check_size(train.keep_checkpoints, "train.keep_checkpoints");
  check(monitor.max_violation > 0.0, "monitor.max_violation", monitor.max_violation, "above 0");
  check_size(train.revive_after, "train.revive_after", 0);
  check(within(train.revive_noise, 0.0, 1.0), "train.revive_noise", train.revive_noise, "0 to 1");
  check_size(monitor.patience, "monitor.patience");
  check(within(monitor.oscillation, 0.0, 1.0), "monitor.oscillation", monitor.oscillation, "0 (off) to 1");
  const model::ModelConfig resolved = resolve_model(*this, data.vocab);
  for (std::size_t i = 0; i < resolved.layers.size(); ++i) {
    // Checked by the layer too, but there it has no name that stands in a recipe.
    const auto& moe = resolved.layers[i].moe;
    if (!moe) continue;
    check(moe->router.top_k >= 1 && moe->router.top_k <= moe->router.experts, "router.top_k", moe->router.top_k,
          fmt::format("1 to {}, the experts of layer {}", moe->router.experts, i));
    check(train.revive_after == 0 || moe->router.score != "tree", "train.revive_after", train.revive_after,
          fmt::format("0 with router.score \"{}\", whose router has no row for each expert", moe->router.score));
    check(!moe->shared.gated || moe->shared.hidden > 0, "experts.shared_gated", true,
          fmt::format("false, because layer {} has no shared expert", i));
  }
  resolved.validate("model");
}

model::ModelConfig resolve_model(const Recipe& recipe, Index vocab) {
  const ModelRecipe& m = recipe.model;
  model::ModelConfig config;
  config.vocab = vocab;
  config.width = m.width;
  config.max_positions = recipe.train.sequence;
  config.norm_eps = static_cast<float>(m.norm_eps);
  config.tied_embeddings = m.tied_embeddings;
  config.dropout = static_cast<float>(m.dropout);

  for (Index i = 0; i < m.layers; ++i) {
    // The recipe's own tables, then every [[layer]] that names this layer, in order.
    std::string ffn = m.ffn;
    Index hidden = m.hidden, top_k = recipe.router.top_k;
    ExpertsRecipe experts = recipe.experts;
    for (const LayerRecipe& row : recipe.layer) {
      if (std::find(row.at.begin(), row.at.end(), i) == row.at.end()) continue;
      if (!row.ffn.empty()) ffn = row.ffn;
      if (row.hidden >= 0) hidden = row.hidden;
      if (row.experts >= 0) experts.count = row.experts;
      if (row.expert_hidden >= 0) experts.hidden = row.expert_hidden;
      if (row.shared_hidden >= 0) experts.shared_hidden = row.shared_hidden;
      if (row.top_k >= 0) top_k = row.top_k;
    }
    model::LayerConfig layer;
    layer.attention.heads = m.heads;
    layer.attention.kv_heads = m.kv_heads == 0 ? m.heads : m.kv_heads;
    layer.attention.head_dim = m.head_dim == 0 ? m.width / m.heads : m.head_dim;
    layer.attention.rope_theta = m.rope_theta;
    layer.attention.qkv_bias = m.qkv_bias;
    layer.attention.qk_norm = m.qk_norm;
    const kernels::Activation activation = kernels::parse_activation(m.activation);
    if (ffn == "dense") {
      check(hidden >= 1, "model.hidden", hidden, fmt::format("1 or more, because layer {} is dense", i));
      layer.dense = model::DenseFfnConfig{hidden, activation};
    } else {
      check(experts.hidden >= 1, "experts.hidden", experts.hidden,
            fmt::format("1 or more, because layer {} is MoE", i));
      moe::MoeConfig moe;
      moe.router = recipe.router;
      moe.router.experts = experts.count;
      moe.router.top_k = top_k;
      moe.capacity = recipe.capacity;
      moe.balance = recipe.balance;
      moe.expert.hidden = experts.hidden;
      moe.expert.bias = experts.bias;
      moe.expert.activation = activation;
      moe.shared.hidden = experts.shared_hidden;
      moe.shared.gated = experts.shared_gated;
      layer.moe = moe;
    }
    config.layers.push_back(std::move(layer));
  }
  return config;
}

model::InitConfig resolve_init(const Recipe& recipe) {
  model::InitConfig init;
  init.std = static_cast<float>(recipe.init.std);
  init.truncate = static_cast<float>(recipe.init.truncate);
  init.scale_residual = recipe.init.scale_residual;
  init.router_std = static_cast<float>(recipe.init.router_std);
  init.embedding_std = static_cast<float>(recipe.init.embedding_std);
  return init;
}

}  // namespace switchyard::train
