#pragma once
// The seam that knows where a layer's expert weights are: in memory, on disk or on other ranks.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "switchyard/kernels/grouped_ffn.hpp"
#include "switchyard/tensor/tensor.hpp"

namespace switchyard::moe {

// Weights that stay readable as long as the lease and its store live. Experts that were not asked for may have empty
// views.
struct ExpertLease {
  std::span<const kernels::FfnWeights> weights_E;
  std::shared_ptr<const void> hold;  // keeps the weights and the memory of weights_E; null where the store does
};

// The routed experts of one layer. acquire() may be called from one thread at a time.
class ExpertStore {
 public:
  virtual ~ExpertStore() = default;
  virtual Index experts() const = 0;
  // Says which experts are likely to be asked for soon. May do nothing.
  virtual void prefetch(std::span<const std::int32_t> experts) { static_cast<void>(experts); }
  // Makes every expert with load_E[e] > 0 readable. Throws kResource where that fails.
  virtual ExpertLease acquire(std::span<const std::int32_t> load_E) = 0;
};

// Every expert of the store.
ExpertLease acquire_all(ExpertStore& store);

// Experts that can be read at any time: in memory, or in a mapped file. From views of each expert's matrices, in any
// type, whose memory and that of the biases `keep_alive` holds; it may be null where somebody else does. Every expert
// has up [F, D] and down [D, F] of the same D, and a gate [F, D] where the first one has; F may differ. Or from stacked
// float32 tensors, which must outlive the store: gate and up [E, F, D] and down [E, D, F]; gate is undefined where the
// activation is not gated, and so are biases that there are not, gate and up [E, F] and down [E, D]. What does not
// belong together, or a view that contradicts itself, is kInternal.
class ResidentExpertStore final : public ExpertStore {
 public:
  explicit ResidentExpertStore(std::vector<kernels::FfnWeights> weights_E,
                               std::shared_ptr<const void> keep_alive = nullptr);
  ResidentExpertStore(const Tensor& gate_EFD, const Tensor& up_EFD, const Tensor& down_EDF);
  ResidentExpertStore(const Tensor& gate_EFD, const Tensor& up_EFD, const Tensor& down_EDF, const Tensor& gate_bias_EF,
                      const Tensor& up_bias_EF, const Tensor& down_bias_ED);
  Index experts() const override { return static_cast<Index>(weights_E_.size()); }
  ExpertLease acquire(std::span<const std::int32_t> load_E) override;

 private:
  std::vector<kernels::FfnWeights> weights_E_;
  std::shared_ptr<const void> keep_alive_;
};

// Views of stacked gradient tensors, as grouped_ffn_backward takes them.
std::vector<kernels::FfnGradients> expert_gradients(Tensor& gate_EFD, Tensor& up_EFD, Tensor& down_EDF);
std::vector<kernels::FfnGradients> expert_gradients(Tensor& gate_EFD, Tensor& up_EFD, Tensor& down_EDF,
                                                    Tensor& gate_bias_EF, Tensor& up_bias_EF, Tensor& down_bias_ED);

}  // namespace switchyard::moe
