#include "switchyard/autograd/ops.hpp"

#include "result.hpp"
#include "switchyard/kernels/elementwise.hpp"
#include "switchyard/kernels/heads.hpp"
#include "switchyard/kernels/matmul.hpp"
#include "switchyard/kernels/norm.hpp"

namespace switchyard::autograd {

Value embedding(Tape* tape, Parameter& table_VD, std::span<const std::int32_t> id_T) {
  const WeightView table = table_VD.weight();
  Tensor y = uninitialized({static_cast<Index>(id_T.size()), table.cols});
  kernels::embedding_forward(table, id_T, y.matrix());
  const bool records = tape != nullptr && table_VD.wants_grad();
  Value result(std::move(y), records);
  if (records) {
    tape->record([&table_VD, ids = std::vector<std::int32_t>(id_T.begin(), id_T.end()), y_grad = result.gradient()] {
      if (const SharedTensor d_y = y_grad.take())
        kernels::embedding_backward(ids, std::as_const(*d_y).matrix(), table_VD.ensure_grad().matrix());
    });
  }
  return result;
}

Value linear(Tape* tape, const Value& x_TD, Parameter& weight_ND, Parameter* bias_N) {
  const ConstMatrix x = x_TD.matrix();
  const WeightView w = weight_ND.weight();
  Tensor y = uninitialized({x.rows, w.rows});
  kernels::matmul_nt(x, w, y.matrix());
  if (bias_N != nullptr) kernels::add_bias(y.matrix(), values_of(bias_N));
  const bool records = tape != nullptr && (x_TD.needs_grad() || wants_grad(&weight_ND) || wants_grad(bias_N));
  Value result(std::move(y), records);
  if (!records) return result;
  // x itself is needed only for the weight's gradient.
  tape->record([x_kept = weight_ND.wants_grad() ? x_TD.shared() : nullptr, x_grad = x_TD.gradient(),
                x_shape = x_TD.tensor().shape(), &weight_ND, bias_N, y_grad = result.gradient()] {
    const SharedTensor taken = y_grad.take();
    if (taken == nullptr) return;
    const ConstMatrix d_y = std::as_const(*taken).matrix();
    if (x_kept != nullptr)
      kernels::matmul_tn(d_y, std::as_const(*x_kept).matrix(), weight_ND.ensure_grad().matrix(), kernels::Store::kAdd);
    if (wants_grad(bias_N)) kernels::add_bias_backward(d_y, bias_N->ensure_grad().f32());
    if (!x_grad.wanted()) return;
    if (Tensor* d_x = x_grad.writable()) {
      kernels::matmul_nn(d_y, matrix_of(weight_ND), d_x->matrix(), kernels::Store::kAdd);
    } else {
      Tensor fresh = uninitialized(x_shape);
      kernels::matmul_nn(d_y, matrix_of(weight_ND), fresh.matrix());
      x_grad.accumulate(std::move(fresh));
    }
  });
  return result;
}

Value rms_norm(Tape* tape, Value x, Parameter& weight, float eps) {
  const Index width = weight.value.numel(), count = x.tensor().numel();
  require(width > 0 && count % width == 0, "rms_norm of {} in groups of {}", x.tensor().shape().to_string(), width);
  const ConstMatrix x_groups(x.shared()->values<float>().data(), count / width, width);
  const bool records = tape != nullptr && (x.needs_grad() || weight.wants_grad());
  if (!records) {
    SharedTensor y = x.sole_owner() ? x.shared() : std::make_shared<Tensor>(uninitialized(x.tensor().shape()));
    kernels::rms_norm_forward(x_groups, values_of(&weight), eps, groups_of(*y, width), {});
    return Value(std::move(y), false);
  }
  Tensor y = uninitialized(x.tensor().shape());
  Tensor inv_rms = uninitialized({x_groups.rows});
  kernels::rms_norm_forward(x_groups, values_of(&weight), eps, groups_of(y, width), inv_rms.f32());
  Value result(std::move(y), true);
  tape->record([x = std::move(x), &weight, width, inv_rms = std::move(inv_rms), y_grad = result.gradient()] {
    SharedTensor d_y = y_grad.take();
    if (d_y == nullptr) return;
    const ConstMatrix x_rows = groups_of(x.tensor(), width), d_y_rows = groups_of(std::as_const(*d_y), width);
    SharedTensor d_x = d_y.use_count() == 1 ? d_y : std::make_shared<Tensor>(uninitialized(d_y->shape()));
    kernels::rms_norm_backward(x_rows, values_of(&weight), inv_rms.f32(), d_y_rows, groups_of(*d_x, width),
                               gradient_of(&weight));
    d_y.reset();
    x.gradient().accumulate(std::move(d_x));
  });
  return result;
}

Value layer_norm(Tape* tape, Value x, Parameter& weight, Parameter* bias, float eps) {
  const Index width = weight.value.numel(), count = x.tensor().numel();
  require(width > 0 && count % width == 0, "layer_norm of {} in groups of {}", x.tensor().shape().to_string(), width);
  const ConstMatrix x_groups(x.shared()->values<float>().data(), count / width, width);
  const bool records = tape != nullptr && (x.needs_grad() || weight.wants_grad() || wants_grad(bias));
  SharedTensor y =
      !records && x.sole_owner() ? x.shared() : std::make_shared<Tensor>(uninitialized(x.tensor().shape()));
  kernels::layer_norm_forward(x_groups, values_of(&weight), values_of(bias), eps, groups_of(*y, width));
  Value result(std::move(y), records);
  if (!records) return result;
  tape->record([x = std::move(x), &weight, bias, eps, width, y_grad = result.gradient()] {
    SharedTensor d_y = y_grad.take();
    if (d_y == nullptr) return;
    const ConstMatrix x_rows = groups_of(x.tensor(), width), d_y_rows = groups_of(std::as_const(*d_y), width);
    SharedTensor d_x = d_y.use_count() == 1 ? d_y : std::make_shared<Tensor>(uninitialized(d_y->shape()));
    kernels::layer_norm_backward(x_rows, values_of(&weight), eps, d_y_rows, groups_of(*d_x, width),
                                 gradient_of(&weight), gradient_of(bias));
    d_y.reset();
    x.gradient().accumulate(std::move(d_x));
  });
  return result;
}

Value add(Tape* tape, const Value& a, Value b) {
  require(a.tensor().numel() == b.tensor().numel(), "cannot add {} and {}", a.tensor().shape().to_string(),
          b.tensor().shape().to_string());
  const Gradient a_grad = tape != nullptr ? a.gradient() : Gradient();
  const Gradient b_grad = tape != nullptr ? b.gradient() : Gradient();
  SharedTensor y;
  if (b.sole_owner()) {
    y = b.shared();
    kernels::add_into(std::as_const(a).tensor().f32(), y->f32());
  } else {
    y = std::make_shared<Tensor>(uninitialized(a.tensor().shape()));
    kernels::add(a.tensor().f32(), b.tensor().f32(), y->f32());
  }
  const bool records = a_grad.wanted() || b_grad.wanted();
  Value result(std::move(y), records);
  if (records) {
    tape->record([a_grad, b_grad, y_grad = result.gradient()] {
      // Both inputs get the same tensor; whoever has to write to it first copies it if the other still needs it.
      const SharedTensor d = y_grad.take();
      a_grad.accumulate(d);
      b_grad.accumulate(d);
    });
  }
  return result;
}

Value scale(Tape* tape, Value x, float factor) {
  if (factor == 1.0F) return x;
  const Gradient x_grad = tape != nullptr ? x.gradient() : Gradient();
  SharedTensor y = x.sole_owner() ? x.shared() : std::make_shared<Tensor>(uninitialized(x.tensor().shape()));
  kernels::scale(factor, x.tensor().f32(), y->f32());
  Value result(std::move(y), x_grad.wanted());
  if (x_grad.wanted()) {
    tape->record([x_grad, factor, y_grad = result.gradient()] {
      const SharedTensor d_y = y_grad.take();
      if (d_y == nullptr) return;
      SharedTensor d_x = d_y.use_count() == 1 ? d_y : std::make_shared<Tensor>(uninitialized(d_y->shape()));
      kernels::scale(factor, std::as_const(*d_y).f32(), d_x->f32());
      x_grad.accumulate(std::move(d_x));
    });
  }
  return result;
}

Value clamp(Tape* tape, Value x, float limit) {
  const bool records = tape != nullptr && x.needs_grad();
  SharedTensor y =
      !records && x.sole_owner() ? x.shared() : std::make_shared<Tensor>(uninitialized(x.tensor().shape()));
  kernels::clamp(limit, x.tensor().f32(), y->f32());
  Value result(std::move(y), records);
  if (!records) return result;
  tape->record([x = std::move(x), limit, y_grad = result.gradient()] {
    const SharedTensor d_y = y_grad.take();
    if (d_y == nullptr) return;
    SharedTensor d_x = d_y.use_count() == 1 ? d_y : std::make_shared<Tensor>(uninitialized(d_y->shape()));
    kernels::clamp_backward(limit, x.tensor().f32(), std::as_const(*d_y).f32(), d_x->f32());
    x.gradient().accumulate(std::move(d_x));
  });
  return result;
}

Value dropout(Tape* tape, Value x, float rate, const RandomStream& stream) {
  if (rate == 0.0F) return x;
  const Gradient x_grad = tape != nullptr ? x.gradient() : Gradient();
  SharedTensor y = x.sole_owner() ? x.shared() : std::make_shared<Tensor>(uninitialized(x.tensor().shape()));
  kernels::dropout(stream, rate, x.tensor().f32(), y->f32());
  Value result(std::move(y), x_grad.wanted());
  if (x_grad.wanted()) {
    tape->record([x_grad, rate, stream, y_grad = result.gradient()] {
      const SharedTensor d_y = y_grad.take();
      if (d_y == nullptr) return;
      SharedTensor d_x = d_y.use_count() == 1 ? d_y : std::make_shared<Tensor>(uninitialized(d_y->shape()));
      kernels::dropout(stream, rate, std::as_const(*d_y).f32(), d_x->f32());
      x_grad.accumulate(std::move(d_x));
    });
  }
  return result;
}

Value sum_scalars(Tape* tape, std::span<const Value> terms) {
  Tensor sum = uninitialized({1});
  double total = 0.0;
  std::vector<Gradient> gradients;
  for (const Value& term : terms) {
    require(term.tensor().numel() == 1, "sum_scalars of a value of {}", term.tensor().shape().to_string());
    total += static_cast<double>(term.scalar());
    if (tape != nullptr && term.needs_grad()) gradients.push_back(term.gradient());
  }
  sum.f32()[0] = static_cast<float>(total);
  Value result(std::move(sum), !gradients.empty());
  if (!gradients.empty()) {
    tape->record([gradients = std::move(gradients), y_grad = result.gradient()] {
      const SharedTensor d = y_grad.take();
      for (const Gradient& gradient : gradients) gradient.accumulate(d);
    });
  }
  return result;
}

}  // namespace switchyard::autograd
