#include "switchyard/moe/expert_store.hpp"

#include <utility>

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

// A bias of every expert, for a stack of matrices [E, N, *].
void check_bias(std::string_view name, const Tensor& bias_EN, const Tensor& stack) {
  if (!bias_EN.defined()) return;
  require(stack.defined(), "experts with a {} bias and no {} tensor", name, name);
  const Shape expected({stack.shape()[0], stack.shape()[1]});
  require(bias_EN.shape() == expected, "expert biases of {} {}, expected {}", name, bias_EN.shape().to_string(),
          expected.to_string());
}

template <class AnyTensor>
auto row_of(AnyTensor& bias_EN, Index e) -> decltype(bias_EN.f32()) {
  if (!bias_EN.defined()) return {};
  const auto width = static_cast<std::size_t>(bias_EN.shape()[1]);
  return bias_EN.f32().subspan(static_cast<std::size_t>(e) * width, width);
}

// The i-th matrices and biases of the stacks, as FfnWeights or FfnGradients.
template <class Views, class AnyTensor>
std::vector<Views> views_of(AnyTensor& gate_EFD, AnyTensor& up_EFD, AnyTensor& down_EDF, AnyTensor& gate_bias_EF,
                            AnyTensor& up_bias_EF, AnyTensor& down_bias_ED) {
  check_stacks(gate_EFD, up_EFD, down_EDF);
  check_bias("gate", gate_bias_EF, gate_EFD);
  check_bias("up", up_bias_EF, up_EFD);
  check_bias("down", down_bias_ED, down_EDF);
  std::vector<Views> views_E(static_cast<std::size_t>(up_EFD.shape()[0]));
  for (std::size_t e = 0; e < views_E.size(); ++e) {
    const auto i = static_cast<Index>(e);
    if (gate_EFD.defined()) views_E[e].gate_FD = gate_EFD.matrix(i);
    views_E[e].up_FD = up_EFD.matrix(i);
    views_E[e].down_DF = down_EDF.matrix(i);
    views_E[e].gate_bias_F = row_of(gate_bias_EF, i);
    views_E[e].up_bias_F = row_of(up_bias_EF, i);
    views_E[e].down_bias_D = row_of(down_bias_ED, i);
  }
  return views_E;
}

}  // namespace

ResidentExpertStore::ResidentExpertStore(const Tensor& gate_EFD, const Tensor& up_EFD, const Tensor& down_EDF)
    : ResidentExpertStore(gate_EFD, up_EFD, down_EDF, Tensor(), Tensor(), Tensor()) {}

ResidentExpertStore::ResidentExpertStore(const Tensor& gate_EFD, const Tensor& up_EFD, const Tensor& down_EDF,
                                         const Tensor& gate_bias_EF, const Tensor& up_bias_EF,
                                         const Tensor& down_bias_ED)
    : ResidentExpertStore(
          views_of<kernels::FfnWeights>(gate_EFD, up_EFD, down_EDF, gate_bias_EF, up_bias_EF, down_bias_ED)) {}

ResidentExpertStore::ResidentExpertStore(std::vector<kernels::FfnWeights> weights_E,
                                         std::shared_ptr<const void> keep_alive)
    : weights_E_(std::move(weights_E)), keep_alive_(std::move(keep_alive)) {
  const auto bias_fits = [](std::span<const float> bias, const WeightView& matrix) {
    return bias.empty() || static_cast<Index>(bias.size()) == matrix.rows;
  };
  for (std::size_t e = 0; e < weights_E_.size(); ++e) {
    const kernels::FfnWeights &w = weights_E_[e], &first = weights_E_[0];
    for (const WeightView* part : {&w.gate_FD, &w.up_FD, &w.down_DF}) part->check();
    const Index f = w.up_FD.rows, d = first.up_FD.cols;
    const bool gate_fits =
        first.gate_FD.empty() ? w.gate_FD.empty() : w.gate_FD.rows == f && w.gate_FD.cols == w.up_FD.cols;
    require(!w.up_FD.empty() && gate_fits && w.up_FD.cols == d && w.down_DF.rows == d && w.down_DF.cols == f,
            "expert {} has gate [{}, {}], up [{}, {}], down [{}, {}], the first one up [{}, {}]", e, w.gate_FD.rows,
            w.gate_FD.cols, f, w.up_FD.cols, w.down_DF.rows, w.down_DF.cols, first.up_FD.rows, d);
    require(
        bias_fits(w.gate_bias_F, w.gate_FD) && bias_fits(w.up_bias_F, w.up_FD) && bias_fits(w.down_bias_D, w.down_DF),
        "expert {} has biases of {}, {} and {} values for gate [{}, {}], up [{}, {}], down [{}, {}]", e,
        w.gate_bias_F.size(), w.up_bias_F.size(), w.down_bias_D.size(), w.gate_FD.rows, w.gate_FD.cols, f, w.up_FD.cols,
        w.down_DF.rows, w.down_DF.cols);
  }
}

ExpertLease ResidentExpertStore::acquire(std::span<const std::int32_t>) { return {weights_E_, keep_alive_}; }

std::vector<kernels::FfnGradients> expert_gradients(Tensor& gate_EFD, Tensor& up_EFD, Tensor& down_EDF) {
  Tensor none;
  return expert_gradients(gate_EFD, up_EFD, down_EDF, none, none, none);
}

std::vector<kernels::FfnGradients> expert_gradients(Tensor& gate_EFD, Tensor& up_EFD, Tensor& down_EDF,
                                                    Tensor& gate_bias_EF, Tensor& up_bias_EF, Tensor& down_bias_ED) {
  return views_of<kernels::FfnGradients>(gate_EFD, up_EFD, down_EDF, gate_bias_EF, up_bias_EF, down_bias_ED);
}

ExpertLease acquire_all(ExpertStore& store) {
  return store.acquire(std::vector<std::int32_t>(static_cast<std::size_t>(store.experts()), 1));
}

}  // namespace switchyard::moe
