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
#include "switchyard/moe/dense_gradient.hpp"
#include "switchyard/moe/losses.hpp"
#include "switchyard/moe/noise.hpp"
#include "switchyard/moe/score.hpp"
#include "switchyard/moe/select.hpp"
#include "switchyard/moe/soft.hpp"
#include "switchyard/moe/special_experts.hpp"
#include "switchyard/moe/weights.hpp"

namespace switchyard::moe {
namespace {

// A vector as the weight of a linear layer with one output.
ConstMatrix as_row(std::span<const float> v) { return {v.data(), 1, static_cast<Index>(v.size())}; }

kernels::GroupedRows rows_of(const DispatchPlan& plan) {
  return {plan.offset_E1, plan.token_of_slot_S, plan.weight_of_slot_S};
}

// Slots of the experts that have matrices, which come first.
kernels::GroupedRows expert_rows(const RouterConfig& router, const DispatchPlan& plan) {
  const auto experts = static_cast<std::size_t>(router.experts);
  const auto slots = static_cast<std::size_t>(plan.offset_E1[experts]);
  const kernels::GroupedRows all = rows_of(plan);
  return {all.offset_E1.first(experts + 1), all.token_of_slot_S.first(slots), all.weight_of_slot_S.first(slots)};
}

void check(const MoeConfig& config, const MoeWeights& weights, std::span<const std::uint8_t> valid_T,
           ConstMatrix x_TD) {
  const Index experts = config.router.experts, logits = logits_of(config.router);
  const ConstMatrix router = weights.router.router_ED;
  require(router.rows == logits && router.cols == router_width(config.router, x_TD.cols),
          "a router of [{}, {}], expected [{}, {}]", router.rows, router.cols, logits,
          router_width(config.router, x_TD.cols));
  for (const RouterPartShape& part : router_parts(config.router, x_TD.cols)) {
    const ConstMatrix found = weights.router.parts[part.part];
    require(found.rows == part.rows && found.cols == part.cols, "{} of [{}, {}], expected [{}, {}]", part.name,
            found.rows, found.cols, part.rows, part.cols);
  }
  const auto size_or_none = [](bool wanted, Index size, std::size_t found) {
    return static_cast<Index>(found) == (wanted ? size : 0);
  };
  require(size_or_none(config.router.logits_bias, logits, weights.router.bias_E.size()),
          "a router bias of {} values for {} logits", weights.router.bias_E.size(), logits);
  require(size_or_none(config.router.selection_bias, config.router.choices(), weights.selection_bias_E.size()),
          "a selection bias of {} values for {} experts", weights.selection_bias_E.size(), config.router.choices());
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
  // A token's weight is its gate, plus what overflow sent here instead of to a routed expert.
  SharedRows(std::span<const std::uint8_t> valid_T, Index tokens, const Tensor& gate_T1,
             std::span<const float> fallback_T) {
    token_S.reserve(static_cast<std::size_t>(tokens));
    for (Index t = 0; t < tokens; ++t)
      if (is_valid(valid_T, t)) token_S.push_back(static_cast<std::int32_t>(t));
    offset[1] = static_cast<std::int32_t>(token_S.size());
    weight_S.assign(token_S.size(), 1.0F);
    for (std::size_t s = 0; s < token_S.size(); ++s) {
      const auto t = static_cast<std::size_t>(token_S[s]);
      if (gate_T1.defined()) weight_S[s] = gate_T1.f32()[t];
      if (!fallback_T.empty()) weight_S[s] += fallback_T[t];
    }
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

RandomStream random_of(const MoeCall& call, RandomPurpose purpose) {
  return {call.seed, purpose, call.step, static_cast<std::uint32_t>(call.layer)};
}

// x times U(1 - jitter, 1 + jitter); undefined where there is no jitter of that kind. Its backward is the same
// multiplication of the gradient.
Tensor jittered(const RouterConfig& router, const MoeCall& call, std::string_view on, ConstMatrix x_TD) {
  if (!call.training || router.jitter == 0.0F || router.jitter_on != on) return {};
  Tensor out = matrix_of(x_TD.rows, x_TD.cols);
  const Matrix out_TD = out.matrix();
  const RandomStream random = random_of(call, RandomPurpose::kRouterJitter);
  parallel_for(x_TD.rows, row_grain(8 * x_TD.cols), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t)
      for (Index d = 0; d < x_TD.cols; ++d) {
        const float u = 2.0F * random.uniform(static_cast<std::uint64_t>(t * x_TD.cols + d)) - 1.0F;
        out_TD(t, d) = x_TD(t, d) * (1.0F + router.jitter * u);
      }
  });
  return out;
}

ConstMatrix view_or(const Tensor& tensor, ConstMatrix otherwise) {
  return tensor.defined() ? tensor.matrix() : otherwise;
}

// During uniform warm-up the rows of tokens that are still routed at random: their choice is noise alone.
void mix_in_uniform(const RouterConfig& router, const MoeCall& call, Matrix choice_TE) {
  const float share = 1.0F - static_cast<float>(call.step) / static_cast<float>(router.uniform_warmup);
  const RandomStream random = random_of(call, RandomPurpose::kRouterWarmup);
  const auto row = static_cast<std::uint64_t>(choice_TE.cols) + 1;
  parallel_for(choice_TE.rows, row_grain(8 * choice_TE.cols), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      const std::uint64_t first = static_cast<std::uint64_t>(t) * row;
      if (random.uniform(first) >= share) continue;
      for (Index e = 0; e < choice_TE.cols; ++e)
        choice_TE(t, e) = random.uniform(first + 1 + static_cast<std::uint64_t>(e));
    }
  });
}

