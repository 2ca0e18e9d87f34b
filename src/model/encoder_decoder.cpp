#include "switchyard/model/encoder_decoder.hpp"

#include <algorithm>
#include <cmath>

#include "encoder_decoder_rows.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/kernels/heads.hpp"
#include "switchyard/kernels/matmul.hpp"

namespace switchyard::model {

using autograd::Parameter;
using autograd::Value;

namespace {

constexpr Index kFirstRows = 32;  // of a decoder's cache

struct ProjectionParameters {
  Parameter *norm = nullptr, *q = nullptr, *k = nullptr, *v = nullptr, *o = nullptr;
};

struct Layer {
  Index index = 0;
  FeedForwardConfig config;
  ProjectionParameters self, cross;  // cross: of a decoder
  Parameter* ffn_norm = nullptr;
  autograd::FfnParameters dense;
  autograd::MoeParameters moe;
  std::unique_ptr<moe::ExpertStore> store;  // null: the experts are read from their parameters

  // h += ffn(norm(h))
  Value feed_forward(const Value& h, float eps, std::span<const std::int32_t> ids,
                     moe::RoutingObserver* observer) const {
    const Value x = autograd::rms_norm(nullptr, h, *ffn_norm, eps);
    if (config.dense) return autograd::add(nullptr, h, autograd::ffn(nullptr, x, config.dense->activation, dense));
    moe::MoeCall call;
    call.layer = index;
    call.token_id_T = ids;
    call.sequence = static_cast<Index>(ids.size());
    call.observer = observer;
    autograd::MoeParameters parameters = moe;
    parameters.store = store.get();
    return autograd::add(nullptr, h, autograd::moe_ffn(nullptr, x, *config.moe, parameters, call).y_TD);
  }
};

Value project(const Value& x, Parameter* weight) { return autograd::linear(nullptr, x, *weight); }

}  // namespace

struct EncoderDecoder::Stack {
  Parameter* embedding = nullptr;
  Parameter* relative_bias = nullptr;
  Parameter* final_norm = nullptr;
  std::vector<Layer> layers;
};

DecoderState::DecoderState(const EncoderDecoderConfig& config, std::shared_ptr<const CrossMemory> source)
    : source_(std::move(source)) {
  require(source_ != nullptr && source_->keys.size() == config.decoder.size(),
          "a decoder of {} layers with another's memory of its source", config.decoder.size());
  for (std::size_t i = 0; i < config.decoder.size(); ++i) {
    keys_.push_back(Tensor::uninitialized(DType::kF32, {0, config.heads * config.head_dim}));
    values_.push_back(Tensor::uninitialized(DType::kF32, {0, config.heads * config.head_dim}));
  }
}

DecoderState DecoderState::copy() const {
  DecoderState other;
  other.source_ = source_;
  other.length_ = length_;
  for (const Tensor& tensor : keys_) other.keys_.push_back(tensor.clone());
  for (const Tensor& tensor : values_) other.values_.push_back(tensor.clone());
  return other;
}

void DecoderState::reserve(Index count) {
  const Index needed = length_ + count;
  for (std::vector<Tensor>* tensors : {&keys_, &values_}) {
    for (Tensor& tensor : *tensors) {
      const Index rows = tensor.shape()[0], cols = tensor.shape()[1];
      if (rows >= needed) continue;
      Tensor larger = Tensor::uninitialized(DType::kF32, {std::max({needed, 2 * rows, kFirstRows}), cols});
      std::copy_n(std::as_const(tensor).f32().data(), length_ * cols, larger.f32().data());
      tensor = std::move(larger);
    }
  }
}

EncoderDecoder::EncoderDecoder(EncoderDecoderConfig config, ParameterMemory memory) : config_(std::move(config)) {
  config_.validate();
  make_parameters(parameter_table(config_), memory, storage_, parameters_);
  for (Parameter* parameter : parameters_) parameter->trainable = false;
  const auto build = [&](const char* prefix, const std::vector<FeedForwardConfig>& rows) {
    auto stack = std::make_unique<Stack>();
    const auto of_stack = [&](const char* name) { return find(fmt::format("{}.{}", prefix, name)); };
    stack->embedding = config_.separate_embeddings ? of_stack("embedding") : find("embedding");
    stack->relative_bias = of_stack("relative_bias");
    stack->final_norm = of_stack("final_norm");
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto named = [&](const char* name) { return find(fmt::format("{}.layers.{}.{}", prefix, i, name)); };
      Layer& layer = stack->layers.emplace_back();
      layer.index = static_cast<Index>(i);
      layer.config = rows[i];
      layer.self = {named("attention_norm"), named("attention.q"), named("attention.k"), named("attention.v"),
                    named("attention.o")};
      layer.cross = {named("cross_norm"), named("cross.q"), named("cross.k"), named("cross.v"), named("cross.o")};
      layer.ffn_norm = named("ffn_norm");
      layer.dense.up_FD = named("ffn.up");
      layer.dense.down_DF = named("ffn.down");
      layer.moe.router_ED = named("moe.router");
      layer.moe.router_bias_E = named("moe.router_bias");
      layer.moe.up_EFD = named("moe.experts.up");
      layer.moe.down_EDF = named("moe.experts.down");
    }
    return stack;
  };
  encoder_ = build("encoder", config_.encoder);
  decoder_ = build("decoder", config_.decoder);
  output_ = config_.tied_embeddings ? find("embedding") : find("output");
}

