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
  float dropout = 0.0F;  // 0 outside training
  float norm_eps = 0.0F;
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

// Pointers are null where the row has no such parameter.
struct Transformer::Layer {
  Index index = 0;
  LayerConfig config;
  kernels::RopeTable rope_table;
  autograd::Parameter* attention_norm = nullptr;
  autograd::Parameter *q = nullptr, *k = nullptr, *v = nullptr, *o = nullptr;
  autograd::Parameter *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr, *o_bias = nullptr;
  autograd::Parameter *q_norm = nullptr, *k_norm = nullptr;
  autograd::Parameter* ffn_norm = nullptr;
  autograd::FfnParameters dense;
  autograd::MoeParameters moe;
  std::unique_ptr<moe::ExpertStore> store;  // null: the experts are read from their parameters

  bool next_reads_logits = false;  // the next MoE layer's router has a residual

  // {residual stream after the layer} and, of a MoE layer, {its router loss} and, where the next one reads them, {its
  // router's logits}. previous_logits is null where no MoE layer came before. recomputing: nobody looks on.
  std::vector<autograd::Value> forward(autograd::Tape* tape, const autograd::Value& h_TD,
                                       const autograd::Value* previous_logits, const Pass& pass,
                                       bool recomputing) const;

 private:
  autograd::Value attend(autograd::Tape* tape, const autograd::Value& x_TD, const Pass& pass) const;
  autograd::Value attend_cached(const autograd::Value& q, const autograd::Value& k_new, const autograd::Value& v_new,
                                const kernels::AttentionShape& shape, const Pass& pass) const;
};

}  // namespace switchyard::model