bool warming_up(const RouterConfig& router, const MoeCall& call) {
  return call.training && static_cast<Index>(call.step) < router.uniform_warmup;
}

// What experts are chosen by, where that is not the scores: with noise that weights do not see, or during warm-up.
Tensor choice_of(const RouterConfig& router, const MoeWeights& weights, const MoeCall& call, ConstMatrix router_x_TD,
                 const MoeSaved& routed) {
  const bool noisy = call.training && router.noise != "none" && router.noise_on == "selection";
  if (!noisy && !warming_up(router, call)) return {};
  const ConstMatrix scores_TE = std::as_const(routed.scores_TE).matrix();
  Tensor choice = matrix_of(scores_TE.rows, scores_TE.cols);
  if (noisy) {
    const ConstMatrix logits_TR = std::as_const(routed.logits_TR).matrix();
    Tensor with_noise = matrix_of(logits_TR.rows, logits_TR.cols), std = matrix_of(logits_TR.rows, logits_TR.cols);
    find_noise_rule(router.noise)
        .forward(router, weights.router, router_x_TD, random_of(call, RandomPurpose::kRouterNoise), logits_TR,
                 with_noise.matrix(), std.matrix());
    find_score_function(router.score).forward(router, with_noise.matrix(), choice.matrix());
  } else {
    std::copy_n(routed.scores_TE.f32().data(), routed.scores_TE.numel(), choice.f32().data());
  }
  if (warming_up(router, call)) mix_in_uniform(router, call, choice.matrix());
  return choice;
}

SelectionInput selection_input(const MoeWeights& weights, const MoeCall& call, const MoeSaved& routed,
                               ConstMatrix choice_TE) {
  return {.logits_TR = routed.logits_TR.matrix(),
          .scores_TE = routed.scores_TE.matrix(),
          .choice_TE = choice_TE,
          .selection_bias_E = weights.selection_bias_E,
          .token_id_T = call.token_id_T,
          .valid_T = call.valid_T,
          .random = random_of(call, RandomPurpose::kRouter),
          .training = call.training,
          .sequence = call.sequence,
          .replayed = call.replayed};
}

