#pragma once
// The encoder-decoder transformer of Switch Transformer (Fedus et al. 2021, arXiv 2101.03961), which is T5 (Raffel et
// al. 2020, arXiv 1910.10683) with a mixture of experts in some layers. The encoder reads a text, every token seeing
// all; the decoder writes another one token by token and sees the encoder's output through cross-attention. For
// inference: there is no backward pass. It stands beside the decoder-only Transformer and shares its pieces.

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "switchyard/kernels/relative_attention.hpp"
#include "switchyard/model/checkpoint.hpp"
#include "switchyard/model/config.hpp"
#include "switchyard/model/parameter_shape.hpp"

namespace switchyard::model {

// A layer's feed-forward network. Exactly one is set.
struct FeedForwardConfig {
  std::optional<DenseFfnConfig> dense;
  std::optional<moe::MoeConfig> moe;
};

// All attention is alike: heads of head_dim elements, which together may be wider or narrower than the model, no
// rotation, no scaling of the scores. The first layer of each stack has a table of biases for relative positions that
// all its layers use; cross-attention has none. Norms are RMSNorm, before each branch and at the end of each stack.
struct EncoderDecoderConfig {
  Index vocab = 0;
  Index width = 0;  // D
  Index heads = 0, head_dim = 0;
  kernels::RelativeBuckets buckets;
  float norm_eps = 1e-6F;
  // The output is the embedding, and what goes into it is multiplied by width^-1/2.
  bool tied_embeddings = true;
  bool separate_embeddings = false;  // encoder and decoder have a table each
  std::int32_t start_id = 0;         // a decoder's first token
  std::vector<FeedForwardConfig> encoder, decoder;

  // Throws kBadInput naming `where` and the key: "config.json: model.heads: ...".
  void validate(const std::string& where = "model") const;
  bool has_moe() const;
};

// In the order of the forward pass; `layer` counts within a stack. The config must be valid.
std::vector<ParameterShape> parameter_shapes(const EncoderDecoderConfig& config);
// A token is taken to pass through both stacks. Throws kBadInput where the number overflows.
ParameterCounts count_parameters(const EncoderDecoderConfig& config);

// What the decoder knows of one text of the encoder: keys and values of its cross-attention, a pair a decoder layer,
// [T, heads * head_dim]. Computed once a text.
struct CrossMemory {
  std::vector<Tensor> keys, values;
  Index length = 0;
};

// What the decoder has written: the keys and values of its self-attention. Several that go on from the same words are
// copies of one.
class DecoderState {
 public:
  DecoderState(const EncoderDecoderConfig& config, std::shared_ptr<const CrossMemory> source);
  DecoderState copy() const;
  Index length() const { return length_; }
  const CrossMemory& source() const { return *source_; }

 private:
  friend class EncoderDecoder;
  DecoderState() = default;
  void reserve(Index count);
  std::shared_ptr<const CrossMemory> source_;
  std::vector<Tensor> keys_, values_;  // a layer each, [rows >= length, heads * head_dim]
  Index length_ = 0;
};

// Owns its parameters, at fixed addresses. Several threads may run it at once, each with its own states.
class EncoderDecoder {
 public:
  // Parameters are zero, or have only name, role and shape, for a caller that gives them their weights and then calls
  // keep_expert_stores(). validate()s the config.
  explicit EncoderDecoder(EncoderDecoderConfig config, ParameterMemory memory = ParameterMemory::kZeroed);
  EncoderDecoder(EncoderDecoder&&) noexcept;
  EncoderDecoder& operator=(EncoderDecoder&&) noexcept;
  ~EncoderDecoder();

  const EncoderDecoderConfig& config() const { return config_; }
  std::span<autograd::Parameter* const> parameters() { return parameters_; }
  autograd::Parameter* find(std::string_view name);
  // Makes the views of all experts once instead of in every pass. The parameters' memory must not change afterwards.
  void keep_expert_stores();

  // The encoder's output after its final norm, [T, D]. Layers whose experts have a capacity (MoeConfig::capacity) drop
  // what is over it. The observer is told of the encoder's layers, by their index within it. kBadInput for an id out of
  // range.
  Tensor encode(std::span<const std::int32_t> ids, moe::RoutingObserver* observer = nullptr) const;
  std::shared_ptr<const CrossMemory> remember(ConstMatrix encoded_TD) const;
  // Appends the next tokens of each state: ids are [states, tokens]. The states go on from equally many tokens and have
  // one source. Returns the decoder's output, ready for logits(): [states * tokens, D]. The same bits whether tokens
  // come one by one or at once, and whatever other states there are: the decoder has no capacity.
  Tensor decode(std::span<const std::int32_t> ids, std::span<DecoderState* const> states,
                moe::RoutingObserver* observer = nullptr) const;
  // [N, V]
  Tensor logits(ConstMatrix decoded_ND) const;

 private:
  struct Stack;
  EncoderDecoderConfig config_;
  std::deque<autograd::Parameter> storage_;
  std::vector<autograd::Parameter*> parameters_;
  std::unique_ptr<Stack> encoder_, decoder_;
  autograd::Parameter* output_ = nullptr;  // the embedding where tied
};

struct LoadedEncoderDecoder {
  EncoderDecoder model;
  std::unique_ptr<text::Tokenizer> tokenizer;  // null where there is none that can be read
  std::string family;                          // model_type of config.json
};

// Whether a model folder, a run or a config.json is of an encoder-decoder. False also where there is nothing readable:
// whoever loads it says so.
bool is_encoder_decoder(const std::filesystem::path& path);
// Throws as load_model().
LoadedEncoderDecoder load_encoder_decoder(const std::filesystem::path& folder, const LoadOptions& options = {});
// Of a model folder or of a config.json: nothing of the weights is read, so that separate_embeddings, which only the
// tensors tell, is false.
EncoderDecoderConfig load_encoder_decoder_config(const std::filesystem::path& path);

}  // namespace switchyard::model
