#include "switchyard/autograd/value.hpp"

#include <algorithm>

#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/elementwise.hpp"

namespace switchyard::autograd {

WeightView Parameter::weight() const {
  if (!is_stored()) return std::as_const(value).matrix();
  require(stored.views.size() == 1, "the stack {} was read as one matrix", name);
  return stored.views.front();
}

WeightView Parameter::weight(Index e) const {
  if (!is_stored()) return std::as_const(value).matrix(e);
  require(stored.shape.rank() == 3 && e >= 0 && e < static_cast<Index>(stored.views.size()), "no matrix {} in {} {}", e,
          name, stored.shape.to_string());
  return stored.views[static_cast<std::size_t>(e)];
}

Tensor& Parameter::ensure_grad() {
  require(!is_stored(), "{} is to be trained, but its weights were left as their file holds them", name);
  if (!grad.defined()) grad = Tensor::zeros(DType::kF32, value.shape());
  return grad;
}

void Parameter::zero_grad() {
  if (!grad.defined()) return;
  const std::span<float> values = grad.f32();
  parallel_for(static_cast<Index>(values.size()), Index{1} << 18,
               [&](Index begin, Index end) { std::fill(values.begin() + begin, values.begin() + end, 0.0F); });
}

Gradient Gradient::make_wanted() {
  Gradient gradient;
  gradient.slot_ = std::make_shared<SharedTensor>();
  return gradient;
}

const Tensor& Gradient::tensor() const {
  static const Tensor kNone;
  return arrived() ? **slot_ : kNone;
}

SharedTensor Gradient::take() const { return slot_ ? std::move(*slot_) : nullptr; }

Tensor* Gradient::writable() const { return arrived() && slot_->use_count() == 1 ? slot_->get() : nullptr; }

void Gradient::accumulate(Tensor gradient) const {
  if (wanted()) accumulate(std::make_shared<Tensor>(std::move(gradient)));
}

void Gradient::accumulate(SharedTensor gradient) const {
  if (!wanted() || gradient == nullptr) return;
  SharedTensor& held = *slot_;
  if (held == nullptr) {
    held = std::move(gradient);
    return;
  }
  require(held->numel() == gradient->numel(), "a gradient of {} was added to one of {}", gradient->shape().to_string(),
          held->shape().to_string());
  const std::span<const float> a = std::as_const(*held).f32(), b = std::as_const(*gradient).f32();
  // A sum of two floats has the same bits in either order, so it may go to whichever of the two is ours alone.
  if (held.use_count() == 1) {
    kernels::add_into(b, held->f32());
  } else if (gradient.use_count() == 1) {
    kernels::add_into(a, gradient->f32());
    held = std::move(gradient);
  } else {
    auto sum = std::make_shared<Tensor>(Tensor::uninitialized(DType::kF32, held->shape()));
    kernels::add(a, b, sum->f32());
    held = std::move(sum);
  }
}

Value::Value(Tensor tensor, bool needs_grad) : Value(std::make_shared<Tensor>(std::move(tensor)), needs_grad) {}

Value::Value(SharedTensor tensor, bool needs_grad) : tensor_(std::move(tensor)) {
  if (needs_grad) gradient_ = Gradient::make_wanted();
}

}  // namespace switchyard::autograd
