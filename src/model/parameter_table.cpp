#include "parameter_table.hpp"

#include "switchyard/moe/router_parts.hpp"
#include "switchyard/moe/score.hpp"

namespace switchyard::model {
namespace {

using autograd::ParameterRole;

class TableBuilder {
 public:
  explicit TableBuilder(const ModelConfig& config) : config_(config) {}

  std::vector<ParameterRow> build() {
    part_ = ParameterPart::kEmbedding;
    add("embedding", {config_.vocab, config_.width}, ParameterRole::kEmbedding);
    for (std::size_t i = 0; i < config_.layers.size(); ++i) add_layer(static_cast<Index>(i), config_.layers[i]);
    layer_ = -1;
    prefix_.clear();
    norm("final_norm");
    part_ = ParameterPart::kOutput;
    if (!config_.tied_embeddings) add("output", {config_.vocab, config_.width}, ParameterRole::kOutput);
    if (config_.output_bias) add("output_bias", {config_.vocab}, ParameterRole::kBias);
    if (config_.prediction) add_prediction(*config_.prediction);
    return std::move(rows_);
  }

 private:
  void add_layer(Index number, const LayerConfig& layer) {
    layer_ = number;
    prefix_ = fmt::format("layers.{}.", layer_);
    norm("attention_norm");
    part_ = ParameterPart::kAttention;
    if (layer.attention.latent)
      latent_attention(layer.attention, *layer.attention.latent);
    else
      attention(layer.attention);
    if (layer.post_norms) norm("attention_post_norm");
    norm("ffn_norm");
    part_ = ParameterPart::kDense;
    if (layer.dense) ffn("ffn.", layer.dense->activation, layer.dense->hidden);
    if (layer.moe) moe(*layer.moe);
    if (layer.post_norms) norm("ffn_post_norm");
  }

  void add_prediction(const PredictionConfig& prediction) {
    add_layer(static_cast<Index>(config_.layers.size()), prediction.layer);
    norm("prediction.embedding_norm");
    norm("prediction.hidden_norm");
    norm("prediction.final_norm");
    part_ = ParameterPart::kDense;
    add("prediction.projection", {config_.width, 2 * config_.width}, ParameterRole::kMatrix);
    part_ = ParameterPart::kEmbedding;
    if (prediction.embedding) add("prediction.embedding", {config_.vocab, config_.width}, ParameterRole::kEmbedding);
    part_ = ParameterPart::kOutput;
    if (prediction.output) add("prediction.output", {config_.vocab, config_.width}, ParameterRole::kOutput);
  }

  void add(const std::string& name, const Shape& shape, ParameterRole role, bool writes_to_residual = false) {
    const ParameterPart part = role == ParameterRole::kNorm ? ParameterPart::kNorms : part_;
    rows_.push_back({{prefix_ + name, shape, part, layer_}, role, writes_to_residual});
  }
  void add_heads(const std::string& name, const Shape& shape, ParameterRole role, Index head_rows,
                 Index head_keys = 0) {
    add(name, shape, role);
    rows_.back().head_rows = head_rows;
    rows_.back().head_keys = head_keys;
  }
  void add_expert(const std::string& name, const Shape& shape, ParameterRole role) {
    add("moe.experts." + name, shape, role);
    rows_.back().of_experts = true;
  }

  void norm(const std::string& name) {
    part_ = ParameterPart::kNorms;
    add(name, {config_.width}, ParameterRole::kNorm);
    if (config_.norm_bias) add(name + "_bias", {config_.width}, ParameterRole::kBias);
  }

  void latent_attention(const AttentionConfig& a, const LatentConfig& latent) {
    const Index width = config_.width, q = a.heads * a.head_dim, key = a.head_dim - latent.rope_dim;
    if (latent.query_rank == 0) {
      add("attention.q", {q, width}, ParameterRole::kMatrix);
    } else {
      add("attention.q_a", {latent.query_rank, width}, ParameterRole::kMatrix);
      if (a.qkv_bias) add("attention.q_a_bias", {latent.query_rank}, ParameterRole::kBias);
      add("attention.q_a_norm", {latent.query_rank}, ParameterRole::kNorm);
      add("attention.q_b", {q, latent.query_rank}, ParameterRole::kMatrix);
    }
    add("attention.kv_a", {latent.rank + latent.rope_dim, width}, ParameterRole::kMatrix);
    if (a.qkv_bias) add("attention.kv_a_bias", {latent.rank + latent.rope_dim}, ParameterRole::kBias);
    add("attention.kv_a_norm", {latent.rank}, ParameterRole::kNorm);
    add_heads("attention.kv_b", {a.heads * (key + latent.value_dim), latent.rank}, ParameterRole::kMatrix,
              key + latent.value_dim, key);
    add("attention.o", {width, a.heads * latent.value_dim}, ParameterRole::kMatrix, true);
    if (a.output_bias) add("attention.o_bias", {width}, ParameterRole::kBias);
  }