// Logits, scores, assignments and plan.
void route(const MoeConfig& config, const MoeWeights& weights, const MoeCall& call, ConstMatrix x_TD,
           MoeSaved& routed) {
  const RouterConfig& router = config.router;
  const Index tokens = x_TD.rows, logits = logits_of(router);
  const Tensor jitter = jittered(router, call, "router", x_TD);
  const ConstMatrix router_x_TD = view_or(jitter, x_TD);
  routed.logits_TR = matrix_of(tokens, logits);
  routed.scores_TE = matrix_of(tokens, router.choices());
  router_logits(router, weights.router, router_x_TD, call.previous_logits_TR, routed.logits_TR.matrix());
  if (call.training && router.noise != "none" && router.noise_on == "scores") {
    routed.clean_logits_TR = std::move(routed.logits_TR);
    routed.logits_TR = matrix_of(tokens, logits);
    routed.noise_std_TR = matrix_of(tokens, logits);
    find_noise_rule(router.noise)
        .forward(router, weights.router, router_x_TD, random_of(call, RandomPurpose::kRouterNoise),
                 std::as_const(routed.clean_logits_TR).matrix(), routed.logits_TR.matrix(),
                 routed.noise_std_TR.matrix());
  }
  find_score_function(router.score)
      .forward(router, std::as_const(routed.logits_TR).matrix(), routed.scores_TE.matrix());

  const Tensor choice = choice_of(router, weights, call, router_x_TD, routed);
  const ConstMatrix scores_TE = std::as_const(routed.scores_TE).matrix();
  routed.assignments = find_selection_rule(router.select)
                           .select(router, selection_input(weights, call, routed, view_or(choice, scores_TE)));
  find_weight_rule(router.normalise).forward(router, routed.assignments);
  apply_capacity({.config = config,
                  .scores_TE = scores_TE,
                  .valid_T = call.valid_T,
                  .sequence = call.sequence,
                  .training = call.training,
                  .random = random_of(call, RandomPurpose::kCapacity)},
                 routed.assignments);
  routed.plan = make_dispatch_plan(routed.assignments);
}

LossInput loss_input(const MoeConfig& config, const MoeSaved& routed, std::span<const std::uint8_t> valid_T,
                     std::span<const Index> load_before_E, Index sequence) {
  LossInput input{.config = config,
                  .logits_TR = routed.logits_TR.matrix(),
                  .scores_TE = routed.scores_TE.matrix(),
                  .assignments = routed.assignments,
                  .valid_T = valid_T,
                  .sequence = sequence,
                  .load_before_E = load_before_E,
                  .clean_logits_TR = {},
                  .noise_std_TR = {}};
  if (routed.clean_logits_TR.defined()) {
    input.clean_logits_TR = routed.clean_logits_TR.matrix();
    input.noise_std_TR = routed.noise_std_TR.matrix();
  }
  return input;
}

RoutingLosses losses_of(const MoeConfig& config, const MoeCall& call, const MoeSaved& routed) {
  RoutingLosses losses;
  const LossInput input = loss_input(config, routed, call.valid_T, call.load_before_E, call.sequence);
  for (const RouterLoss& loss : router_losses()) {
    const float coefficient = config.balance.*loss.coefficient;
    if (!loss.always && coefficient == 0.0F) continue;
    losses.*loss.value = loss.forward(input);
    if (call.training && coefficient != 0.0F) losses.total += coefficient * losses.*loss.value;
  }
  return losses;
}

ExpertLease acquire(const MoeWeights& weights, const DispatchPlan& plan) {
  std::vector<std::int32_t> load_E(static_cast<std::size_t>(weights.experts->experts()));
  for (std::size_t e = 0; e < load_E.size(); ++e) load_E[e] = plan.offset_E1[e + 1] - plan.offset_E1[e];
  ExpertLease lease = weights.experts->acquire(load_E);
  require(lease.weights_E.size() == load_E.size(), "a lease of {} experts, expected {}", lease.weights_E.size(),
          load_E.size());
  return lease;
}

