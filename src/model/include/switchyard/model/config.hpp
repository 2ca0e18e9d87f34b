#pragma once
// A decoder-only transformer as data: one row a layer. The forward pass reads rows and never asks which model it is.

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "switchyard/kernels/rope.hpp"
#include "switchyard/moe/config.hpp"

namespace switchyard::model {

// Multi-head latent attention: keys and values are made from one low-rank latent a token, which is all that is cached.
// DeepSeek-AI 2024, arXiv 2405.04434.
struct LatentConfig {
  Index query_rank = 0;    // of the low-rank query; 0 = queries come from one matrix
  Index rank = 0;          // of the latent
  Index rope_dim = 0;      // last elements of a head of q, rotated; the key has one such head for all
  Index value_dim = 0;     // elements of a head of v
  float norm_eps = 1e-6F;  // of the RMSNorms of the latent and of the low-rank query
};

struct AttentionConfig {
  Index heads = 0;
  Index kv_heads = 0;
  Index head_dim = 0;  // of q and k; with a latent this is its parts with and without rotation together
  double rope_theta = 10000.0;
  kernels::RopePairing rope_pairing = kernels::RopePairing::kHalfSplit;
  Index rotary_dim = 0;  // the first elements of a head, which are rotated; 0 = all
  kernels::RopeScaling rope_scaling;
  bool qkv_bias = false;  // with a latent: of the two products that make the low-rank query and the latent
  bool output_bias = false;
  bool qk_norm = false;        // RMSNorm of q and k before RoPE: over each head (Qwen3) ...
  bool qk_norm_whole = false;  // ... or over all heads together (OLMoE)
  float clip = 0.0F;           // q, k and v are cut to [-clip, clip] before RoPE; 0 = not (DBRX)
  float scale = 0.0F;          // of the scores; 0 = 1 / sqrt(head_dim)
  float softcap = 0.0F;        // scores become c tanh(score / c); 0 = not (Grok)
  Index window = 0;            // a token sees itself and the window - 1 before it; 0 = all
  bool sinks = false;          // a learned logit a head that takes part in the softmax alone (gpt-oss)
  std::optional<LatentConfig> latent;
};

// Elements of a head that are rotated.
Index rotary_elements(const AttentionConfig& attention);
// What a cache holds of a token and layer: its keys and values, or the latent with the shared rotated key and nothing
// else. In numbers.
Index cached_key_width(const AttentionConfig& attention);
Index cached_value_width(const AttentionConfig& attention);

struct DenseFfnConfig {
  Index hidden = 0;
  kernels::Activation activation = kernels::Activation::kSwiGLU;
};

// h += attention(norm(h)); h += ffn(norm(h)). Exactly one of dense and moe is set.
struct LayerConfig {
  AttentionConfig attention;
  bool post_norms = false;  // each branch is normalised once more before it is added (Grok)
  std::optional<DenseFfnConfig> dense;
  std::optional<moe::MoeConfig> moe;
};

// A layer behind the last that guesses one token further: of the final hidden state h of a token and the next token's
// embedding e it makes layer(projection [norm(e) | norm(h)]), whose normalised result goes through an output projection
// as the model's does. DeepSeek-AI 2024, arXiv 2412.19437, section 2.2; files have e before h.
struct PredictionConfig {
  LayerConfig layer;       // a row like the last layer's
  bool embedding = false;  // has tables of its own ...
  bool output = false;     // ... or shares the model's
};

struct ModelConfig {
  Index vocab = 0;
  Index width = 0;           // D
  Index max_positions = 0;   // longest sequence the model was made for
  std::string norm = "rms";  // or "layer": LayerNorm
  bool norm_bias = false;    // LayerNorm adds a learned bias (Phi-3.5-MoE)
  float norm_eps = 1e-5F;
  bool tied_embeddings = false;
  bool output_bias = false;      // of the output projection
  float embedding_scale = 1.0F;  // embeddings are multiplied by it (Granite, Grok)
  float residual_scale = 1.0F;   // so is each branch before it is added (Granite)
  float logit_scale = 1.0F;      // and so are the logits (Granite: 1 / logits_scaling, Grok)
  float dropout = 0.0F;          // after embedding and on both residual branches, in training
  std::vector<LayerConfig> layers;
  std::optional<PredictionConfig> prediction;  // only where a loader was asked for it (LoadOptions)

  // Throws kBadInput naming `where` and the key: "model.layers[2].attention.heads: ...".
  void validate(const std::string& where = "model") const;
  bool has_moe() const;
};

// Whether a text of that many positions is rotated by LongRoPE's second table: keys of a shorter text do not fit it.
bool reads_long_text(const ModelConfig& config, Index positions);

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

// What a parameter is for.
enum class ParameterPart {
  kEmbedding,
  kAttention,
  kRouter,
  kRoutedExperts,
  kSharedExperts,
  kDense,   // feed-forward networks of layers without experts
  kNorms,   // those of q, k and latents included
  kOutput,  // where it is not the embedding
};
inline constexpr std::size_t kParameterParts = 8;
std::string_view parameter_part_name(ParameterPart part);  // "routed experts"

// A token passes through K of the E routed experts of a layer and through everything else. Publishers count that in
// three ways, which differ by the tables at both ends.
struct ParameterCounts {
  Index total = 0;                  // every parameter, a tied embedding once
  Index active = 0;                 // (i) embedding table and output projection included
  Index active_without_lookup = 0;  // (ii) without a table that a token reads only one row of: an untied embedding
  Index active_in_layers = 0;       // (iii) without embedding and output
  Index active_experts = 0;         // of routed experts alone
  Index embedding = 0;              // embedding and output
  std::array<Index, kParameterParts> parts{};  // all of each part
};
// Throws kBadInput where the number overflows.
ParameterCounts count_parameters(const ModelConfig& config);

}  // namespace switchyard::model
