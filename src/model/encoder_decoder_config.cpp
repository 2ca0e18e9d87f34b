#include <cmath>
#include <limits>

#include "encoder_decoder_rows.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

using autograd::ParameterRole;

constexpr Index kLargestSize = std::numeric_limits<std::int32_t>::max();

void check_size(const std::string& key, Index value) {
  if (value < 1 || value > kLargestSize)
    fail(ErrorKind::kBadInput, "{}: {}, expected a number from 1 to {}", key, value, kLargestSize);
}

void check_stack(const std::vector<FeedForwardConfig>& layers, const std::string& where) {
  if (layers.empty()) fail(ErrorKind::kBadInput, "{}: no layers, expected at least one", where);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::string row = fmt::format("{}[{}]", where, i);
    if (layers[i].dense.has_value() == layers[i].moe.has_value())
      fail(ErrorKind::kBadInput, "{}: {}, expected either a dense or a MoE feed-forward network", row,
           layers[i].dense.has_value() ? "both dense and moe" : "neither dense nor moe");
    if (layers[i].dense) {
      check_size(row + ".dense.hidden", layers[i].dense->hidden);
      if (kernels::is_gated(layers[i].dense->activation))
        fail(ErrorKind::kUnsupported, "{}.dense: a gated activation, expected one without a gate", row);
    }
    if (!layers[i].moe) continue;
    const moe::MoeConfig& moe = *layers[i].moe;
    moe.validate(row + ".moe");
    check_size(row + ".moe.expert.hidden", moe.expert.hidden);
    if (kernels::is_gated(moe.expert.activation) || moe.expert.bias || moe.shared.hidden != 0 ||
        moe.router.selection_bias || moe.router.logits != "linear" || moe.router.residual ||
        moe.router.choices() != moe.router.experts || moe.router.score == "tree")
      fail(ErrorKind::kUnsupported,
           "{}.moe: expected a linear router without bias of selection, and experts of two matrices alone", row);
  }
}

class RowBuilder {
 public:
  explicit RowBuilder(const EncoderDecoderConfig& config) : config_(config), inner_(config.heads * config.head_dim) {}

  std::vector<ParameterRow> build() {
    if (!config_.separate_embeddings)
      add("embedding", {config_.vocab, config_.width}, ParameterPart::kEmbedding, ParameterRole::kEmbedding);
    stack("encoder.", config_.encoder, false);
    stack("decoder.", config_.decoder, true);
    if (!config_.tied_embeddings)
      add("output", {config_.vocab, config_.width}, ParameterPart::kOutput, ParameterRole::kOutput);
    return std::move(rows_);
  }

 private:
  void add(const std::string& name, const Shape& shape, ParameterPart part, ParameterRole role) {
    rows_.push_back({{prefix_ + name, shape, part, layer_}, role, false});
  }
  void norm(const char* name) { add(name, {config_.width}, ParameterPart::kNorms, ParameterRole::kNorm); }
  void attention(const std::string& name) {
    for (const char* part : {"q", "k", "v"})
      add(name + part, {inner_, config_.width}, ParameterPart::kAttention, ParameterRole::kMatrix);
    add(name + "o", {config_.width, inner_}, ParameterPart::kAttention, ParameterRole::kMatrix);
  }

  void stack(const std::string& prefix, const std::vector<FeedForwardConfig>& layers, bool crosses) {
    prefix_ = prefix;
    if (config_.separate_embeddings)
      add("embedding", {config_.vocab, config_.width}, ParameterPart::kEmbedding, ParameterRole::kEmbedding);
    add("relative_bias", {config_.buckets.buckets, config_.heads}, ParameterPart::kAttention, ParameterRole::kBias);
    for (layer_ = 0; layer_ < static_cast<Index>(layers.size()); ++layer_) {
      prefix_ = fmt::format("{}layers.{}.", prefix, layer_);
      norm("attention_norm");
      attention("attention.");
      if (crosses) {
        norm("cross_norm");
        attention("cross.");
      }
      norm("ffn_norm");
      feed_forward(layers[static_cast<std::size_t>(layer_)]);
    }
    layer_ = -1;
    prefix_ = prefix;
    norm("final_norm");
    prefix_.clear();
  }