// Leaves the gate's values in `gate_T1`.
void add_shared_expert(const MoeConfig& config, const MoeWeights& weights, std::span<const std::uint8_t> valid_T,
                       ConstMatrix x_TD, std::span<const float> fallback_T, Matrix y_TD, Tensor& gate_T1,
                       kernels::GroupedFfnSaved* saved) {
  if (config.shared.gated) {
    gate_T1 = matrix_of(x_TD.rows, 1);
    kernels::matmul_nt(x_TD, as_row(weights.shared_gate_D), gate_T1.matrix());
    sigmoid_score(config.router, std::as_const(gate_T1).matrix(), gate_T1.matrix());
  }
  const SharedRows shared(valid_T, x_TD.rows, gate_T1, fallback_T);
  if (shared.size() == 0) return;
  Tensor rows_SD = matrix_of(shared.size(), y_TD.cols);
  kernels::grouped_ffn_forward(config.expert.activation, x_TD, shared.rows(), {&weights.shared, 1}, rows_SD.matrix(),
                               saved);
  add_rows(shared.token_S, rows_SD.matrix(), y_TD);
}

// Leaves dL/d(weight) of what overflow sent here in d_fallback_T, where there is any.
void shared_expert_backward(const MoeConfig& config, const MoeWeights& weights, MoeSaved& saved, ConstMatrix x_TD,
                            ConstMatrix d_y_TD, Matrix d_x_TD, const MoeGradients& gradients,
                            std::vector<float>& d_fallback_T) {
  const std::span<const float> fallback_T = saved.assignments.fallback_T;
  const SharedRows shared(saved.valid_T, x_TD.rows, saved.shared_gate_T1, fallback_T);
  if (shared.size() == 0) return;
  Tensor d_x_SD = matrix_of(shared.size(), x_TD.cols);
  std::vector<float> d_gate_S(static_cast<std::size_t>(shared.size()));
  std::span<const kernels::FfnGradients> d_weights;
  if (!gradients.shared.up_FD.empty()) d_weights = {&gradients.shared, 1};
  kernels::grouped_ffn_backward(config.expert.activation, x_TD, shared.rows(), {&weights.shared, 1}, saved.shared,
                                d_y_TD, d_x_SD.matrix(), d_gate_S, d_weights);
  saved.shared = {};
  add_rows(shared.token_S, d_x_SD.matrix(), d_x_TD);
  if (!fallback_T.empty()) {
    d_fallback_T.assign(fallback_T.size(), 0.0F);
    for (std::size_t s = 0; s < d_gate_S.size(); ++s)
      d_fallback_T[static_cast<std::size_t>(shared.token_S[s])] = d_gate_S[s];
  }
  if (!config.shared.gated) return;

  Tensor d_logit_T1 = Tensor::zeros(DType::kF32, {x_TD.rows, 1});
  for (std::size_t s = 0; s < d_gate_S.size(); ++s) {
    const float gate = saved.shared_gate_T1.f32()[static_cast<std::size_t>(shared.token_S[s])];
    d_logit_T1.f32()[static_cast<std::size_t>(shared.token_S[s])] = d_gate_S[s] * gate * (1.0F - gate);
  }
  kernels::matmul_nn(d_logit_T1.matrix(), as_row(weights.shared_gate_D), d_x_TD, kernels::Store::kAdd);
  if (!gradients.shared_gate_D.empty())
    kernels::matmul_tn(d_logit_T1.matrix(), x_TD, {gradients.shared_gate_D.data(), 1, x_TD.cols}, kernels::Store::kAdd);
}