  void attention(const AttentionConfig& a) {
    const Index width = config_.width, q = a.heads * a.head_dim, kv = a.kv_heads * a.head_dim;
    add_heads("attention.q", {q, width}, ParameterRole::kMatrix, a.head_dim);
    add_heads("attention.k", {kv, width}, ParameterRole::kMatrix, a.head_dim);
    add("attention.v", {kv, width}, ParameterRole::kMatrix);
    if (a.qkv_bias) {
      add_heads("attention.q_bias", {q}, ParameterRole::kBias, a.head_dim);
      add_heads("attention.k_bias", {kv}, ParameterRole::kBias, a.head_dim);
      add("attention.v_bias", {kv}, ParameterRole::kBias);
    }
    if (a.qk_norm) {
      add("attention.q_norm", {a.head_dim}, ParameterRole::kNorm);
      add("attention.k_norm", {a.head_dim}, ParameterRole::kNorm);
    }
    if (a.qk_norm_whole) {
      add("attention.q_norm", {q}, ParameterRole::kNorm);
      add("attention.k_norm", {kv}, ParameterRole::kNorm);
    }
    if (a.sinks) add("attention.sinks", {a.heads}, ParameterRole::kBias);
    add("attention.o", {width, q}, ParameterRole::kMatrix, true);
    if (a.output_bias) add("attention.o_bias", {width}, ParameterRole::kBias);
  }

  void ffn(const std::string& name, kernels::Activation activation, Index hidden) {
    if (kernels::is_gated(activation)) add(name + "gate", {hidden, config_.width}, ParameterRole::kMatrix);
    add(name + "up", {hidden, config_.width}, ParameterRole::kMatrix);
    add(name + "down", {config_.width, hidden}, ParameterRole::kMatrix, true);
  }

  void moe(const moe::MoeConfig& m) {
    const Index width = config_.width, experts = m.router.experts, hidden = m.expert.hidden;
    const Index logits = moe::logits_of(m.router);
    part_ = ParameterPart::kRouter;
    add("moe.router", {logits, moe::router_width(m.router, width)}, ParameterRole::kRouter);
    for (const moe::RouterPartShape& part : moe::router_parts(m.router, width))
      add(fmt::format("moe.{}", part.name), {part.rows, part.cols},
          part.random ? ParameterRole::kRouter : ParameterRole::kBias);
    if (m.router.logits_bias) add("moe.router_bias", {logits}, ParameterRole::kBias);
    if (m.router.selection_bias) add("moe.selection_bias", {m.router.choices()}, ParameterRole::kBuffer);
    part_ = ParameterPart::kRoutedExperts;
    const bool gated = kernels::is_gated(m.expert.activation);
    if (gated) add_expert("gate", {experts, hidden, width}, ParameterRole::kExpert);
    add_expert("up", {experts, hidden, width}, ParameterRole::kExpert);
    add_expert("down", {experts, width, hidden}, ParameterRole::kExpert);
    rows_.back().writes_to_residual = true;
    if (m.expert.bias) {
      if (gated) add_expert("gate_bias", {experts, hidden}, ParameterRole::kBias);
      add_expert("up_bias", {experts, hidden}, ParameterRole::kBias);
      add_expert("down_bias", {experts, width}, ParameterRole::kBias);
    }
    if (m.shared.hidden == 0) return;
    // The shared expert sees every token, so it is a dense network in all but name.
    part_ = ParameterPart::kSharedExperts;
    ffn("moe.shared.", m.expert.activation, m.shared.hidden);
    if (m.shared.gated) add("moe.shared_gate", {width}, ParameterRole::kMatrix);
  }

  const ModelConfig& config_;
  Index layer_ = -1;
  ParameterPart part_ = ParameterPart::kEmbedding;
  std::string prefix_;
  std::vector<ParameterRow> rows_;
};

}  // namespace

bool is_chosen(const ParameterRow& row) {
  switch (row.role) {
    case ParameterRole::kEmbedding:
    case ParameterRole::kOutput:
    case ParameterRole::kMatrix:
    case ParameterRole::kExpert:
      return row.shape.rank() >= 2;
    case ParameterRole::kRouter:
    case ParameterRole::kNorm:
    case ParameterRole::kBias:
    case ParameterRole::kBuffer:
      return false;
  }
  return false;
}

void make_parameters(std::vector<ParameterRow> rows, ParameterMemory memory, std::deque<autograd::Parameter>& storage,
                     std::vector<autograd::Parameter*>& parameters) {
  for (ParameterRow& row : rows) {
    autograd::Parameter& parameter = storage.emplace_back();
    parameter.name = std::move(row.name);
    parameter.role = row.role;
    parameter.trainable = row.role != ParameterRole::kBuffer;
    parameter.stored.shape = row.shape;
    if (memory == ParameterMemory::kZeroed) parameter.value = Tensor::zeros(DType::kF32, row.shape);
    parameters.push_back(&parameter);
  }
}

std::vector<ParameterRow> parameter_table(const ModelConfig& config) { return TableBuilder(config).build(); }

std::vector<ParameterShape> parameter_shapes(const ModelConfig& config) {
  const std::vector<ParameterRow> rows = parameter_table(config);
  return {rows.begin(), rows.end()};
}

}  // namespace switchyard::model
