#pragma once
// Reverse-mode differentiation over about twenty coarse ops. An op called with a null tape computes the same values
// and records nothing: that is inference.

#include <functional>
#include <memory>
#include <vector>

#include "switchyard/autograd/value.hpp"

namespace switchyard::autograd {

// Records backward steps in the order of the forward pass and runs them in reverse. Each step is released as soon as
// it has run, and with it the activations that only it still held. One thread at a time.
class Tape {
 public:
  // `backward` is called once, without arguments. It may own move-only things.
  template <class F>
  void record(F backward) {
    steps_.push_back(std::make_unique<StepOf<F>>(std::move(backward)));
  }
  // Seeds loss (one element) with `seed` and runs every step. The tape is empty afterwards, also where a step throws.
  // A loss that depends on no trainable parameter gives no gradients.
  void backward(const Value& loss, float seed = 1.0F);
  // Runs every step with the gradients that the caller has put on its outputs.
  void backward();
  bool empty() const { return steps_.empty(); }
  void clear() { steps_.clear(); }

 private:
  struct Step {
    virtual ~Step() = default;
    virtual void run() = 0;
  };
  template <class F>
  struct StepOf final : Step {
    explicit StepOf(F f) : function(std::move(f)) {}
    void run() override { function(); }
    F function;
  };
  std::vector<std::unique_ptr<Step>> steps_;
};

// Activation recomputation: runs f without recording, keeps only x, and runs f again with a tape of its own when the
// gradient comes. f(tape, x, recomputing) must give the same bits each time; `recomputing` is true the second time, so
// that observers and counters see a token once. f may return several values (such as output and losses). What f
// refers to must live until backward has run.
// Source: Chen et al. 2016, arXiv 1604.06174.
std::vector<Value> recompute(Tape* tape, const Value& x,
                             std::function<std::vector<Value>(Tape* tape, const Value& x, bool recomputing)> f);

}  // namespace switchyard::autograd