// From the gradients of the weights and of the losses to the router's weights and its input.
void router_backward(const MoeConfig& config, const MoeWeights& weights, const MoeSaved& saved, ConstMatrix x_TD,
                     ConstMatrix d_y_TD, std::span<const float> d_weight_S, std::span<const float> d_fallback_T,
                     float d_losses, ConstMatrix d_later_TR, Matrix d_x_TD, const RouterGradients& gradients,
                     ConstMatrix previous_logits_TR, Matrix d_previous_TR) {
  const RouterConfig& router = config.router;
  const Assignments& list = saved.assignments;
  std::vector<float> d_weight_A(list.expert_A.size()), d_score_A(list.expert_A.size());
  for (std::size_t s = 0; s < d_weight_S.size(); ++s)
    d_weight_A[static_cast<std::size_t>(saved.plan.assignment_of_slot_S[s])] = d_weight_S[s];
  apply_capacity_backward(list, d_fallback_T, d_weight_A);
  if (!router.dense_gradient) find_weight_rule(router.normalise).backward(router, list, d_weight_A, d_score_A);

  Tensor d_scores = Tensor::zeros(DType::kF32, saved.scores_TE.shape());
  Tensor d_logits = Tensor::zeros(DType::kF32, saved.logits_TR.shape());
  Tensor d_std;
  LossGradients to{d_scores.matrix(), d_logits.matrix(), {}, d_score_A};
  const bool noisy = saved.noise_std_TR.defined();
  if (noisy) {
    d_std = Tensor::zeros(DType::kF32, saved.logits_TR.shape());
    to.noise_std_TR = d_std.matrix();
  }
  MoeCall call = saved.call;
  call.valid_T = saved.valid_T;
  const LossInput input = loss_input(config, saved, saved.valid_T, saved.load_before_E, call.sequence);
  for (const RouterLoss& loss : router_losses()) {
    const float coefficient = config.balance.*loss.coefficient;
    if (coefficient != 0.0F && d_losses != 0.0F) loss.backward(input, d_losses * coefficient, to);
  }
  // What was dropped had no part in weights that were made after dropping.
  if (config.capacity.renormalise)
    for (std::size_t a = 0; a < d_score_A.size(); ++a)
      if (list.dropped_A[a] != 0) d_score_A[a] = 0.0F;
  const SelectionRule& rule = find_selection_rule(router.select);
  if (router.dense_gradient) {
    const ExpertLease lease = acquire_all(*weights.experts);
    Tensor dense = Tensor::zeros(DType::kF32, saved.scores_TE.shape());
    dense_score_gradient(config, lease.weights_E, x_TD, d_y_TD, saved.valid_T, dense.matrix());
    for (Index t = 0; t < list.tokens; ++t)
      for (Index e = 0; e < to.scores_TE.cols; ++e) to.scores_TE(t, e) += dense.matrix()(t, e);
  }
  if (rule.backward != nullptr) {
    rule.backward(router, selection_input(weights, call, saved, saved.scores_TE.matrix()), list, d_score_A,
                  to.logits_TR);
  } else {
    for (Index t = 0; t < list.tokens; ++t) {
      const auto end = static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t) + 1]);
      for (auto a = static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t)]); a < end; ++a)
        to.scores_TE(t, list.expert_A[a]) += d_score_A[a];
    }
  }

  find_score_function(router.score)
      .backward(router, input.logits_TR, input.scores_TE, std::as_const(d_scores).matrix(), to.logits_TR);

  const Tensor jitter = jittered(router, call, "router", x_TD);
  const ConstMatrix router_x_TD = view_or(jitter, x_TD);
  Tensor d_router_x;
  Matrix d_router_x_TD = d_x_TD;
  if (jitter.defined()) {
    d_router_x = Tensor::zeros(DType::kF32, {x_TD.rows, x_TD.cols});
    d_router_x_TD = d_router_x.matrix();
  }
  const NoiseRule& noise = find_noise_rule(router.noise);
  if (noisy && noise.backward != nullptr)
    noise.backward(router, weights.router, router_x_TD, random_of(call, RandomPurpose::kRouterNoise),
                   std::as_const(d_logits).matrix(), std::as_const(d_std).matrix(), d_router_x_TD, gradients);
  if (!d_later_TR.empty())
    for (Index t = 0; t < d_later_TR.rows; ++t)
      for (Index e = 0; e < d_later_TR.cols; ++e) to.logits_TR(t, e) += d_later_TR(t, e);
  router_logits_backward(router, weights.router, router_x_TD, previous_logits_TR, std::as_const(d_logits).matrix(),
                         d_router_x_TD, d_previous_TR, gradients);
  if (!jitter.defined()) return;
  const Tensor scaled = jittered(router, call, "router", std::as_const(d_router_x).matrix());
  for (Index t = 0; t < x_TD.rows; ++t)
    for (Index d = 0; d < x_TD.cols; ++d) d_x_TD(t, d) += scaled.matrix()(t, d);
}

