#pragma once
// What flows between differentiable ops, and the parameters that they read.

#include <memory>
#include <string>

#include "switchyard/tensor/tensor.hpp"

namespace switchyard::autograd {

// What a parameter is. Decides weight decay, the learning-rate group, initialisation and freezing by kind.
enum class ParameterRole { kEmbedding, kOutput, kMatrix, kExpert, kRouter, kNorm, kBias, kBuffer };

// A named tensor of the model. A kBuffer (such as a selection bias) belongs to the checkpoint but has no gradient.
struct Parameter {
  std::string name;
  ParameterRole role = ParameterRole::kMatrix;
  Tensor value;
  Tensor grad;            // float32 of value's shape; undefined until ensure_grad()
  bool trainable = true;  // false: ops do not compute its gradient

  bool wants_grad() const { return trainable && role != ParameterRole::kBuffer; }
  // Makes grad, zeroed, where it is missing.
  Tensor& ensure_grad();
  void zero_grad();
};

// A node of the graph: a tensor and, once backward has reached it, its gradient. A handle, cheap to copy; the tensor
// lives as long as any handle or any op on the tape that still needs it.
class Value {
 public:
  Value() = default;
  explicit Value(Tensor tensor, bool needs_grad = false);

  bool defined() const { return node_ != nullptr; }
  const Tensor& tensor() const { return node_->tensor; }
  Tensor& mutable_tensor() { return node_->tensor; }
  ConstMatrix matrix() const { return std::as_const(node_->tensor).matrix(); }
  float scalar() const { return node_->tensor.f32()[0]; }

  // Whether backward must reach this value. Without a tape it is always false.
  bool needs_grad() const { return node_ && node_->needs_grad; }
  const Tensor& grad() const { return node_->grad; }  // undefined where nothing arrived
  // Takes the gradient over if it is the first, else adds it.
  void accumulate_grad(Tensor grad) const;
  void clear_grad() const { node_->grad = Tensor(); }

 private:
  struct Node {
    Tensor tensor, grad;
    bool needs_grad = false;
  };
  std::shared_ptr<Node> node_;
};

}  // namespace switchyard::autograd
