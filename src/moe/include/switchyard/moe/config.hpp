#pragma once
// Everything that decides how a MoE layer routes and what its experts are. Plain values; validate() checks them.
// A scheme (score function, selection rule, ...) is named by a string that its table knows, so that a new scheme is a
// new row and not a new branch.

#include <cstdint>
#include <string>
#include <vector>

#include "switchyard/base/index.hpp"
#include "switchyard/kernels/activation.hpp"

namespace switchyard::moe {

inline constexpr Index kMaxExperts = 65536;  // far above any model; keeps sizes computed from a config sane

// Numbers are published defaults or "off". Every choice is a key of a recipe's [router] table (docs/recipes.md).
struct RouterConfig {
  Index experts = 8;  // with weights; see also zero_experts and its like
  Index top_k = 2;

  // Logits: see logits.hpp.
  std::string logits = "linear";      // or "cosine"
  Index cosine_width = 256;           // of the space that cosine compares in
  bool logits_bias = false;           // a learned bias on the logits
  bool residual = false;              // plus a learned mix of the logits of the MoE layer before (MoE++)
  float temperature = 1.0F;           // logits are divided by it
  std::string precision = "float32";  // of the product and the logits; or "float64", "bfloat16"
  float jitter = 0.0F;                // training: input times U(1 - jitter, 1 + jitter) ...
  std::string jitter_on = "router";   // ... of the "router" alone or of the whole "layer"

  // Noise on the logits, in training: see noise.hpp.
  std::string noise = "none";
  float noise_std = 1.0F;
  std::string noise_on = "scores";  // or "selection": scores, and so weights, stay clean

  // Scores: see score.hpp.
  std::string score = "softmax";
  std::vector<Index> levels;       // score "tree": branches a level, the root's first; their product is experts
  std::vector<Index> level_top_k;  // select "tree": branches followed at each level; their product is top_k

  // Selection: see select.hpp.
  std::string select = "top-k";
  bool selection_bias = false;  // auxiliary-loss-free balancing: a bias that only selection sees
  Index groups = 1;             // group-limited: experts in equal groups ...
  Index groups_kept = 1;        // ... of which a token sees the best ones
  std::string group_score = "max";
  float threshold = 0.2F;          // of the rules that have one
  std::string second = "random";   // gshard: when the second expert is taken
  std::uint64_t hash_seed = 0;     // of the table of hash
  Index slots = 1;                 // soft: an expert's slots in each sequence
  Index uniform_warmup = 0;        // training steps over which routing turns from uniform to learned
  float expert_dropout = 0.0F;     // training: an assignment is left out with this probability
  std::string normalise = "none";  // weights of the chosen: see weights.hpp
  float norm_p = 1.0F;             // of normalise "p-norm"
  float scale = 1.0F;              // routed scaling factor, multiplied in last
  bool dense_gradient = false;     // straight-through gradient of all experts' weights (DenseMixer)

  // Experts without matrices, numbered behind the others: they give 0, their input, or a learned constant (MoE++).
  Index zero_experts = 0, copy_experts = 0, constant_experts = 0;

  Index choices() const { return experts + zero_experts + copy_experts + constant_experts; }
};

// How many assignments an expert takes, and what becomes of the others. See capacity.hpp.
struct CapacityConfig {
  float factor = 0.0F;             // 0 = dropless
  float evaluation_factor = 0.0F;  // outside training
  Index minimum = 1;
  std::string formula = "megatron";
  std::string scope = "batch";    // tokens that share a capacity: of the "batch" (a call), or of each "sequence"
  std::string drop = "probs";     // who goes
  std::string overflow = "drop";  // where to
  float overflow_scale = 0.5F;    // overflow "scale": the weight is multiplied by it
  Index fallback_expert = -1;     // overflow "fallback": the expert that takes them; -1 = the shared expert
  bool renormalise = false;       // weights are made after dropping: a lone survivor gets the whole
};

// Losses are coefficients of losses.hpp.
struct BalanceConfig {
  float load_balance = 0.0F;
  std::string load_balance_scope = "micro-batch";  // over which tokens: or "sequence", "global-batch"
  std::string load_balance_counts = "all";         // choices that count as load: "all" or each token's "first"
  float importance_cv = 0.0F;
  float load_cv = 0.0F;
  float usage_variance = 0.0F;
  float device = 0.0F;         // DeepSeek-V2's losses over groups of experts
  float communication = 0.0F;  // that would lie on one device each
  Index devices = 1;
  float z_loss = 0.0F;
  float entropy = 0.0F;

  // The selection bias, per optimiser step: see bias.hpp.
  std::string bias_update = "sign";
  float bias_update_rate = 0.0F;
  bool bias_centre = false;     // its mean is taken off
  Index bias_freeze_after = 0;  // steps; 0 = never
};

struct ExpertConfig {
  Index hidden = 0;  // F
  kernels::Activation activation = kernels::Activation::kSwiGLU;
  bool bias = false;  // each product of a routed expert adds a learned bias (gpt-oss); the shared expert has none
};

struct SharedExpertConfig {
  Index hidden = 0;    // 0: no shared expert. Several shared experts are one of their summed width.
  bool gated = false;  // y += sigmoid(x . g) * shared(x), Qwen2-MoE; otherwise y += shared(x)
};

struct MoeConfig {
  RouterConfig router;
  CapacityConfig capacity;
  BalanceConfig balance;
  ExpertConfig expert;
  SharedExpertConfig shared;

  // Throws kBadInput naming `where` (such as "model.layers[3]") and the offending key.
  void validate(const std::string& where) const;
};

}  // namespace switchyard::moe
