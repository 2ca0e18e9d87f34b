#include "switchyard/moe/layer.hpp"

#include <algorithm>
#include <numeric>

#include "rows.hpp"
#include "schemes.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/elementwise.hpp"
#include "switchyard/kernels/matmul.hpp"
#include "switchyard/moe/capacity.hpp"
#include "switchyard/moe/combine.hpp"
#include "switchyard/moe/losses.hpp"
#include "switchyard/moe/score.hpp"
#include "switchyard/moe/select.hpp"
#include "switchyard/moe/weights.hpp"

namespace switchyard::moe {
namespace {

Tensor matrix_of(Index rows, Index cols) { return Tensor::uninitialized(DType::kF32, {rows, cols}); }

// A vector as the weight of a linear layer with one output.
ConstMatrix as_row(std::span<const float> v) { return {v.data(), 1, static_cast<Index>(v.size())}; }

kernels::GroupedRows rows_of(const DispatchPlan& plan) {
  return {plan.offset_E1, plan.token_of_slot_S, plan.weight_of_slot_S};
}

void check(const MoeConfig& config, const MoeWeights& weights, std::span<const std::uint8_t> valid_T,
           ConstMatrix x_TD) {
  const Index experts = config.router.experts;
  require(weights.router_ED.rows == experts && weights.router_ED.cols == x_TD.cols,
          "a router of [{}, {}], expected [{}, {}]", weights.router_ED.rows, weights.router_ED.cols, experts,
          x_TD.cols);
  const auto size_or_none = [experts](bool wanted, std::size_t size) {
    return static_cast<Index>(size) == (wanted ? experts : 0);
  };
  require(size_or_none(config.router.logits_bias, weights.router_bias_E.size()),
          "a router bias of {} values for {} experts", weights.router_bias_E.size(), experts);
  require(size_or_none(config.router.selection_bias, weights.selection_bias_E.size()),
          "a selection bias of {} values for {} experts", weights.selection_bias_E.size(), experts);
  require(weights.experts != nullptr && weights.experts->experts() == experts,
          "an expert store of {} experts, expected "
          "{}",
          weights.experts == nullptr ? 0 : weights.experts->experts(), experts);
  require(config.shared.hidden == 0 || weights.shared.up_FD.rows == config.shared.hidden,
          "a shared expert of width {}, expected {}", weights.shared.up_FD.rows, config.shared.hidden);
  require(static_cast<Index>(weights.shared_gate_D.size()) == (config.shared.gated ? x_TD.cols : 0),
          "a shared expert's gate of {} values, expected {}", weights.shared_gate_D.size(),
          config.shared.gated ? x_TD.cols : 0);
  require(valid_T.empty() || static_cast<Index>(valid_T.size()) == x_TD.rows, "{} marks of validity for {} tokens",
          valid_T.size(), x_TD.rows);
}

// The rows that the shared expert works on: every token that is not padding, as one group.
struct SharedRows {
  SharedRows(std::span<const std::uint8_t> valid_T, Index tokens, const Tensor& gate_T1) {
    token_S.reserve(static_cast<std::size_t>(tokens));
    for (Index t = 0; t < tokens; ++t)
      if (is_valid(valid_T, t)) token_S.push_back(static_cast<std::int32_t>(t));
    offset[1] = static_cast<std::int32_t>(token_S.size());
    weight_S.assign(token_S.size(), 1.0F);
    if (!gate_T1.defined()) return;
    for (std::size_t s = 0; s < token_S.size(); ++s) weight_S[s] = gate_T1.f32()[static_cast<std::size_t>(token_S[s])];
  }
  kernels::GroupedRows rows() const { return {offset, token_S, weight_S}; }
  Index size() const { return static_cast<Index>(token_S.size()); }