  void feed_forward(const FeedForwardConfig& ffn) {
    if (ffn.dense) {
      add("ffn.up", {ffn.dense->hidden, config_.width}, ParameterPart::kDense, ParameterRole::kMatrix);
      add("ffn.down", {config_.width, ffn.dense->hidden}, ParameterPart::kDense, ParameterRole::kMatrix);
      return;
    }
    const Index experts = ffn.moe->router.experts, hidden = ffn.moe->expert.hidden;
    add("moe.router", {experts, config_.width}, ParameterPart::kRouter, ParameterRole::kRouter);
    if (ffn.moe->router.logits_bias) add("moe.router_bias", {experts}, ParameterPart::kRouter, ParameterRole::kBias);
    add("moe.experts.up", {experts, hidden, config_.width}, ParameterPart::kRoutedExperts, ParameterRole::kExpert);
    rows_.back().of_experts = true;
    add("moe.experts.down", {experts, config_.width, hidden}, ParameterPart::kRoutedExperts, ParameterRole::kExpert);
    rows_.back().of_experts = true;
  }

  const EncoderDecoderConfig& config_;
  Index inner_;
  Index layer_ = -1;
  std::string prefix_;
  std::vector<ParameterRow> rows_;
};

}  // namespace

void EncoderDecoderConfig::validate(const std::string& where) const {
  check_size(where + ".vocab", vocab);
  check_size(where + ".width", width);
  check_size(where + ".heads", heads);
  check_size(where + ".head_dim", head_dim);
  if (heads > kLargestSize / head_dim)
    fail(ErrorKind::kBadInput, "{}: {} heads of {} elements, expected at most {} elements together", where, heads,
         head_dim, kLargestSize);
  if (!buckets.valid() || buckets.buckets > kLargestSize || buckets.max_distance > kLargestSize)
    fail(ErrorKind::kBadInput,
         "{}: {} buckets of relative positions up to {}, expected 4 buckets or more and a distance of more than half "
         "their number",
         where, buckets.buckets, buckets.max_distance);
  if (!(norm_eps > 0.0F) || !std::isfinite(norm_eps))
    fail(ErrorKind::kBadInput, "{}.norm_eps: {}, expected a number above 0", where, norm_eps);
  if (tied_embeddings && separate_embeddings)
    fail(ErrorKind::kBadInput, "{}: embeddings that are tied and separate, expected one of them", where);
  if (start_id < 0 || start_id >= vocab)
    fail(ErrorKind::kBadInput, "{}.start_id: {}, expected 0 to {}", where, start_id, vocab - 1);
  check_stack(encoder, where + ".encoder");
  check_stack(decoder, where + ".decoder");
}

bool EncoderDecoderConfig::has_moe() const { return first_moe(*this) != nullptr; }

const moe::MoeConfig* first_moe(const EncoderDecoderConfig& config) {
  for (const auto* stack : {&config.encoder, &config.decoder})
    for (const FeedForwardConfig& layer : *stack)
      if (layer.moe) return &*layer.moe;
  return nullptr;
}

std::vector<ParameterRow> parameter_table(const EncoderDecoderConfig& config) { return RowBuilder(config).build(); }

std::vector<ParameterShape> parameter_shapes(const EncoderDecoderConfig& config) {
  const std::vector<ParameterRow> rows = parameter_table(config);
  return {rows.begin(), rows.end()};
}

ParameterCounts count_parameters(const EncoderDecoderConfig& config) {
  return count_rows(parameter_table(config), config.tied_embeddings,
                    [&](const ParameterRow& row) -> const moe::RouterConfig& {
                      const auto& stack = row.name.starts_with("encoder.") ? config.encoder : config.decoder;
                      return stack[static_cast<std::size_t>(row.layer)].moe->router;
                    });
}

}  // namespace switchyard::model
