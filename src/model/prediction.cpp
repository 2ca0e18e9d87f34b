// The layer for multi-token prediction. DeepSeek-AI 2024, arXiv 2412.19437, section 2.2. What the paper leaves open is
// settled as vLLM (deepseek_mtp.py, glm4_moe_mtp.py) and SGLang (deepseek_nextn.py) run the published weights: the
// embedding comes first in the projection's input, and the hidden state is the one after the model's final norm. To
// guess on, the layer reads its output after shared_head.norm, as in SGLang: hnorm was trained on states after a norm.
// As in the paper and in SGLang no embedding is masked.

#include "layer.hpp"
#include "switchyard/kernels/elementwise.hpp"
#include "switchyard/kernels/heads.hpp"
#include "switchyard/kernels/matmul.hpp"

namespace switchyard::model {

using autograd::Value;

KvCache Transformer::prediction_cache(Index capacity) const {
  require(prediction_ != nullptr, "the model has no layer for multi-token prediction");
  return KvCache(std::span(&config_.prediction->layer, 1), capacity);
}

Value Transformer::predict(const Value& hidden_TD, std::span<const std::int32_t> next_id_T, KvCache& cache,
                           Index text_length) {
  require(prediction_ != nullptr, "the model has no layer for multi-token prediction");
  const Prediction& p = *prediction_;
  const auto count = static_cast<Index>(next_id_T.size());
  require(count >= 1 && hidden_TD.tensor().shape() == Shape({count, config_.width}), "{} next tokens for states {}",
          count, hidden_TD.tensor().shape().to_string());
  Pass pass;
  pass.sequence = count;
  pass.config = &config_;
  pass.cache = &cache;
  pass.id_T.assign(next_id_T.begin(), next_id_T.end());
  const Index past = cache.length();
  pass.long_text = reads_long_text(config_, std::max(past + count, text_length));
  for (Index t = 0; t < count; ++t) pass.position_T.push_back(static_cast<std::int32_t>(past + t));
  cache.reserve(count);

  Value e = autograd::embedding(nullptr, *p.embedding, next_id_T);
  e = normalise(nullptr, autograd::scale(nullptr, std::move(e), config_.embedding_scale), p.embedding_norm, config_);
  const Value h = normalise(nullptr, hidden_TD, p.hidden_norm, config_);
  Tensor joined = Tensor::uninitialized(DType::kF32, {count, 2 * config_.width});
  kernels::copy_matrix(e.matrix(), joined.matrix().slice_cols(0, config_.width));
  kernels::copy_matrix(h.matrix(), joined.matrix().slice_cols(config_.width, config_.width));
  const Value x = autograd::linear(nullptr, Value(std::move(joined)), *p.projection);
  std::vector<Value> outputs = p.layer->forward(nullptr, x, nullptr, pass, false);
  cache.advance(count);
  Value out = normalise(nullptr, std::move(outputs[0]), p.final_norm, config_);
  return autograd::scale(nullptr, std::move(out), config_.logit_scale);
}

Tensor Transformer::prediction_logits(ConstMatrix predicted_TD) const {
  require(prediction_ != nullptr, "the model has no layer for multi-token prediction");
  Tensor result = Tensor::uninitialized(DType::kF32, {predicted_TD.rows, config_.vocab});
  kernels::matmul_nt(predicted_TD, prediction_->output->weight(), result.matrix());
  if (output_bias_ != nullptr) kernels::add_bias(result.matrix(), std::as_const(output_bias_->value).f32());
  return result;
}

}  // namespace switchyard::model