// The part of the routed experts. Memory for their backward is filled only where it will run.
RoutingLosses routed_forward(const MoeConfig& config, const MoeWeights& weights, const MoeCall& call, ConstMatrix x_TD,
                             Matrix y_TD, MoeSaved& routed, bool keep) {
  route(config, weights, call, x_TD, routed);

  RoutingLosses losses;
  if (call.training || call.observer != nullptr) losses = losses_of(config, call, routed);
  if (call.observer != nullptr)
    call.observer->on_routing({.layer = call.layer,
                               .config = config,
                               .logits_TE = routed.logits_TR.matrix(),
                               .scores_TE = routed.scores_TE.matrix(),
                               .assignments = routed.assignments,
                               .plan = routed.plan,
                               .token_id_T = call.token_id_T,
                               .valid_T = call.valid_T,
                               .losses = losses,
                               .training = call.training,
                               .selection_bias_E = weights.selection_bias_E});

  Tensor y_SD = matrix_of(routed.plan.slots(), y_TD.cols);
  const kernels::GroupedRows rows = expert_rows(config.router, routed.plan);
  const Index slots = rows.offset_E1.back();
  if (slots > 0) {
    const ExpertLease lease = acquire(weights, routed.plan);
    kernels::grouped_ffn_forward(config.expert.activation, x_TD, rows, lease.weights_E,
                                 y_SD.matrix().slice_rows(0, slots), keep ? &routed.experts : nullptr);
  }
  special_experts_forward(config.router, weights.router, routed.plan, x_TD, y_SD.matrix());
  combine(routed.assignments, routed.plan, y_SD.matrix(), y_TD);
  return losses;
}

// The routed experts' part of d_x_TD, which it overwrites, and of the gradients. Returns dL/d(weight) by slot.
std::vector<float> routed_backward(const MoeConfig& config, const MoeWeights& weights, const MoeSaved& saved,
                                   ConstMatrix x_TD, ConstMatrix d_y_TD, Matrix d_x_TD, const MoeGradients& gradients) {
  Tensor d_x_SD = matrix_of(saved.plan.slots(), x_TD.cols);
  std::vector<float> d_weight_S(static_cast<std::size_t>(saved.plan.slots()));
  const kernels::GroupedRows rows = expert_rows(config.router, saved.plan);
  const Index slots = rows.offset_E1.back();
  if (slots > 0) {
    const ExpertLease lease = acquire(weights, saved.plan);
    kernels::grouped_ffn_backward(config.expert.activation, x_TD, rows, lease.weights_E, saved.experts, d_y_TD,
                                  d_x_SD.matrix().slice_rows(0, slots),
                                  std::span(d_weight_S).first(static_cast<std::size_t>(slots)), gradients.experts);
  }
  special_experts_backward(config.router, weights.router, saved.plan, x_TD, d_y_TD, d_x_SD.matrix(), d_weight_S,
                           gradients.router);
  combine(saved.assignments, saved.plan, d_x_SD.matrix(), d_x_TD);
  return d_weight_S;
}

}  // namespace

