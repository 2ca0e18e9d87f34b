#pragma once
// A recipe: everything that decides a training run, read from TOML. Each table is a struct below with the same key
// names; a key that no struct knows is refused with file and line. docs/recipes.md explains every key.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "switchyard/model/config.hpp"

namespace switchyard::train {

// [data]
struct DataConfig {
  std::vector<std::string> paths;           // text files, or folders of them: each sub-folder is a domain
  std::string tokenizer = "sentencepiece";  // "sentencepiece", "byte" or "char"
  Index vocab = 2048;                       // of sentencepiece
  double validation = 0.1;                  // the last part of every file is held out
};

// [model]: a decoder-only transformer of equal layers; [[layer]] rows change single ones.
struct ModelRecipe {
  Index width = 256;
  Index layers = 4;
  Index heads = 4;
  Index kv_heads = 0;       // 0: as heads
  Index head_dim = 0;       // 0: width / heads
  std::string ffn = "moe";  // "moe" or "dense"
  Index hidden = 0;         // of a dense FFN
  std::string activation = "swiglu";
  bool tied_embeddings = true;
  bool qkv_bias = false;
  bool qk_norm = false;
  double rope_theta = 10000.0;
  double norm_eps = 1e-5;
  double dropout = 0.0;
};

// [experts]
struct ExpertsRecipe {
  Index count = 8;
  Index hidden = 0;
  Index shared_hidden = 0;
  bool shared_gated = false;
  bool bias = false;  // routed experts have biases
};

// [router]: the keys are those of moe/config_keys.hpp, and a preset (moe/presets.hpp) that [router], [capacity] and
// [balance] start from; without one, from what is written here.
struct RouterRecipe : moe::RouterConfig {
  RouterRecipe() { normalise = "sum"; }
  std::string preset;
};

// [balance]
struct BalanceRecipe : moe::BalanceConfig {
  BalanceRecipe() { load_balance = 0.01F; }
};

// [[layer]]: for the layers in `at`, any of the keys below instead of the model's. Unset ones are -1 or empty.
struct LayerRecipe {
  std::vector<Index> at;
  std::string ffn;
  Index hidden = -1;
  Index experts = -1;
  Index expert_hidden = -1;
  Index shared_hidden = -1;
  Index top_k = -1;
};

// [init]
struct InitRecipe {
  double std = 0.02;
  double truncate = 0.0;
  bool scale_residual = true;
  double router_std = 0.0;
  double embedding_std = 0.0;
};

// [optimizer]: AdamW, Loshchilov and Hutter 2019, arXiv 1711.05101.
struct OptimizerConfig {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;        // not on norms and biases
  double clip_norm = 1.0;           // global norm of all gradients; 0 = off
  double router_lr_factor = 1.0;    // multiplies the learning rate of router weights
  std::string schedule = "cosine";  // "cosine", "wsd" (warm-up, stable, decay) or "constant"
  Index warmup_steps = 100;
  double decay_fraction = 0.2;  // wsd: the last part of the run, linear to the minimum
  double min_lr_ratio = 0.1;    // of learning_rate, at the end
};

// [train]
struct TrainConfig {
  Index steps = 1000;
  Index batch = 16;      // sequences a micro-batch
  Index sequence = 128;  // tokens a sequence
  Index accumulate = 1;  // micro-batches a step
  std::uint64_t seed = 1;
  Index evaluate_every = 100;   // 0 = only at the end
  Index evaluate_batches = 20;  // micro-batches an evaluation on the way; the last one reads all held-out text
  Index sample_every = 0;       // 0 = never
  Index checkpoint_every = 500;
  Index keep_checkpoints = 2;
  std::vector<std::string>
      freeze;                 // parameters that are not trained: names in which * and ? stand for other characters
  Index revive_after = 0;     // steps without a token after which an expert starts again; 0 = never
  double revive_noise = 0.1;  // relative, on the live expert that it then is a copy of
  bool recompute = false;     // activations again in the backward pass: less memory, about a third more time
};

// [monitor]: when to warn of a collapse.
struct MonitorConfig {
  double max_violation = 4.0;  // MaxVio above this ...
  Index patience = 50;         // ... or an expert without tokens, for so many steps on end
  double oscillation = 0.5;    // loads that swing: lag-1 autocorrelation over patience steps below minus this; 0 = off
};

struct Recipe {
  DataConfig data;
  ModelRecipe model;
  ExpertsRecipe experts;
  RouterRecipe router;
  moe::CapacityConfig capacity;
  BalanceRecipe balance;
  std::vector<LayerRecipe> layer;
  InitRecipe init;
  OptimizerConfig optimizer;
  TrainConfig train;
  MonitorConfig monitor;

  // Throws kBadInput naming the key. Called by load_recipe.
  void validate() const;
};

// Reads a recipe and applies overrides, each "table.key=value" with a TOML value (a bare word is taken as a string).
// Throws kNotFound; kBadInput with file, line and key for an unknown key, a wrong type or a value out of range; kUsage
// for a malformed or unknown override.
Recipe load_recipe(const std::filesystem::path& path, std::span<const std::string> overrides = {});
Recipe parse_recipe(const std::string& toml, const std::string& origin, std::span<const std::string> overrides = {});
// Every key with its value, as TOML that parse_recipe reads back to the same recipe.
std::string to_toml(const Recipe& recipe);

// The architecture that a recipe describes, for a tokenizer of `vocab` ids.
model::ModelConfig resolve_model(const Recipe& recipe, Index vocab);
model::InitConfig resolve_init(const Recipe& recipe);

}  // namespace switchyard::train
