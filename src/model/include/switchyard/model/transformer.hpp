#pragma once
// The decoder-only transformer: the same layers train and serve.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "switchyard/autograd/ops.hpp"
#include "switchyard/model/config.hpp"
#include "switchyard/model/kv_cache.hpp"

namespace switchyard::model {

// Tokens that a session reads in one forward pass: enough rows for full matrix products, few enough to bound memory.
inline constexpr Index kPrefillChunk = 512;

// One forward pass over batch * sequence tokens, rows [batch, sequence].
struct ForwardCall {
  autograd::Tape* tape = nullptr;  // null: nothing is recorded
  Index batch = 1;
  Index sequence = 0;
  KvCache* cache = nullptr;  // appended to; needs batch 1 and no tape. Positions start at cache->length().
  // How long the text is known to become, for rotations that differ for long texts: 0 = as long as after this call.
  Index text_length = 0;
  // Every token gets the bits that it would have in a call of its own, where attention would sum in another order for
  // several. Needs a cache.
  bool one_by_one = false;
  bool training = false;   // dropout, capacity and router noise apply
  bool recompute = false;  // keep only each layer's input and compute the layer again for its gradient
  std::uint64_t seed = 0;  // with step, of every random stream
  std::uint32_t step = 0;
  moe::RoutingObserver* observer = nullptr;
  std::span<const std::uint8_t> valid_T;  // 0 = padding; empty = all are real
  // Choices of each layer's experts in earlier micro-batches of the step, for balance losses of the global batch; a
  // layer may be missing. Copied.
  const std::map<Index, std::vector<Index>>* load_before = nullptr;
  // Called with the name and values of each sub-layer's output as it is made ("embedding", "layers.2.attention",
  // "layers.2.ffn", "final_norm"): how the trainer finds where a number stopped being finite. May throw.
  const std::function<void(std::string_view name, std::span<const float> values)>* inspect = nullptr;
};

struct ForwardResult {
  autograd::Value hidden_TD;                   // after the final norm, times logit_scale
  std::vector<autograd::Value> router_losses;  // one a MoE layer, [1], coefficients applied
};

// kBadInput naming the id, its position and the vocabulary's size.
void check_ids(std::span<const std::int32_t> ids, Index vocab);

enum class ParameterMemory { kZeroed, kNone };

// Owns its parameters, at fixed addresses. Several threads may run forward at once without a tape, each with its own
// cache. A non-finite value is not looked for here; see find_non_finite.
class Transformer {
 public:
  // Parameters are zero, or have only name, role and shape, for a caller that gives them their weights. validate()s the
  // config.
  explicit Transformer(ModelConfig config, ParameterMemory memory = ParameterMemory::kZeroed);
  Transformer(Transformer&&) noexcept;
  Transformer& operator=(Transformer&&) noexcept;
  ~Transformer();

  const ModelConfig& config() const { return config_; }
  void initialize(const InitConfig& init, std::uint64_t seed);

  // In the order of the forward pass. Names are the native ones of docs/formats/checkpoint.md, such as
  // "layers.3.moe.experts.gate"; families/ maps them to those of a published format.
  std::span<autograd::Parameter* const> parameters() { return parameters_; }
  std::span<const autograd::Parameter* const> parameters() const;
  autograd::Parameter* find(std::string_view name);

  ForwardResult forward(std::span<const std::int32_t> id_T, const ForwardCall& call);
  // [T, V] float32 for the given rows of hidden.
  Tensor logits(ConstMatrix hidden_TD) const;
  // The layer for multi-token prediction; all three need config().prediction. Token t + 1 follows the token of row t,
  // and what is made of both tells of token t + 2. hidden_TD is forward()'s, or what this returned, to guess on from
  // there, which is after the layer's own final norm. Rows are appended to `cache`, which prediction_cache() makes; the
  // first one stands at position cache.length(), the position of its hidden state. text_length as above.
  // Where files have several such layers this is the first.
  KvCache prediction_cache(Index capacity) const;
  autograd::Value predict(const autograd::Value& hidden_TD, std::span<const std::int32_t> next_id_T, KvCache& cache,
                          Index text_length = 0);
  Tensor prediction_logits(ConstMatrix predicted_TD) const;
  // Mean cross-entropy of hidden's rows, through the output projection.
  autograd::Value loss(autograd::Tape* tape, const autograd::Value& hidden_TD, std::span<const std::int32_t> target_T,
                       Index* count = nullptr);

  // Replaces the source of a layer's routed experts (paged, remote). kInternal where the layer is not MoE. The layer
  // for multi-token prediction has the number behind the last.
  void set_expert_store(Index layer, std::unique_ptr<moe::ExpertStore> store);

 private:
  struct Layer;
  struct Prediction;
  std::unique_ptr<Layer> make_layer(Index index, const LayerConfig& row, Index cache_row);
  ModelConfig config_;
  std::deque<autograd::Parameter> storage_;
  std::vector<autograd::Parameter*> parameters_;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::unique_ptr<Prediction> prediction_;
  autograd::Parameter* embedding_ = nullptr;
  autograd::Parameter *final_norm_ = nullptr, *final_norm_bias_ = nullptr;
  autograd::Parameter* output_ = nullptr;  // the embedding where tied
  autograd::Parameter* output_bias_ = nullptr;
};

}  // namespace switchyard::model
