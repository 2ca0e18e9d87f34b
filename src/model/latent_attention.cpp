// Multi-head latent attention. DeepSeek-AI 2024, arXiv 2405.04434, section 2.1, and its appendix C for the absorbed
// form.

#include "layer.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/heads.hpp"
#include "switchyard/kernels/matmul.hpp"

namespace switchyard::model {

using autograd::Tape;
using autograd::Value;

namespace {

// Whether the absorbed form multiplies less. Per head and cached token: it has longer dot products, a query each; the
// naive form makes a key and a value from the latent first. The forms differ in rounding, so that one by one the number
// of queries does not count.
bool absorbing_pays(const LatentConfig& latent, const kernels::AttentionShape& shape, bool one_by_one) {
  const Index absorbed = 2 * latent.rank + latent.rope_dim, naive = shape.head_dim + shape.value_dim;
  const Index made = latent.rank * (shape.head_dim - latent.rope_dim + shape.value_dim);
  return (one_by_one ? 1 : shape.queries) * (absorbed - naive) < made;
}

Value copy_of(ConstMatrix m) {
  Tensor copy = Tensor::uninitialized(DType::kF32, {m.rows, m.cols});
  kernels::copy_matrix(m, copy.matrix());
  return Value(std::move(copy));
}

}  // namespace

Value Attention::latent(Tape* tape, const Value& x_TD, const Pass& pass) const {
  const LatentConfig& l = *config_->latent;
  Value q;
  if (p_.q_a != nullptr) {
    Value low = autograd::linear(tape, x_TD, *p_.q_a, p_.q_a_bias);
    q = autograd::linear(tape, autograd::rms_norm(tape, std::move(low), *p_.q_a_norm, l.norm_eps), *p_.q_b);
  } else {
    q = autograd::linear(tape, x_TD, *p_.q);
  }
  q = rotate(tape, std::move(q), config_->head_dim, config_->head_dim - l.rope_dim, pass);
  auto [latent_TR, rope_TR] =
      autograd::split_columns(tape, autograd::linear(tape, x_TD, *p_.kv_a, p_.kv_a_bias), l.rank);
  latent_TR = autograd::rms_norm(tape, std::move(latent_TR), *p_.kv_a_norm, l.norm_eps);
  rope_TR = rotate(tape, std::move(rope_TR), l.rope_dim, 0, pass);
  kernels::AttentionShape whole = shape(pass);
  if (pass.cache == nullptr) return naive(tape, q, latent_TR, rope_TR, whole, false);

  Tensor& cached = pass.cache->keys(cache_row_);
  const Index past = pass.cache->length();
  whole.keys = past + whole.queries;
  const Matrix added = cached.matrix().slice_rows(past, whole.queries);
  kernels::copy_matrix(latent_TR.matrix(), added.slice_cols(0, l.rank));
  kernels::copy_matrix(rope_TR.matrix(), added.slice_cols(l.rank, l.rope_dim));
  const ConstMatrix rows = std::as_const(cached).matrix().slice_rows(0, whole.keys);
  if (absorbing_pays(l, whole, pass.one_by_one)) return absorbed(q, rows, whole, pass.one_by_one);
  return naive(nullptr, q, copy_of(rows.slice_cols(0, l.rank)), copy_of(rows.slice_cols(l.rank, l.rope_dim)), whole,
               pass.one_by_one);
}

Value Attention::naive(Tape* tape, const Value& q, const Value& latent_TR, const Value& rope_TR,
                       const kernels::AttentionShape& shape, bool one_by_one) const {
  const Index key_dim = shape.head_dim - config_->latent->rope_dim;
  const auto [keys, values] = autograd::latent_keys_values(tape, autograd::linear(tape, latent_TR, *p_.kv_b), rope_TR,
                                                           shape.heads, key_dim, shape.value_dim);
  if (shape.keys == shape.queries && !one_by_one) return autograd::attention(tape, shape, q, keys, values);
  Tensor out = Tensor::uninitialized(DType::kF32, {shape.queries, shape.heads * shape.value_dim});
  attend(shape, q.matrix(), keys.matrix(), values.matrix(), {}, out.matrix(), one_by_one);
  return Value(std::move(out));
}

Value Attention::absorbed(const Value& q, ConstMatrix cached, const kernels::AttentionShape& shape,
                          bool one_by_one) const {
  const LatentConfig& l = *config_->latent;
  const Index key_dim = shape.head_dim - l.rope_dim, stored = l.rank + l.rope_dim;
  const WeightView kv_b = p_.kv_b->weight();
  const auto head = [&](Index h) {
    return kv_b.slice_rows(h * (key_dim + shape.value_dim), key_dim + shape.value_dim);
  };

  Tensor queries = Tensor::uninitialized(DType::kF32, {shape.queries, shape.heads * stored});
  parallel_for(shape.heads, 1, [&](Index begin, Index end) {
    for (Index h = begin; h < end; ++h) {
      const ConstMatrix from = q.matrix().slice_cols(h * shape.head_dim, shape.head_dim);
      const Matrix to = queries.matrix().slice_cols(h * stored, stored);
      kernels::matmul_nt(from.slice_cols(0, key_dim), head(h).slice_rows(0, key_dim).transposed(),
                         to.slice_cols(0, l.rank));
      kernels::copy_matrix(from.slice_cols(key_dim, l.rope_dim), to.slice_cols(l.rank, l.rope_dim));
    }
  });

  kernels::AttentionShape one = shape;  // one key and value head for all
  one.kv_heads = 1;
  one.head_dim = stored;
  one.value_dim = l.rank;
  Tensor mixed = Tensor::uninitialized(DType::kF32, {shape.queries, shape.heads * l.rank});
  attend(one, std::as_const(queries).matrix(), cached, cached.slice_cols(0, l.rank), {}, mixed.matrix(), one_by_one);

  Tensor out = Tensor::uninitialized(DType::kF32, {shape.queries, shape.heads * shape.value_dim});
  parallel_for(shape.heads, 1, [&](Index begin, Index end) {
    for (Index h = begin; h < end; ++h)
      kernels::matmul_nt(std::as_const(mixed).matrix().slice_cols(h * l.rank, l.rank),
                         head(h).slice_rows(key_dim, shape.value_dim),
                         out.matrix().slice_cols(h * shape.value_dim, shape.value_dim));
  });
  return Value(std::move(out));
}

}  // namespace switchyard::model