  std::int32_t offset[2] = {0, 0};
  std::vector<std::int32_t> token_S;
  std::vector<float> weight_S;
};

// sum_TD[token_S[s]] += rows_SD[s]; no token comes twice.
void add_rows(std::span<const std::int32_t> token_S, ConstMatrix rows_SD, Matrix sum_TD) {
  parallel_for(rows_SD.rows, row_grain(rows_SD.cols), [&](Index begin, Index end) {
    for (Index s = begin; s < end; ++s) {
      const float* row = rows_SD.row(s);
      float* sum = sum_TD.row(token_S[static_cast<std::size_t>(s)]);
      for (Index d = 0; d < rows_SD.cols; ++d) sum[d] += row[d];
    }
  });
}

// Logits, scores, assignments and plan.
void route(const MoeConfig& config, const MoeWeights& weights, const MoeCall& call, ConstMatrix x_TD,
           MoeSaved& routed) {
  const RouterConfig& router = config.router;
  routed.logits_TE = matrix_of(x_TD.rows, router.experts);
  routed.scores_TE = matrix_of(x_TD.rows, router.experts);
  const Matrix logits_TE = routed.logits_TE.matrix(), scores_TE = routed.scores_TE.matrix();
  kernels::matmul_nt(x_TD, weights.router_ED, logits_TE);
  if (router.logits_bias) kernels::add_bias(logits_TE, weights.router_bias_E);
  find_score_function(router.score).forward(logits_TE, scores_TE);

  const SelectionInput input{
      .logits_TE = logits_TE,
      .scores_TE = scores_TE,
      .selection_bias_E = weights.selection_bias_E,
      .token_id_T = call.token_id_T,
      .valid_T = call.valid_T,
      .random = RandomStream(call.seed, RandomPurpose::kRouter, call.step, static_cast<std::uint32_t>(call.layer)),
      .training = call.training};
  routed.assignments = find_selection_rule(router.select).select(router, input);
  find_weight_rule(router.normalise).forward(router.scale, routed.assignments);
  if (call.training && config.capacity.factor > 0.0F) {
    const Index capacity = expert_capacity(config.capacity, router, count_valid(call.valid_T, x_TD.rows));
    find_drop_rule(config.capacity.drop).apply(capacity, routed.assignments);
  }
  routed.plan = make_dispatch_plan(routed.assignments);
}

RoutingLosses losses_of(const MoeConfig& config, const MoeCall& call, const MoeSaved& routed) {
  RoutingLosses losses;
  const LossInput input{find_score_function(config.router.score), routed.logits_TE.matrix(), routed.scores_TE.matrix(),
                        routed.assignments, call.valid_T};
  for (const RouterLoss& loss : router_losses()) {
    losses.*loss.value = loss.forward(input);
    const float coefficient = config.balance.*loss.coefficient;
    if (call.training && coefficient != 0.0F) losses.total += coefficient * losses.*loss.value;
  }
  return losses;
}

ExpertLease acquire(const MoeWeights& weights, const DispatchPlan& plan) {
  std::vector<std::int32_t> load_E(plan.offset_E1.size() - 1);
  for (std::size_t e = 0; e < load_E.size(); ++e) load_E[e] = plan.offset_E1[e + 1] - plan.offset_E1[e];
  ExpertLease lease = weights.experts->acquire(load_E);
  require(lease.weights_E.size() == load_E.size(), "a lease of {} experts, expected {}", lease.weights_E.size(),
          load_E.size());
  return lease;
}

// Leaves the gate's values in `gate_T1`.
void add_shared_expert(const MoeConfig& config, const MoeWeights& weights, std::span<const std::uint8_t> valid_T,
                       ConstMatrix x_TD, Matrix y_TD, Tensor& gate_T1, kernels::GroupedFfnSaved* saved) {
  if (config.shared.gated) {
    gate_T1 = matrix_of(x_TD.rows, 1);
    kernels::matmul_nt(x_TD, as_row(weights.shared_gate_D), gate_T1.matrix());
    sigmoid_score(gate_T1.matrix(), gate_T1.matrix());
  }
  const SharedRows shared(valid_T, x_TD.rows, gate_T1);
  if (shared.size() == 0) return;
  Tensor rows_SD = matrix_of(shared.size(), y_TD.cols);
  kernels::grouped_ffn_forward(config.expert.activation, x_TD, shared.rows(), {&weights.shared, 1}, rows_SD.matrix(),
                               saved);
  add_rows(shared.token_S, rows_SD.matrix(), y_TD);
}

void shared_expert_backward(const MoeConfig& config, const MoeWeights& weights, MoeSaved& saved, ConstMatrix x_TD,
                            ConstMatrix d_y_TD, Matrix d_x_TD, const MoeGradients& gradients) {
  const SharedRows shared(saved.valid_T, x_TD.rows, saved.shared_gate_T1);
  if (shared.size() == 0) return;
  Tensor d_x_SD = matrix_of(shared.size(), x_TD.cols);
  std::vector<float> d_gate_S(static_cast<std::size_t>(shared.size()));
  std::span<const kernels::FfnGradients> d_weights;
  if (!gradients.shared.up_FD.empty()) d_weights = {&gradients.shared, 1};
  kernels::grouped_ffn_backward(config.expert.activation, x_TD, shared.rows(), {&weights.shared, 1}, saved.shared,
                                d_y_TD, d_x_SD.matrix(), d_gate_S, d_weights);
  saved.shared = {};
  add_rows(shared.token_S, d_x_SD.matrix(), d_x_TD);
  if (!config.shared.gated) return;

  Tensor d_logit_T1 = Tensor::zeros(DType::kF32, {x_TD.rows, 1});
  for (std::size_t s = 0; s < d_gate_S.size(); ++s) {
    const float gate = shared.weight_S[s];
    d_logit_T1.f32()[static_cast<std::size_t>(shared.token_S[s])] = d_gate_S[s] * gate * (1.0F - gate);
  }
  kernels::matmul_nn(d_logit_T1.matrix(), as_row(weights.shared_gate_D), d_x_TD, kernels::Store::kAdd);
  if (!gradients.shared_gate_D.empty())
    kernels::matmul_tn(d_logit_T1.matrix(), x_TD, {gradients.shared_gate_D.data(), 1, x_TD.cols}, kernels::Store::kAdd);
}

// dL/dlogits from the gradients of the weights and of the losses.
Tensor router_backward(const MoeConfig& config, const MoeSaved& saved, std::span<const float> d_weight_S,
                       float d_losses) {
  const Assignments& list = saved.assignments;
  std::vector<float> d_weight_A(list.expert_A.size()), d_score_A(list.expert_A.size());
  for (std::size_t s = 0; s < d_weight_S.size(); ++s)
    d_weight_A[static_cast<std::size_t>(saved.plan.assignment_of_slot_S[s])] = d_weight_S[s];
  find_weight_rule(config.router.normalise).backward(config.router.scale, list, d_weight_A, d_score_A);

  Tensor d_scores = Tensor::zeros(DType::kF32, saved.scores_TE.shape());
  Tensor d_logits = Tensor::zeros(DType::kF32, saved.logits_TE.shape());
  const Matrix d_scores_TE = d_scores.matrix();
  for (Index t = 0; t < list.tokens; ++t) {
    const auto end = static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t) + 1]);
    for (auto a = static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t)]); a < end; ++a)
      d_scores_TE(t, list.expert_A[a]) += d_score_A[a];
  }

  const ScoreFunction& score = find_score_function(config.router.score);
  const LossInput input{score, saved.logits_TE.matrix(), saved.scores_TE.matrix(), list, saved.valid_T};
  for (const RouterLoss& loss : router_losses()) {
    const float coefficient = config.balance.*loss.coefficient;
    if (coefficient != 0.0F && d_losses != 0.0F)
      loss.backward(input, d_losses * coefficient, d_scores_TE, d_logits.matrix());
  }
  score.backward(input.logits_TE, input.scores_TE, d_scores_TE, d_logits.matrix());
  return d_logits;
}

}  // namespace

