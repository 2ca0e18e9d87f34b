#include "switchyard/moe/expert_store.hpp"

#include "switchyard/base/error.hpp"

namespace switchyard::moe {
namespace {

// Checks that the three belong together: gate and up [E, F, D], down [E, D, F].
void check_stacks(const Tensor& gate_EFD, const Tensor& up_EFD, const Tensor& down_EDF) {
  require(up_EFD.defined() && down_EDF.defined(), "experts need an up and a down tensor");
  const Shape& up = up_EFD.shape();
  const Shape& down = down_EDF.shape();
  require(up.rank() == 3 && down == Shape({up[0], up[2], up[1]}),
          "expert tensors up {} and down {}, expected [E, F, D] "
          "and [E, D, F]",
          up.to_string(), down.to_string());
  require(!gate_EFD.defined() || gate_EFD.shape() == up, "expert tensors gate {} and up {}, expected the same shape",
          gate_EFD.shape().to_string(), up.to_string());
}

// The i-th matrices of the three stacks, as FfnWeights or FfnGradients.
template <class Views, class AnyTensor>
std::vector<Views> views_of(AnyTensor& gate_EFD, AnyTensor& up_EFD, AnyTensor& down_EDF) {
  check_stacks(gate_EFD, up_EFD, down_EDF);
  std::vector<Views> views_E(static_cast<std::size_t>(up_EFD.shape()[0]));
  for (std::size_t e = 0; e < views_E.size(); ++e) {
    const auto i = static_cast<Index>(e);
    if (gate_EFD.defined()) views_E[e].gate_FD = gate_EFD.matrix(i);
    views_E[e].up_FD = up_EFD.matrix(i);
    views_E[e].down_DF = down_EDF.matrix(i);
  }
  return views_E;
}

}  // namespace

ResidentExpertStore::ResidentExpertStore(const Tensor& gate_EFD, const Tensor& up_EFD, const Tensor& down_EDF)
    : weights_E_(views_of<kernels::FfnWeights>(gate_EFD, up_EFD, down_EDF)) {}

ExpertLease ResidentExpertStore::acquire(std::span<const std::int32_t>) { return {weights_E_, nullptr}; }

std::vector<kernels::FfnGradients> expert_gradients(Tensor& gate_EFD, Tensor& up_EFD, Tensor& down_EDF) {
  return views_of<kernels::FfnGradients>(gate_EFD, up_EFD, down_EDF);
}

}  // namespace switchyard::moe
