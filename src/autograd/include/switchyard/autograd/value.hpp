#pragma once
// What flows between differentiable ops, and the parameters that they read.

#include <memory>
#include <string>
#include <vector>

#include "switchyard/tensor/tensor.hpp"
#include "switchyard/tensor/weight.hpp"

namespace switchyard::autograd {

// What a parameter is. Decides weight decay, the learning-rate group, initialisation and freezing by kind.
enum class ParameterRole { kEmbedding, kOutput, kMatrix, kExpert, kRouter, kNorm, kBias, kBuffer };

// Weights that stay as their file holds them: one view, or one an expert of a stack [E, R, C].
struct StoredWeights {
  Shape shape;
  std::vector<WeightView> views;
  std::shared_ptr<const void> keep_alive;  // what the views read: mapped files, copies of them, scales
};

// A named tensor of the model, in float32 (`value`) or as its file holds it (`stored`), never both. Only a float32 one
// can be trained. A kBuffer (such as a selection bias) belongs to the checkpoint but has no gradient.
struct Parameter {
  std::string name;
  ParameterRole role = ParameterRole::kMatrix;
  Tensor value;           // undefined where the weights are stored
  StoredWeights stored;   // without views where they are in `value`
  Tensor grad;            // float32 of the parameter's shape; undefined until ensure_grad()
  bool trainable = true;  // false: ops do not compute its gradient

  bool is_stored() const { return !stored.views.empty(); }
  const Shape& shape() const { return value.defined() ? value.shape() : stored.shape; }
  Index numel() const { return shape().numel(); }
  // The whole as a matrix: all axes but the last folded into rows, rank 1 one row. kInternal for a stored stack.
  WeightView weight() const;
  // Of a stack [E, R, C]: the matrix of expert e.
  WeightView weight(Index e) const;

  bool wants_grad() const { return trainable && role != ParameterRole::kBuffer; }
  // Makes grad, zeroed, where it is missing. kInternal where the weights are stored.
  Tensor& ensure_grad();
  // Sets grad to zero where there is one.
  void zero_grad();
};

// A tensor that several handles share; it goes with the last of them.
using SharedTensor = std::shared_ptr<Tensor>;

// The gradient of a value, without the value: all that a backward step needs to hold of its op's output, so that the
// output's own tensor can go while the step waits. A handle, cheap to copy. One thread at a time.
class Gradient {
 public:
  Gradient() = default;  // nobody wants it: accumulate() does nothing
  static Gradient make_wanted();

  bool wanted() const { return slot_ != nullptr; }
  bool arrived() const { return slot_ != nullptr && *slot_ != nullptr; }
  const Tensor& tensor() const;  // undefined where nothing arrived
  // Hands out what has arrived (null where nothing has) and forgets it. Somebody else may hold the same tensor: only
  // write to it where use_count() is 1.
  SharedTensor take() const;
  // Takes the gradient over if it is the first, else adds it. One tensor may be handed to several gradients: it is
  // copied before it is written to while anybody else still holds it.
  void accumulate(SharedTensor gradient) const;
  void accumulate(Tensor gradient) const;
  // What has arrived, for a kernel that adds its result itself; null where nothing has or where it is shared.
  Tensor* writable() const;

 private:
  std::shared_ptr<SharedTensor> slot_;
};

// A node of the graph: a tensor and, once backward has reached it, its gradient. A handle, cheap to copy; the tensor
// lives as long as any handle or any op on the tape that still needs it.
class Value {
 public:
  Value() = default;
  explicit Value(Tensor tensor, bool needs_grad = false);
  Value(SharedTensor tensor, bool needs_grad);

  bool defined() const { return tensor_ != nullptr; }
  const Tensor& tensor() const { return *tensor_; }
  Tensor& mutable_tensor() { return *tensor_; }
  const SharedTensor& shared() const { return tensor_; }
  ConstMatrix matrix() const { return std::as_const(*tensor_).matrix(); }
  float scalar() const { return std::as_const(*tensor_).f32()[0]; }
  // Whether this handle is the tensor's only one. An op that was given such a handle by std::move, and whose caller
  // therefore cannot look at the value again, may write its result over the tensor.
  bool sole_owner() const { return tensor_.use_count() == 1 && tensor_->writable(); }

  // Whether backward must reach this value. Without a tape it is always false.
  bool needs_grad() const { return gradient_.wanted(); }
  const Gradient& gradient() const { return gradient_; }
  const Tensor& grad() const { return gradient_.tensor(); }  // undefined where nothing arrived
  void accumulate_grad(Tensor grad) const { gradient_.accumulate(std::move(grad)); }
  void clear_grad() const { gradient_.take(); }

 private:
  SharedTensor tensor_;
  Gradient gradient_;
};

}  // namespace switchyard::autograd