RoutingLosses moe_forward(const MoeConfig& config, const MoeWeights& weights, const MoeCall& call, ConstMatrix x_TD,
                          Matrix y_TD, MoeSaved* saved) {
  check(config, weights, call.valid_T, x_TD);
  require(y_TD.rows == x_TD.rows && y_TD.cols == x_TD.cols, "y of [{}, {}] for x of [{}, {}]", y_TD.rows, y_TD.cols,
          x_TD.rows, x_TD.cols);
  MoeSaved not_kept;
  MoeSaved& routed = saved != nullptr ? *saved : not_kept;
  routed = MoeSaved{};
  route(config, weights, call, x_TD, routed);

  RoutingLosses losses;
  if (call.training || call.observer != nullptr) losses = losses_of(config, call, routed);
  if (call.observer != nullptr)
    call.observer->on_routing({.layer = call.layer,
                               .config = config,
                               .logits_TE = routed.logits_TE.matrix(),
                               .scores_TE = routed.scores_TE.matrix(),
                               .assignments = routed.assignments,
                               .plan = routed.plan,
                               .token_id_T = call.token_id_T,
                               .valid_T = call.valid_T,
                               .losses = losses,
                               .training = call.training});

  Tensor y_SD = matrix_of(routed.plan.slots(), y_TD.cols);
  if (routed.plan.slots() > 0) {
    const ExpertLease lease = acquire(weights, routed.plan);
    kernels::grouped_ffn_forward(config.expert.activation, x_TD, rows_of(routed.plan), lease.weights_E, y_SD.matrix(),
                                 saved != nullptr ? &saved->experts : nullptr);
  }
  combine(routed.assignments, routed.plan, y_SD.matrix(), y_TD);
  if (config.shared.hidden > 0)
    add_shared_expert(config, weights, call.valid_T, x_TD, y_TD, routed.shared_gate_T1,
                      saved != nullptr ? &saved->shared : nullptr);
  if (saved != nullptr) saved->valid_T.assign(call.valid_T.begin(), call.valid_T.end());
  return losses;
}

