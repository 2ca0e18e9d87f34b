#pragma once
// One row of the model: attention and a feed-forward network, each on its branch of the residual stream.

#include <map>
#include <memory>
#include <vector>

#include "switchyard/model/transformer.hpp"

namespace switchyard::model {

// What all layers of one forward pass share. Owns its lists, because a recomputed layer reads them when the gradient
// comes, long after the caller's spans may have gone.
struct Pass {
  Index batch = 1, sequence = 0;
  bool training = false;
  float dropout = 0.0F;                 // 0 outside training
  const ModelConfig* config = nullptr;  // the model's; outlives the pass
  bool long_text = false;               // longer than what LongRoPE's first table is for
  bool one_by_one = false;              // as ForwardCall has it
  std::uint64_t seed = 0;
  std::uint32_t step = 0;
  KvCache* cache = nullptr;
  // Looked at during the forward pass only, not when a layer is recomputed.
  moe::RoutingObserver* observer = nullptr;
  const std::function<void(std::string_view, std::span<const float>)>* inspect = nullptr;
  std::vector<std::int32_t> id_T;
  std::vector<std::int32_t> position_T;
  std::vector<std::uint8_t> valid_T;
  std::map<Index, std::vector<Index>> load_before;

  Index tokens() const { return batch * sequence; }
};

// Where dropout strikes. Numbers of random streams: append only.
enum class DropoutSite : std::uint32_t { kAttention = 0, kFfn = 1, kEmbedding = 2 };
RandomStream dropout_stream(const Pass& pass, Index layer, DropoutSite site);

// A norm's weight and, where it has one, its bias.
struct NormParameters {
  autograd::Parameter* weight = nullptr;
  autograd::Parameter* bias = nullptr;
};
autograd::Value normalise(autograd::Tape* tape, autograd::Value x, const NormParameters& norm,
                          const ModelConfig& config);

// Pointers are null where the row has no such parameter.
struct AttentionParameters {
  autograd::Parameter *q = nullptr, *k = nullptr, *v = nullptr, *o = nullptr;
  autograd::Parameter *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr, *o_bias = nullptr;
  autograd::Parameter *q_norm = nullptr, *k_norm = nullptr;
  autograd::Parameter* sinks = nullptr;
  // Of latent attention.
  autograd::Parameter *q_a = nullptr, *q_a_norm = nullptr, *q_b = nullptr;
  autograd::Parameter *q_a_bias = nullptr, *kv_a_bias = nullptr;
  autograd::Parameter *kv_a = nullptr, *kv_a_norm = nullptr, *kv_b = nullptr;
};

// kernels::attention_forward on what a cache holds, for one sequence. The order of its sums depends on the number of
// queries and keys: one by one, each query is a call of its own.
void attend(const kernels::AttentionShape& shape, ConstMatrix q, ConstMatrix k, ConstMatrix v,
            std::span<const float> sink_H, Matrix out, bool one_by_one);

// The attention of one layer, up to and including the output projection: attention.cpp and latent_attention.cpp.
class Attention {
 public:
  Attention() = default;
  // The config outlives the object. cache_row: where a cache has the layer's keys.
  Attention(Index cache_row, const AttentionConfig& config, const AttentionParameters& parameters);
  autograd::Value forward(autograd::Tape* tape, const autograd::Value& x_TD, const Pass& pass) const;

 private:
  kernels::AttentionShape shape(const Pass& pass) const;
  autograd::Value rotate(autograd::Tape* tape, autograd::Value x, Index head_dim, Index first, const Pass& pass) const;
  autograd::Value plain(autograd::Tape* tape, const autograd::Value& x_TD, const Pass& pass) const;
  autograd::Value plain_cached(const autograd::Value& q, const autograd::Value& k_new, const autograd::Value& v_new,
                               const Pass& pass) const;
  autograd::Value latent(autograd::Tape* tape, const autograd::Value& x_TD, const Pass& pass) const;
  // Keys and values of every head are made from the latents; [tokens, heads * value_dim].
  autograd::Value naive(autograd::Tape* tape, const autograd::Value& q, const autograd::Value& latent_TR,
                        const autograd::Value& rope_TR, const kernels::AttentionShape& shape, bool one_by_one) const;
  // The same without making them: queries are brought into the space of the latents, which are keys and values of all
  // heads. cached: [latent | rotated key] of every token.
  autograd::Value absorbed(const autograd::Value& q, ConstMatrix cached, const kernels::AttentionShape& shape,
                           bool one_by_one) const;

  Index cache_row_ = 0;
  const AttentionConfig* config_ = nullptr;
  AttentionParameters p_;
  kernels::RopeTable rope_, long_rope_;
};

struct Transformer::Layer {
  Index index = 0;
  LayerConfig config;
  NormParameters attention_norm, attention_post_norm, ffn_norm, ffn_post_norm;
  Attention attention;
  autograd::FfnParameters dense;
  autograd::MoeParameters moe;
  std::unique_ptr<moe::ExpertStore> store;  // null: the experts are read from their parameters

  bool next_reads_logits = false;  // the next MoE layer's router has a residual

  // {residual stream after the layer} and, of a MoE layer, {its router loss} and, where the next one reads them, {its
  // router's logits}. previous_logits is null where no MoE layer came before. recomputing: nobody looks on.
  std::vector<autograd::Value> forward(autograd::Tape* tape, const autograd::Value& h_TD,
                                       const autograd::Value* previous_logits, const Pass& pass,
                                       bool recomputing) const;
};

// What a layer for multi-token prediction has beside the layer.
struct Transformer::Prediction {
  std::unique_ptr<Layer> layer;
  NormParameters embedding_norm, hidden_norm, final_norm;
  autograd::Parameter* projection = nullptr;
  autograd::Parameter *embedding = nullptr, *output = nullptr;  // its own, or the model's
};

}  // namespace switchyard::model
