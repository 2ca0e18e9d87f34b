#pragma once
// A decoder-only transformer as data: one row a layer. The forward pass reads rows and never asks which model it is.

#include <optional>
#include <string>
#include <vector>

#include "switchyard/kernels/rope.hpp"
#include "switchyard/moe/config.hpp"

namespace switchyard::model {

struct AttentionConfig {
  Index heads = 0;
  Index kv_heads = 0;
  Index head_dim = 0;
  double rope_theta = 10000.0;
  kernels::RopePairing rope_pairing = kernels::RopePairing::kHalfSplit;
  bool qkv_bias = false;
  bool output_bias = false;
  bool qk_norm = false;  // RMSNorm over each head of q and k, before RoPE (Qwen3)
};

struct DenseFfnConfig {
  Index hidden = 0;
  kernels::Activation activation = kernels::Activation::kSwiGLU;
};

// h += attention(norm(h)); h += ffn(norm(h)). Exactly one of dense and moe is set.
struct LayerConfig {
  AttentionConfig attention;
  std::optional<DenseFfnConfig> dense;
  std::optional<moe::MoeConfig> moe;
};

struct ModelConfig {
  Index vocab = 0;
  Index width = 0;          // D
  Index max_positions = 0;  // longest sequence the model was made for
  float norm_eps = 1e-5F;
  bool tied_embeddings = false;
  float dropout = 0.0F;  // after embedding and on both residual branches, in training
  std::vector<LayerConfig> layers;

  // Throws kBadInput naming `where` and the key: "model.layers[2].attention.heads: ...".
  void validate(const std::string& where = "model") const;
  bool has_moe() const;
};

// How weights start. Norm weights are 1, biases and buffers 0.
//   std               standard deviation of every matrix (GPT-2, Mixtral, OLMoE: 0.02; DeepSeek: 0.006)
//   truncate          cut at that many standard deviations; 0 = not (OLMoE: 3)
//   scale_residual    matrices that write to the residual stream divided by sqrt(2 L) (GPT-2)
//   router_std        of the router; 0 = std
//   embedding_std     of the embedding; 0 = std
struct InitConfig {
  float std = 0.02F;
  float truncate = 0.0F;
  bool scale_residual = true;
  float router_std = 0.0F;
  float embedding_std = 0.0F;
};

struct ParameterCounts {
  Index total = 0;      // every weight, tied embeddings once
  Index active = 0;     // what one token passes through: K of E experts, shared ones; embedding row table included
  Index embedding = 0;  // token embedding and, where not tied, the output projection
};
ParameterCounts count_parameters(const ModelConfig& config);

}  // namespace switchyard::model