EncoderDecoder::EncoderDecoder(EncoderDecoder&&) noexcept = default;
EncoderDecoder& EncoderDecoder::operator=(EncoderDecoder&&) noexcept = default;
EncoderDecoder::~EncoderDecoder() = default;

Parameter* EncoderDecoder::find(std::string_view name) {
  const auto at =
      std::find_if(parameters_.begin(), parameters_.end(), [&](const Parameter* p) { return p->name == name; });
  return at == parameters_.end() ? nullptr : *at;
}

void EncoderDecoder::keep_expert_stores() {
  for (Stack* stack : {encoder_.get(), decoder_.get()})
    for (Layer& layer : stack->layers)
      if (layer.config.moe) layer.store = autograd::make_expert_store(layer.moe);
}

Tensor EncoderDecoder::encode(std::span<const std::int32_t> ids, moe::RoutingObserver* observer) const {
  check_ids(ids, config_.vocab);
  require(!ids.empty(), "an encoder was given no tokens");
  kernels::RelativeAttentionShape shape;
  shape.queries = shape.keys = static_cast<Index>(ids.size());
  shape.heads = config_.heads;
  shape.head_dim = config_.head_dim;
  const kernels::RelativeBias bias =
      kernels::relative_bias(config_.buckets, true, std::as_const(encoder_->relative_bias->value).matrix(),
                             shape.queries - 1, shape.queries - 1);
  Value h = autograd::embedding(nullptr, *encoder_->embedding, ids);
  for (const Layer& layer : encoder_->layers) {
    const Value x = autograd::rms_norm(nullptr, h, *layer.self.norm, config_.norm_eps);
    const Value q = project(x, layer.self.q), k = project(x, layer.self.k), v = project(x, layer.self.v);
    Tensor mixed = Tensor::uninitialized(DType::kF32, q.tensor().shape());
    kernels::relative_attention(shape, q.matrix(), k.matrix(), v.matrix(), &bias, mixed.matrix());
    h = autograd::add(nullptr, h, project(Value(std::move(mixed)), layer.self.o));
    h = layer.feed_forward(h, config_.norm_eps, ids, observer);
  }
  h = autograd::rms_norm(nullptr, std::move(h), *encoder_->final_norm, config_.norm_eps);
  return std::move(h.mutable_tensor());
}

std::shared_ptr<const CrossMemory> EncoderDecoder::remember(ConstMatrix encoded_TD) const {
  require(encoded_TD.rows > 0 && encoded_TD.cols == config_.width, "an encoder's output of [{}, {}], width {}",
          encoded_TD.rows, encoded_TD.cols, config_.width);
  auto memory = std::make_shared<CrossMemory>();
  memory->length = encoded_TD.rows;
  for (const Layer& layer : decoder_->layers) {
    const auto product = [&](const Parameter* weight) {
      Tensor result = Tensor::uninitialized(DType::kF32, {encoded_TD.rows, config_.heads * config_.head_dim});
      kernels::matmul_nt(encoded_TD, weight->weight(), result.matrix());
      return result;
    };
    memory->keys.push_back(product(layer.cross.k));
    memory->values.push_back(product(layer.cross.v));
  }
  return memory;
}

