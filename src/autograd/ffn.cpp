// The feed-forward ops: one dense network, and the MoE layer.

#include <algorithm>
#include <array>
#include <deque>
#include <numeric>

#include "result.hpp"
#include "switchyard/autograd/ops.hpp"

namespace switchyard::autograd {
namespace {

bool any_wants_grad(const FfnParameters& p) {
  return wants_grad(p.gate_FD) || wants_grad(p.up_FD) || wants_grad(p.down_DF) || wants_grad(p.gate_bias_F) ||
         wants_grad(p.up_bias_F) || wants_grad(p.down_bias_D);
}

kernels::FfnWeights weights_of(const FfnParameters& p) {
  return {weight_of(p.gate_FD),     weight_of(p.up_FD),     weight_of(p.down_DF),
          values_of(p.gate_bias_F), values_of(p.up_bias_F), values_of(p.down_bias_D)};
}

// The kernels compute the gradients of all parameters of a network or of none. Where only some are frozen, theirs go to
// memory that is thrown away.
class FfnGradientTensors {
 public:
  Tensor& of(Parameter* parameter) {
    if (parameter == nullptr) return none_;
    if (parameter->wants_grad()) return parameter->ensure_grad();
    return scratch_.emplace_back(Tensor::zeros(DType::kF32, parameter->shape()));
  }
  kernels::FfnGradients views_of(const FfnParameters& p) {
    if (!any_wants_grad(p)) return {};
    return {p.gate_FD == nullptr ? Matrix() : of(p.gate_FD).matrix(),
            of(p.up_FD).matrix(),
            of(p.down_DF).matrix(),
            values_of_gradient(p.gate_bias_F),
            values_of_gradient(p.up_bias_F),
            values_of_gradient(p.down_bias_D)};
  }

 private:
  std::span<float> values_of_gradient(Parameter* parameter) {
    return parameter == nullptr ? std::span<float>() : of(parameter).f32();
  }