void moe_backward(const MoeConfig& config, const MoeWeights& weights, MoeSaved& saved, ConstMatrix x_TD,
                  ConstMatrix d_y_TD, float d_losses, Matrix d_x_TD, const MoeGradients& gradients) {
  check(config, weights, saved.valid_T, x_TD);
  require(saved.logits_TE.defined() && saved.assignments.tokens == x_TD.rows,
          "the backward of {} tokens after the forward of {}", x_TD.rows, saved.assignments.tokens);
  require(d_y_TD.rows == x_TD.rows && d_y_TD.cols == x_TD.cols && d_x_TD.rows == x_TD.rows && d_x_TD.cols == x_TD.cols,
          "dy of [{}, {}] and dx of [{}, {}] for x of [{}, {}]", d_y_TD.rows, d_y_TD.cols, d_x_TD.rows, d_x_TD.cols,
          x_TD.rows, x_TD.cols);

  Tensor d_x_SD = matrix_of(saved.plan.slots(), x_TD.cols);
  std::vector<float> d_weight_S(static_cast<std::size_t>(saved.plan.slots()));
  if (saved.plan.slots() > 0) {
    const ExpertLease lease = acquire(weights, saved.plan);
    kernels::grouped_ffn_backward(config.expert.activation, x_TD, rows_of(saved.plan), lease.weights_E, saved.experts,
                                  d_y_TD, d_x_SD.matrix(), d_weight_S, gradients.experts);
  }
  saved.experts = {};
  combine(saved.assignments, saved.plan, d_x_SD.matrix(), d_x_TD);
  d_x_SD = {};

  const Tensor d_logits = router_backward(config, saved, d_weight_S, d_losses);
  kernels::matmul_nn(d_logits.matrix(), weights.router_ED, d_x_TD, kernels::Store::kAdd);
  if (!gradients.router_ED.empty())
    kernels::matmul_tn(d_logits.matrix(), x_TD, gradients.router_ED, kernels::Store::kAdd);
  if (!gradients.router_bias_E.empty()) kernels::add_bias_backward(d_logits.matrix(), gradients.router_bias_E);

  if (config.shared.hidden > 0) shared_expert_backward(config, weights, saved, x_TD, d_y_TD, d_x_TD, gradients);
  saved = MoeSaved{};
}

}  // namespace switchyard::moe
