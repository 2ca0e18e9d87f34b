#include "layer.hpp"

#include <algorithm>
#include <cmath>

namespace switchyard::model {

using autograd::Tape;
using autograd::Value;

RandomStream dropout_stream(const Pass& pass, Index layer, DropoutSite site) {
  return {pass.seed, RandomPurpose::kDropout, pass.step,
          static_cast<std::uint32_t>(layer) * 4U + static_cast<std::uint32_t>(site)};
}

std::vector<Value> Transformer::Layer::forward(Tape* tape, const Value& h_TD, const Value* previous_logits,
                                               const Pass& pass, bool recomputing) const {
  const auto inspect = [&](const char* part, const Value& value) {
    if (pass.inspect != nullptr && !recomputing)
      (*pass.inspect)(fmt::format("layers.{}.{}", index, part), value.tensor().f32());
  };
  Value branch = attend(tape, autograd::rms_norm(tape, h_TD, *attention_norm, pass.norm_eps), pass);
  inspect("attention", branch);
  branch =
      autograd::dropout(tape, std::move(branch), pass.dropout, dropout_stream(pass, index, DropoutSite::kAttention));
  const Value middle = autograd::add(tape, h_TD, std::move(branch));

  const Value x = autograd::rms_norm(tape, middle, *ffn_norm, pass.norm_eps);
  std::vector<Value> result;
  if (config.moe) {
    moe::MoeCall call;
    call.layer = index;
    call.training = pass.training;
    call.seed = pass.seed;
    call.step = pass.step;
    call.token_id_T = pass.id_T;
    call.valid_T = pass.valid_T;
    call.sequence = pass.sequence;
    if (const auto before = pass.load_before.find(index); before != pass.load_before.end())
      call.load_before_E = before->second;
    call.observer = recomputing ? nullptr : pass.observer;
    autograd::MoeParameters parameters = moe;
    parameters.store = store.get();
    autograd::MoeResult routed =
        autograd::moe_ffn(tape, x, *config.moe, parameters, call,
                          config.moe->router.residual ? previous_logits : nullptr, next_reads_logits);
    branch = std::move(routed.y_TD);
    result.push_back(std::move(routed.loss));
    if (next_reads_logits) result.push_back(std::move(routed.logits_TR));
  } else {
    branch = autograd::ffn(tape, x, config.dense->activation, dense);
  }
  inspect("ffn", branch);
  branch = autograd::dropout(tape, std::move(branch), pass.dropout, dropout_stream(pass, index, DropoutSite::kFfn));
  result.insert(result.begin(), autograd::add(tape, middle, std::move(branch)));
  return result;
}

Value Transformer::Layer::attend(Tape* tape, const Value& x_TD, const Pass& pass) const {
  const AttentionConfig& a = config.attention;
  const auto rotated = [&](autograd::Parameter& weight, autograd::Parameter* bias, autograd::Parameter* norm) {
    Value heads = autograd::linear(tape, x_TD, weight, bias);
    if (norm != nullptr) heads = autograd::rms_norm(tape, std::move(heads), *norm, pass.norm_eps);
    return autograd::rope(tape, std::move(heads), a.head_dim, 0, pass.position_T, rope_table, a.rope_pairing);
  };
  const Value queries = rotated(*q, q_bias, q_norm);
  const Value keys = rotated(*k, k_bias, k_norm);
  const Value values = autograd::linear(tape, x_TD, *v, v_bias);

  kernels::AttentionShape shape;
  shape.batch = pass.batch;
  shape.queries = shape.keys = pass.sequence;
  shape.heads = a.heads;
  shape.kv_heads = a.kv_heads;
  shape.head_dim = a.head_dim;
  shape.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(a.head_dim)));
  const Value mixed = pass.cache == nullptr ? autograd::attention(tape, shape, queries, keys, values)
                                            : attend_cached(queries, keys, values, shape, pass);
  return autograd::linear(tape, mixed, *o, o_bias);
}

Value Transformer::Layer::attend_cached(const Value& queries, const Value& new_keys, const Value& new_values,
                                        const kernels::AttentionShape& shape, const Pass& pass) const {
  const Index past = pass.cache->length();
  const auto append = [past](const Value& rows, Tensor& cached) {
    const std::span<const float> from = rows.tensor().f32();
    std::copy(from.begin(), from.end(), cached.f32().begin() + past * cached.shape()[1]);
  };
  Tensor& keys = pass.cache->keys(index);
  Tensor& values = pass.cache->values(index);
  append(new_keys, keys);
  append(new_values, values);
  kernels::AttentionShape whole = shape;
  whole.keys = past + shape.queries;
  Tensor out = Tensor::uninitialized(DType::kF32, queries.tensor().shape());
  kernels::attention_forward(whole, queries.matrix(), std::as_const(keys).matrix().slice_rows(0, whole.keys),
                             std::as_const(values).matrix().slice_rows(0, whole.keys), {}, out.matrix(), {});
  return Value(std::move(out));
}

}  // namespace switchyard::model
