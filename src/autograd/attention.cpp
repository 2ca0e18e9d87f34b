// Attention and what prepares its queries, keys and values.

#include "result.hpp"
#include "switchyard/autograd/ops.hpp"
#include "switchyard/kernels/heads.hpp"

namespace switchyard::autograd {
namespace {

// A gradient that may not have arrived, as an empty matrix then.
ConstMatrix matrix_of(const SharedTensor& gradient) {
  return gradient == nullptr ? ConstMatrix() : std::as_const(*gradient).matrix();
}

}  // namespace

Value rope(Tape* tape, Value x_THC, Index head_dim, Index first, std::span<const std::int32_t> position_T,
           const kernels::RopeTable& table, kernels::RopePairing pairing) {
  const Gradient x_grad = tape != nullptr ? x_THC.gradient() : Gradient();
  SharedTensor y = x_THC.sole_owner() ? x_THC.shared() : std::make_shared<Tensor>(x_THC.tensor().clone());
  kernels::rope(y->matrix(), head_dim, first, position_T, table, pairing);
  Value result(std::move(y), x_grad.wanted());
  if (x_grad.wanted()) {
    tape->record([x_grad, head_dim, first, positions = std::vector<std::int32_t>(position_T.begin(), position_T.end()),
                  table, pairing, y_grad = result.gradient()] {
      SharedTensor d = y_grad.take();
      if (d == nullptr) return;
      if (d.use_count() > 1) d = std::make_shared<Tensor>(d->clone());
      kernels::rope(d->matrix(), head_dim, first, positions, table, pairing, true);
      x_grad.accumulate(std::move(d));
    });
  }
  return result;
}

std::pair<Value, Value> split_columns(Tape* tape, const Value& x, Index first) {
  const ConstMatrix from = x.matrix();
  require(first > 0 && first < from.cols, "a cut at column {} of {}", first, from.cols);
  Tensor left = uninitialized({from.rows, first}), right = uninitialized({from.rows, from.cols - first});
  kernels::copy_matrix(from.slice_cols(0, first), left.matrix());
  kernels::copy_matrix(from.slice_cols(first, from.cols - first), right.matrix());
  const bool records = tape != nullptr && x.needs_grad();
  std::pair result{Value(std::move(left), records), Value(std::move(right), records)};
  if (!records) return result;
  tape->record([x_grad = x.gradient(), x_shape = x.tensor().shape(), left_grad = result.first.gradient(),
                right_grad = result.second.gradient()] {
    const SharedTensor d_left = left_grad.take(), d_right = right_grad.take();
    if (d_left == nullptr && d_right == nullptr) return;
    const bool whole = d_left != nullptr && d_right != nullptr;
    Tensor d_x = whole ? uninitialized(x_shape) : Tensor::zeros(DType::kF32, x_shape);
    const Matrix to = d_x.matrix();
    const Index cut = d_left != nullptr ? matrix_of(d_left).cols : to.cols - matrix_of(d_right).cols;
    if (d_left != nullptr) kernels::copy_matrix(matrix_of(d_left), to.slice_cols(0, cut));
    if (d_right != nullptr) kernels::copy_matrix(matrix_of(d_right), to.slice_cols(cut, to.cols - cut));
    x_grad.accumulate(std::move(d_x));
  });
  return result;
}

std::pair<Value, Value> latent_keys_values(Tape* tape, const Value& kv_THX, const Value& rope_TR, Index heads,
                                           Index key_dim, Index value_dim) {
  const ConstMatrix kv = kv_THX.matrix(), turned = rope_TR.matrix();
  require(heads >= 1 && kv.cols == heads * (key_dim + value_dim),
          "latent keys and values: {} columns for {} heads of {} and {}", kv.cols, heads, key_dim, value_dim);
  Tensor keys = uninitialized({kv.rows, heads * (key_dim + turned.cols)});
  Tensor values = uninitialized({kv.rows, heads * value_dim});
  kernels::latent_keys_values(heads, value_dim, kv, turned, keys.matrix(), values.matrix());
  const bool records = tape != nullptr && (kv_THX.needs_grad() || rope_TR.needs_grad());
  std::pair result{Value(std::move(keys), records), Value(std::move(values), records)};
  if (!records) return result;
  tape->record([kv_grad = kv_THX.gradient(), kv_shape = kv_THX.tensor().shape(), rope_grad = rope_TR.gradient(),
                rope_shape = rope_TR.tensor().shape(), heads, value_dim, keys_grad = result.first.gradient(),
                values_grad = result.second.gradient()] {
    const SharedTensor d_keys = keys_grad.take(), d_values = values_grad.take();
    if (d_keys == nullptr && d_values == nullptr) return;
    Tensor d_kv = uninitialized(kv_shape), d_rope = uninitialized(rope_shape);
    kernels::latent_keys_values_backward(heads, value_dim, matrix_of(d_keys), matrix_of(d_values), d_kv.matrix(),
                                         d_rope.matrix());
    kv_grad.accumulate(std::move(d_kv));
    rope_grad.accumulate(std::move(d_rope));
  });
  return result;
}

Value attention(Tape* tape, const kernels::AttentionShape& shape, const Value& q, const Value& k, const Value& v,
                Parameter* sink_H) {
  require(shape.queries == shape.keys, "differentiable attention has {} queries and {} keys", shape.queries,
          shape.keys);
  const bool records = tape != nullptr && (q.needs_grad() || k.needs_grad() || v.needs_grad() || wants_grad(sink_H));
  const Index value_dim = shape.value_dim == 0 ? shape.head_dim : shape.value_dim;
  Tensor out = uninitialized({shape.batch * shape.queries, shape.heads * value_dim});
  if (!records) {
    kernels::attention_forward(shape, q.matrix(), k.matrix(), v.matrix(), values_of(sink_H), out.matrix(), {});
    return Value(std::move(out));
  }
  Tensor log_sum_exp = uninitialized({shape.batch, shape.heads, shape.queries});
  kernels::attention_forward(shape, q.matrix(), k.matrix(), v.matrix(), values_of(sink_H), out.matrix(),
                             log_sum_exp.f32());
  Value result(std::move(out), true);
  tape->record([shape, q, k, v, sink_H, out_kept = result.shared(), log_sum_exp = std::move(log_sum_exp),
                y_grad = result.gradient()] {
    const SharedTensor d_out = y_grad.take();
    if (d_out == nullptr) return;
    Tensor d_q = uninitialized(q.tensor().shape()), d_k = uninitialized(k.tensor().shape()),
           d_v = uninitialized(v.tensor().shape());
    kernels::attention_backward(shape, q.matrix(), k.matrix(), v.matrix(), values_of(sink_H), matrix_of(out_kept),
                                log_sum_exp.f32(), matrix_of(d_out), d_q.matrix(), d_k.matrix(), d_v.matrix(),
                                gradient_of(sink_H));
    q.accumulate_grad(std::move(d_q));
    k.accumulate_grad(std::move(d_k));
    v.accumulate_grad(std::move(d_v));
  });
  return result;
}

}  // namespace switchyard::autograd