  Tensor none_;
  std::deque<Tensor> scratch_;
};

// Every token in one group, with weight 1.
struct OneGroup {
  explicit OneGroup(Index tokens)
      : offset{0, static_cast<std::int32_t>(tokens)},
        token(static_cast<std::size_t>(tokens)),
        weight(static_cast<std::size_t>(tokens), 1.0F) {
    std::iota(token.begin(), token.end(), 0);
  }
  kernels::GroupedRows rows() const { return {offset, token, weight}; }
  std::array<std::int32_t, 2> offset;
  std::vector<std::int32_t> token;
  std::vector<float> weight;
};

// Row e of a parameter [E, N]; empty where there is none.
std::span<const float> row_of(const Parameter* parameter, Index e) {
  if (parameter == nullptr) return {};
  const auto width = static_cast<std::size_t>(parameter->shape()[1]);
  return values_of(parameter).subspan(static_cast<std::size_t>(e) * width, width);
}

// Where the experts' weights come from when the caller has no store of its own: the stacked parameters.
std::shared_ptr<moe::ExpertStore> store_of(const MoeParameters& p) {
  if (p.store != nullptr) return {p.store, [](moe::ExpertStore*) {}};
  return make_expert_store(p);
}

moe::MoeWeights weights_of(const MoeParameters& p, moe::ExpertStore& store) {
  moe::MoeWeights weights;
  weights.router.router_ED = matrix_of(p.router_ED);
  weights.router.bias_E = values_of(p.router_bias_E);
  for (std::size_t i = 0; i < moe::kRouterParts; ++i) weights.router.parts.views[i] = matrix_of(p.router_parts[i]);
  weights.selection_bias_E = values_of(p.selection_bias_E);
  weights.experts = &store;
  weights.shared = weights_of(p.shared);
  weights.shared_gate_D = values_of(p.shared_gate_D);
  return weights;
}

}  // namespace

std::unique_ptr<moe::ExpertStore> make_expert_store(const MoeParameters& p) {
  std::vector<kernels::FfnWeights> weights_E(static_cast<std::size_t>(p.up_EFD->shape()[0]));
  for (std::size_t i = 0; i < weights_E.size(); ++i) {
    const auto e = static_cast<Index>(i);
    weights_E[i] = {p.gate_EFD == nullptr ? WeightView() : p.gate_EFD->weight(e),
                    p.up_EFD->weight(e),
                    p.down_EDF->weight(e),
                    row_of(p.gate_bias_EF, e),
                    row_of(p.up_bias_EF, e),
                    row_of(p.down_bias_ED, e)};
  }
  return std::make_unique<moe::ResidentExpertStore>(std::move(weights_E));
}

Value ffn(Tape* tape, const Value& x_TD, kernels::Activation activation, const FfnParameters& parameters) {
  const ConstMatrix x = x_TD.matrix();
  const kernels::FfnWeights weights = weights_of(parameters);
  OneGroup group(x.rows);
  Tensor y = uninitialized({x.rows, weights.down_DF.rows});
  const bool records = tape != nullptr && (x_TD.needs_grad() || any_wants_grad(parameters));
  kernels::GroupedFfnSaved saved;
  kernels::grouped_ffn_forward(activation, x, group.rows(), {&weights, 1}, y.matrix(), records ? &saved : nullptr);
  Value result(std::move(y), records);
  if (!records) return result;
  tape->record(
      [x_TD, activation, parameters, group = std::move(group), saved = std::move(saved), y_grad = result.gradient()] {
        const SharedTensor d_y = y_grad.take();
        if (d_y == nullptr) return;
        const kernels::FfnWeights w = weights_of(parameters);
        FfnGradientTensors tensors;
        const kernels::FfnGradients gradients = tensors.views_of(parameters);
        Tensor d_x = uninitialized(x_TD.tensor().shape());
        std::vector<float> d_weight(group.weight.size());
        kernels::grouped_ffn_backward(activation, x_TD.matrix(), group.rows(), {&w, 1}, saved,
                                      std::as_const(*d_y).matrix(), d_x.matrix(), d_weight,
                                      {&gradients, any_wants_grad(parameters) ? std::size_t{1} : std::size_t{0}});
        x_TD.accumulate_grad(std::move(d_x));
      });
  return result;
}

MoeResult moe_ffn(Tape* tape, const Value& x_TD, const moe::MoeConfig& config, const MoeParameters& parameters,
                  const moe::MoeCall& call, const Value* previous_logits_TR, bool next_reads_logits) {
  const FfnParameters experts{parameters.gate_EFD,     parameters.up_EFD,     parameters.down_EDF,
                              parameters.gate_bias_EF, parameters.up_bias_EF, parameters.down_bias_ED};
  moe::MoeCall with_previous = call;
  if (previous_logits_TR != nullptr) with_previous.previous_logits_TR = previous_logits_TR->matrix();
  const bool records = tape != nullptr && (x_TD.needs_grad() || wants_grad(parameters.router_ED) ||
                                           wants_grad(parameters.router_bias_E) || any_wants_grad(experts) ||
                                           any_wants_grad(parameters.shared) || wants_grad(parameters.shared_gate_D));
  const std::shared_ptr<moe::ExpertStore> store = store_of(parameters);
  Tensor y = uninitialized(x_TD.tensor().shape());
  moe::MoeSaved saved;
  const moe::RoutingLosses losses =
      moe::moe_forward(config, weights_of(parameters, *store), with_previous, x_TD.matrix(), y.matrix(),
                       records || next_reads_logits ? &saved : nullptr);
  Tensor loss = uninitialized({1});
  loss.f32()[0] = losses.total;
  Value logits;
  if (next_reads_logits) {
    Tensor copy = uninitialized(saved.logits_TR.shape());
    std::copy_n(std::as_const(saved.logits_TR).f32().data(), copy.numel(), copy.f32().data());
    logits = Value(std::move(copy), records);
  }
  MoeResult result{Value(std::move(y), records), std::move(logits), Value(std::move(loss), records)};
  const Value previous = previous_logits_TR == nullptr ? Value() : *previous_logits_TR;
  if (!records) return result;
  tape->record([x_TD, config, parameters, experts, store, saved = std::move(saved), y_grad = result.y_TD.gradient(),
                loss_grad = result.loss.gradient(), previous, logits_grad = result.logits_TR.gradient(),
                next_reads_logits]() mutable {
    SharedTensor d_y = y_grad.take();
    const SharedTensor d_loss = loss_grad.take();
    const SharedTensor d_logits = next_reads_logits ? logits_grad.take() : nullptr;
    if (d_y == nullptr && d_loss == nullptr && d_logits == nullptr) return;
    if (d_y == nullptr) d_y = std::make_shared<Tensor>(Tensor::zeros(DType::kF32, x_TD.tensor().shape()));
    FfnGradientTensors tensors;
    std::vector<kernels::FfnGradients> of_experts;
    if (any_wants_grad(experts))
      of_experts = moe::expert_gradients(tensors.of(experts.gate_FD), tensors.of(experts.up_FD),
                                         tensors.of(experts.down_DF), tensors.of(experts.gate_bias_F),
                                         tensors.of(experts.up_bias_F), tensors.of(experts.down_bias_D));
    moe::MoeGradients gradients;
    gradients.router.router_ED = gradient_matrix_of(parameters.router_ED);
    gradients.router.bias_E = gradient_of(parameters.router_bias_E);
    for (std::size_t i = 0; i < moe::kRouterParts; ++i)
      gradients.router.parts.views[i] = gradient_matrix_of(parameters.router_parts[i]);
    gradients.experts = of_experts;
    gradients.shared = tensors.views_of(parameters.shared);
    gradients.shared_gate_D = gradient_of(parameters.shared_gate_D);
    Tensor d_x = uninitialized(x_TD.tensor().shape()), d_previous;
    if (previous.defined() && previous.needs_grad()) d_previous = Tensor::zeros(DType::kF32, previous.tensor().shape());
    moe::moe_backward(config, weights_of(parameters, *store), saved, x_TD.matrix(), std::as_const(*d_y).matrix(),
                      d_loss == nullptr ? 0.0F : std::as_const(*d_loss).f32()[0], d_x.matrix(), gradients,
                      previous.defined() ? previous.matrix() : ConstMatrix(),
                      d_previous.defined() ? d_previous.matrix() : Matrix(),
                      d_logits == nullptr ? ConstMatrix() : std::as_const(*d_logits).matrix());
    if (d_previous.defined()) previous.accumulate_grad(std::move(d_previous));
    x_TD.accumulate_grad(std::move(d_x));
  });
  return result;
}

}  // namespace switchyard::autograd
