#pragma once
// Everything that decides how a MoE layer routes and what its experts are. Plain values; validate() checks them.
// A scheme (score function, selection rule, ...) is named by a string that its table knows, so that a new scheme is a
// new row and not a new branch.

#include <string>

#include "switchyard/base/index.hpp"
#include "switchyard/kernels/activation.hpp"

namespace switchyard::moe {

inline constexpr Index kMaxExperts = 65536;  // far above any model; keeps sizes computed from a config sane

struct RouterConfig {
  Index experts = 8;
  Index top_k = 2;
  std::string score = "softmax";   // see score.hpp
  std::string select = "top-k";    // see select.hpp
  std::string normalise = "none";  // weights of the chosen: "none" or "sum" (divide by their sum); see weights.hpp
  float scale = 1.0F;              // routed scaling factor, multiplied in last
  bool logits_bias = false;        // a learned bias on the logits
  bool selection_bias = false;     // auxiliary-loss-free balancing: a bias that only selection sees
};

// How many assignments an expert takes, and who goes when there are more. Applies in training only, as in every
// published decoder-only model; inference is dropless.
struct CapacityConfig {
  float factor = 0.0F;  // capacity = max(minimum, ceil(T * K / E * factor)); 0 = dropless
  Index minimum = 1;
  std::string drop = "probs";  // see capacity.hpp: "probs" keeps the largest scores, "position" the earliest
};

struct BalanceConfig {
  float load_balance = 0.0F;      // coefficient of the Switch/GShard loss
  float z_loss = 0.0F;            // coefficient of the router z-loss
  float bias_update_rate = 0.0F;  // u of the selection bias, per optimiser step
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
