#include "switchyard/autograd/tape.hpp"

namespace switchyard::autograd {

void Tape::backward(const Value& loss, float seed) {
  require(loss.defined() && loss.tensor().numel() == 1, "backward needs a loss of one element");
  Tensor gradient = Tensor::uninitialized(DType::kF32, loss.tensor().shape());
  gradient.f32()[0] = seed;
  loss.accumulate_grad(std::move(gradient));
  backward();
}

void Tape::backward() {
  // Taken out first, so that the tape is empty whatever happens.
  std::vector<std::unique_ptr<Step>> steps = std::move(steps_);
  steps_.clear();
  while (!steps.empty()) {
    const std::unique_ptr<Step> step = std::move(steps.back());
    steps.pop_back();
    step->run();
  }
}

std::vector<Value> recompute(Tape* tape, const Value& x,
                             std::function<std::vector<Value>(Tape* tape, const Value& x, bool recomputing)> f) {
  std::vector<Value> outputs = f(nullptr, x, false);
  if (tape == nullptr) return outputs;
  std::vector<Gradient> gradients;
  for (Value& output : outputs) {
    output = Value(output.shared(), true);
    gradients.push_back(output.gradient());
  }
  tape->record([x, gradients, f = std::move(f)] {
    bool any = false;
    for (const Gradient& gradient : gradients) any = any || gradient.arrived();
    if (!any) return;
    Tape inner;
    const Value again(x.shared(), x.needs_grad());
    {
      const std::vector<Value> repeated = f(&inner, again, true);
      require(repeated.size() == gradients.size(), "a recomputed function returned {} values, then {}",
              gradients.size(), repeated.size());
      for (std::size_t i = 0; i < repeated.size(); ++i) repeated[i].gradient().accumulate(gradients[i].take());
    }
    inner.backward();
    x.gradient().accumulate(again.gradient().take());
  });
  return outputs;
}

}  // namespace switchyard::autograd