RoutingLosses moe_forward(const MoeConfig& config, const MoeWeights& weights, const MoeCall& call, ConstMatrix x_TD,
                          Matrix y_TD, MoeSaved* saved) {
  check(config, weights, call.valid_T, x_TD);
  const Tensor layer_jitter = jittered(config.router, call, "layer", x_TD);
  x_TD = view_or(layer_jitter, x_TD);
  require(y_TD.rows == x_TD.rows && y_TD.cols == x_TD.cols, "y of [{}, {}] for x of [{}, {}]", y_TD.rows, y_TD.cols,
          x_TD.rows, x_TD.cols);
  MoeSaved not_kept;
  MoeSaved& routed = saved != nullptr ? *saved : not_kept;
  routed = MoeSaved{};
  const RoutingLosses losses = find_selection_rule(config.router.select).mixes
                                   ? soft_forward(config, weights, call, x_TD, y_TD, saved)
                                   : routed_forward(config, weights, call, x_TD, y_TD, routed, saved != nullptr);
  if (config.shared.hidden > 0)
    add_shared_expert(config, weights, call.valid_T, x_TD, routed.assignments.fallback_T, y_TD, routed.shared_gate_T1,
                      saved != nullptr ? &saved->shared : nullptr);
  if (saved != nullptr) {
    saved->valid_T.assign(call.valid_T.begin(), call.valid_T.end());
    saved->load_before_E.assign(call.load_before_E.begin(), call.load_before_E.end());
    saved->call = call;
    saved->call.token_id_T = {};
    saved->call.valid_T = {};
    saved->call.previous_logits_TR = {};
    saved->call.load_before_E = {};
    saved->call.replayed = nullptr;
    saved->call.observer = nullptr;
  }
  return losses;
}

void moe_backward(const MoeConfig& config, const MoeWeights& weights, MoeSaved& saved, ConstMatrix x_TD,
                  ConstMatrix d_y_TD, float d_losses, Matrix d_x_TD, const MoeGradients& gradients,
                  ConstMatrix previous_logits_TR, Matrix d_previous_logits_TR, ConstMatrix d_logits_TR) {
  check(config, weights, saved.valid_T, x_TD);
  const Tensor layer_jitter = jittered(config.router, saved.call, "layer", x_TD);
  x_TD = view_or(layer_jitter, x_TD);
  require(saved.logits_TR.defined() && saved.assignments.tokens == x_TD.rows,
          "the backward of {} tokens after the forward of {}", x_TD.rows, saved.assignments.tokens);
  require(d_y_TD.rows == x_TD.rows && d_y_TD.cols == x_TD.cols && d_x_TD.rows == x_TD.rows && d_x_TD.cols == x_TD.cols,
          "dy of [{}, {}] and dx of [{}, {}] for x of [{}, {}]", d_y_TD.rows, d_y_TD.cols, d_x_TD.rows, d_x_TD.cols,
          x_TD.rows, x_TD.cols);

  const bool mixes = find_selection_rule(config.router.select).mixes;
  std::vector<float> d_weight_S;
  if (mixes)
    soft_backward(config, weights, saved, x_TD, d_y_TD, d_x_TD, gradients);
  else
    d_weight_S = routed_backward(config, weights, saved, x_TD, d_y_TD, d_x_TD, gradients);
  saved.experts = {};

  std::vector<float> d_fallback_T;
  if (config.shared.hidden > 0)
    shared_expert_backward(config, weights, saved, x_TD, d_y_TD, d_x_TD, gradients, d_fallback_T);
  if (!mixes)
    router_backward(config, weights, saved, x_TD, d_y_TD, d_weight_S, d_fallback_T, d_losses, d_logits_TR, d_x_TD,
                    gradients.router, previous_logits_TR, d_previous_logits_TR);
  if (layer_jitter.defined()) {
    const Tensor scaled = jittered(config.router, saved.call, "layer", d_x_TD);
    for (Index t = 0; t < d_x_TD.rows; ++t) std::copy_n(scaled.matrix().row(t), d_x_TD.cols, d_x_TD.row(t));
  }
  saved = MoeSaved{};
}

}  // namespace switchyard::moe