Tensor EncoderDecoder::decode(std::span<const std::int32_t> ids, std::span<DecoderState* const> states,
                              moe::RoutingObserver* observer) const {
  check_ids(ids, config_.vocab);
  const auto count = static_cast<Index>(states.size());
  require(count > 0 && !ids.empty() && ids.size() % states.size() == 0, "{} ids for {} states", ids.size(), count);
  const Index tokens = static_cast<Index>(ids.size()) / count, past = states[0]->length();
  for (DecoderState* state : states) {
    require(state->length() == past && state->source_ == states[0]->source_,
            "states of different lengths or of different sources are decoded together");
    state->reserve(tokens);
  }
  kernels::RelativeAttentionShape own;
  own.queries = tokens;
  own.keys = past + tokens;
  own.first_query = past;
  own.causal = true;
  own.heads = config_.heads;
  own.head_dim = config_.head_dim;
  // What every token sees of the source is the same, so that the states are rows of one matrix of queries.
  const CrossMemory& source = states[0]->source();
  kernels::RelativeAttentionShape across = own;
  across.queries = count * tokens;
  across.keys = source.length;
  across.first_query = 0;
  across.causal = false;
  const kernels::RelativeBias bias = kernels::relative_bias(
      config_.buckets, false, std::as_const(decoder_->relative_bias->value).matrix(), past + tokens - 1, 0);

  Value h = autograd::embedding(nullptr, *decoder_->embedding, ids);
  for (std::size_t i = 0; i < decoder_->layers.size(); ++i) {
    const Layer& layer = decoder_->layers[i];
    Value x = autograd::rms_norm(nullptr, h, *layer.self.norm, config_.norm_eps);
    const Value q = project(x, layer.self.q), k = project(x, layer.self.k), v = project(x, layer.self.v);
    Tensor mixed = Tensor::uninitialized(DType::kF32, q.tensor().shape());
    for (Index s = 0; s < count; ++s) {
      DecoderState& state = *states[static_cast<std::size_t>(s)];
      Tensor &keys = state.keys_[i], &values = state.values_[i];
      kernels::copy_matrix(k.matrix().slice_rows(s * tokens, tokens), keys.matrix().slice_rows(past, tokens));
      kernels::copy_matrix(v.matrix().slice_rows(s * tokens, tokens), values.matrix().slice_rows(past, tokens));
      kernels::relative_attention(
          own, q.matrix().slice_rows(s * tokens, tokens), std::as_const(keys).matrix().slice_rows(0, own.keys),
          std::as_const(values).matrix().slice_rows(0, own.keys), &bias, mixed.matrix().slice_rows(s * tokens, tokens));
    }
    h = autograd::add(nullptr, h, project(Value(std::move(mixed)), layer.self.o));

    x = autograd::rms_norm(nullptr, h, *layer.cross.norm, config_.norm_eps);
    const Value asked = project(x, layer.cross.q);
    Tensor seen = Tensor::uninitialized(DType::kF32, asked.tensor().shape());
    kernels::relative_attention(across, asked.matrix(), source.keys[i].matrix(), source.values[i].matrix(), nullptr,
                                seen.matrix());
    h = autograd::add(nullptr, h, project(Value(std::move(seen)), layer.cross.o));
    h = layer.feed_forward(h, config_.norm_eps, ids, observer);
  }
  for (DecoderState* state : states) state->length_ += tokens;
  h = autograd::rms_norm(nullptr, std::move(h), *decoder_->final_norm, config_.norm_eps);
  if (config_.tied_embeddings)
    h = autograd::scale(nullptr, std::move(h), static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.width))));
  return std::move(h.mutable_tensor());
}

Tensor EncoderDecoder::logits(ConstMatrix decoded_ND) const {
  Tensor result = Tensor::uninitialized(DType::kF32, {decoded_ND.rows, config_.vocab});
  kernels::matmul_nt(decoded_ND, output_->weight(), result.matrix());
  return result;
}

}  // namespace switchyard::model
