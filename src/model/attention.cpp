#include <cmath>

#include "layer.hpp"
#include "switchyard/kernels/heads.hpp"

namespace switchyard::model {

using autograd::Parameter;
using autograd::Tape;
using autograd::Value;

void attend(const kernels::AttentionShape& shape, ConstMatrix q, ConstMatrix k, ConstMatrix v,
            std::span<const float> sink_H, Matrix out, bool one_by_one) {
  if (!one_by_one) return kernels::attention_forward(shape, q, k, v, sink_H, out, {});
  kernels::AttentionShape one = shape;
  one.queries = 1;
  for (Index i = 0; i < shape.queries; ++i) {
    one.keys = shape.keys - shape.queries + i + 1;
    kernels::attention_forward(one, q.slice_rows(i, 1), k.slice_rows(0, one.keys), v.slice_rows(0, one.keys), sink_H,
                               out.slice_rows(i, 1), {});
  }
}

Attention::Attention(Index cache_row, const AttentionConfig& config, const AttentionParameters& parameters)
    : cache_row_(cache_row), config_(&config), p_(parameters) {
  const Index rotary = rotary_elements(config);
  rope_ = kernels::rope_table(rotary, config.rope_theta, config.rope_scaling, false);
  long_rope_ = kernels::rope_table(rotary, config.rope_theta, config.rope_scaling, true);
}

Value Attention::forward(Tape* tape, const Value& x_TD, const Pass& pass) const {
  const Value mixed = config_->latent ? latent(tape, x_TD, pass) : plain(tape, x_TD, pass);
  return autograd::linear(tape, mixed, *p_.o, p_.o_bias);
}

kernels::AttentionShape Attention::shape(const Pass& pass) const {
  kernels::AttentionShape shape;
  shape.batch = pass.batch;
  shape.queries = shape.keys = pass.sequence;
  shape.heads = config_->heads;
  shape.kv_heads = config_->kv_heads;
  shape.head_dim = config_->head_dim;
  shape.scale = config_->scale != 0.0F ? config_->scale
                                       : static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_->head_dim)));
  shape.value_dim = config_->latent ? config_->latent->value_dim : 0;
  shape.window = config_->window;
  shape.softcap = config_->softcap;
  return shape;
}

Value Attention::rotate(Tape* tape, Value x, Index head_dim, Index first, const Pass& pass) const {
  return autograd::rope(tape, std::move(x), head_dim, first, pass.position_T, pass.long_text ? long_rope_ : rope_,
                        config_->rope_pairing);
}

Value Attention::plain(Tape* tape, const Value& x_TD, const Pass& pass) const {
  const AttentionConfig& a = *config_;
  const auto project = [&](Parameter& weight, Parameter* bias, Parameter* norm) {
    Value heads = autograd::linear(tape, x_TD, weight, bias);
    if (norm != nullptr) heads = autograd::rms_norm(tape, std::move(heads), *norm, pass.config->norm_eps);
    return a.clip == 0.0F ? heads : autograd::clamp(tape, std::move(heads), a.clip);
  };
  const Value queries = rotate(tape, project(*p_.q, p_.q_bias, p_.q_norm), a.head_dim, 0, pass);
  const Value keys = rotate(tape, project(*p_.k, p_.k_bias, p_.k_norm), a.head_dim, 0, pass);
  const Value values = project(*p_.v, p_.v_bias, nullptr);
  if (pass.cache != nullptr) return plain_cached(queries, keys, values, pass);
  return autograd::attention(tape, shape(pass), queries, keys, values, p_.sinks);
}

Value Attention::plain_cached(const Value& queries, const Value& new_keys, const Value& new_values,
                              const Pass& pass) const {
  const Index past = pass.cache->length();
  const auto append = [past](const Value& rows, Tensor& cached) {
    kernels::copy_matrix(rows.matrix(), cached.matrix().slice_rows(past, rows.tensor().shape()[0]));
  };
  Tensor& keys = pass.cache->keys(cache_row_);
  Tensor& values = pass.cache->values(cache_row_);
  append(new_keys, keys);
  append(new_values, values);
  kernels::AttentionShape whole = shape(pass);
  whole.keys = past + whole.queries;
  Tensor out = Tensor::uninitialized(DType::kF32, queries.tensor().shape());
  attend(whole, queries.matrix(), std::as_const(keys).matrix().slice_rows(0, whole.keys),
         std::as_const(values).matrix().slice_rows(0, whole.keys),
         p_.sinks == nullptr ? std::span<const float>{} : std::as_const(p_.sinks->value).f32(), out.matrix(),
         pass.one_by_one);
  return Value(std::move(out));
}

}  // namespace switchyard::model
