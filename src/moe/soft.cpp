#include "switchyard/moe/soft.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "rows.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/kernels/elementwise.hpp"
#include "switchyard/kernels/matmul.hpp"
#include "switchyard/moe/select.hpp"
#include "unit_rows.hpp"

namespace switchyard::moe {
namespace {

constexpr double kLengthEpsilon = 1e-6;

// Which rows belong together. Slots of all sequences are stored expert by expert, so that the grouped kernel can take
// them as they are: row (expert * sequences + sequence) * slots an expert + slot.
struct Layout {
  Layout(const RouterConfig& router, Index tokens, Index tokens_a_sequence)
      : slots(router.slots),
        experts(router.experts),
        length(tokens_a_sequence > 0 ? tokens_a_sequence : std::max<Index>(tokens, 1)),
        sequences(ceil_div(tokens, length)),
        offset_E1(static_cast<std::size_t>(experts) + 1),
        row_of_slot(static_cast<std::size_t>(experts * sequences * slots)),
        weight_of_slot(row_of_slot.size(), 1.0F) {
    for (std::size_t e = 0; e < offset_E1.size(); ++e)
      offset_E1[e] = static_cast<std::int32_t>(static_cast<Index>(e) * sequences * slots);
    std::iota(row_of_slot.begin(), row_of_slot.end(), 0);
  }
  Index columns() const { return experts * slots; }
  Index rows() const { return static_cast<Index>(row_of_slot.size()); }
  Index row(Index sequence, Index column) const {
    return (column / slots * sequences + sequence) * slots + column % slots;
  }
  Index begin(Index sequence) const { return sequence * length; }
  Index end(Index sequence, Index tokens) const { return std::min(tokens, (sequence + 1) * length); }
  kernels::GroupedRows grouped() const { return {offset_E1, row_of_slot, weight_of_slot}; }

  Index slots, experts, length, sequences;
  std::vector<std::int32_t> offset_E1, row_of_slot;
  std::vector<float> weight_of_slot;
};

// One sequence's slots in order of columns, [S, D], out of all rows and back.
Tensor gather(const Layout& layout, Index sequence, ConstMatrix rows) {
  Tensor part = matrix_of(layout.columns(), rows.cols);
  for (Index s = 0; s < layout.columns(); ++s)
    std::copy_n(rows.row(layout.row(sequence, s)), rows.cols, part.matrix().row(s));
  return part;
}
void scatter(const Layout& layout, Index sequence, ConstMatrix part, Matrix rows) {
  for (Index s = 0; s < layout.columns(); ++s) std::copy_n(part.row(s), part.cols, rows.row(layout.row(sequence, s)));
}

// Softmax of each column over the valid tokens of a sequence; 0 for padding.
void softmax_columns(ConstMatrix logits_TS, std::span<const std::uint8_t> valid_T, Index begin, Index end,
                     Matrix dispatch_TS) {
  for (Index s = 0; s < logits_TS.cols; ++s) {
    float most = -std::numeric_limits<float>::infinity(), sum = 0.0F;
    for (Index t = begin; t < end; ++t)
      if (is_valid(valid_T, t)) most = std::max(most, logits_TS(t, s));
    for (Index t = begin; t < end; ++t) {
      const float value = is_valid(valid_T, t) ? std::exp(logits_TS(t, s) - most) : 0.0F;
      dispatch_TS(t, s) = value;
      sum += value;
    }
    if (sum == 0.0F) continue;  // nothing but padding
    for (Index t = begin; t < end; ++t) dispatch_TS(t, s) /= sum;
  }
}

float scale_of(const MoeWeights& weights) { return std::exp(weights.router.parts[RouterPart::kSlotScale](0, 0)); }

Matrix rows_of(Tensor& tensor, Index begin, Index end) { return tensor.matrix().slice_rows(begin, end - begin); }
ConstMatrix rows_of(const Tensor& tensor, Index begin, Index end) {
  return tensor.matrix().slice_rows(begin, end - begin);
}

// Every token with every expert, for observers.
void describe(const RouterConfig& router, std::span<const std::uint8_t> valid_T, MoeSaved& saved) {
  const ConstMatrix combine_TS = std::as_const(saved.soft_combine_TS).matrix();
  const Matrix scores_TE = saved.scores_TE.matrix();
  Assignments& list = saved.assignments;
  list = k_assignments(router.experts, combine_TS.rows, router.experts, valid_T);
  for (Index t = 0; t < combine_TS.rows; ++t)
    for (Index e = 0; e < router.experts; ++e) {
      float score = 0.0F;
      for (Index p = 0; p < router.slots; ++p) score += combine_TS(t, e * router.slots + p);
      scores_TE(t, e) = score;
      if (!is_valid(valid_T, t)) continue;
      const auto a = static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t)] + e);
      list.expert_A[a] = static_cast<std::int32_t>(e);
      list.score_A[a] = list.weight_A[a] = score;
    }
  saved.plan = make_dispatch_plan(list);
}

}  // namespace

RoutingLosses soft_forward(const MoeConfig& config, const MoeWeights& weights, const MoeCall& call, ConstMatrix x_TD,
                           Matrix y_TD, MoeSaved* kept) {
  MoeSaved not_kept;
  MoeSaved& saved = kept != nullptr ? *kept : not_kept;
  const Index tokens = x_TD.rows, width = x_TD.cols;
  const Layout layout(config.router, tokens, call.sequence);
  const UnitRows x(x_TD, kLengthEpsilon), phi(weights.router.router_ED, kLengthEpsilon);
  saved.logits_TR = matrix_of(tokens, layout.columns());
  saved.soft_dispatch_TS = matrix_of(tokens, layout.columns());
  saved.soft_combine_TS = matrix_of(tokens, layout.columns());
  saved.scores_TE = matrix_of(tokens, config.router.experts);
  const Matrix logits_TS = saved.logits_TR.matrix(), combine_TS = saved.soft_combine_TS.matrix();
  kernels::matmul_nt(x.unit.matrix(), phi.unit.matrix(), logits_TS);
  const float scale = scale_of(weights);
  for (Index t = 0; t < tokens; ++t)
    for (Index s = 0; s < layout.columns(); ++s) logits_TS(t, s) *= scale;
  kernels::softmax_rows(logits_TS, combine_TS);
  for (Index t = 0; t < tokens; ++t)
    if (!is_valid(call.valid_T, t)) std::fill_n(combine_TS.row(t), layout.columns(), 0.0F);
  saved.soft_in_SD = matrix_of(layout.rows(), width);
  for (Index b = 0; b < layout.sequences; ++b) {
    const Index begin = layout.begin(b), end = layout.end(b, tokens);
    softmax_columns(logits_TS, call.valid_T, begin, end, saved.soft_dispatch_TS.matrix());
    Tensor slots = matrix_of(layout.columns(), width);
    kernels::matmul_tn(rows_of(std::as_const(saved.soft_dispatch_TS), begin, end), x_TD.slice_rows(begin, end - begin),
                       slots.matrix());
    scatter(layout, b, std::as_const(slots).matrix(), saved.soft_in_SD.matrix());
  }
  describe(config.router, call.valid_T, saved);
  if (call.observer != nullptr)
    call.observer->on_routing({.layer = call.layer,
                               .config = config,
                               .logits_TE = logits_TS,
                               .scores_TE = saved.scores_TE.matrix(),
                               .assignments = saved.assignments,
                               .plan = saved.plan,
                               .token_id_T = call.token_id_T,
                               .valid_T = call.valid_T,
                               .losses = {},
                               .training = call.training});
  saved.soft_out_SD = matrix_of(layout.rows(), width);
  if (layout.rows() > 0) {
    const ExpertLease lease = acquire_all(*weights.experts);
    kernels::grouped_ffn_forward(config.expert.activation, std::as_const(saved.soft_in_SD).matrix(), layout.grouped(),
                                 lease.weights_E, saved.soft_out_SD.matrix(),
                                 kept != nullptr ? &saved.experts : nullptr);
  }
  for (Index b = 0; b < layout.sequences; ++b) {
    const Index begin = layout.begin(b), end = layout.end(b, tokens);
    const Tensor slots = gather(layout, b, std::as_const(saved.soft_out_SD).matrix());
    kernels::matmul_nn(rows_of(std::as_const(saved.soft_combine_TS), begin, end), slots.matrix(),
                       y_TD.slice_rows(begin, end - begin));
  }
  return {};
}

void soft_backward(const MoeConfig& config, const MoeWeights& weights, MoeSaved& saved, ConstMatrix x_TD,
                   ConstMatrix d_y_TD, Matrix d_x_TD, const MoeGradients& gradients) {
  const Index tokens = x_TD.rows, width = x_TD.cols;
  const Layout layout(config.router, tokens, saved.call.sequence);
  const Index columns = layout.columns();
  const ConstMatrix dispatch_TS = std::as_const(saved.soft_dispatch_TS).matrix(),
                    combine_TS = std::as_const(saved.soft_combine_TS).matrix();

  Tensor d_combine = matrix_of(tokens, columns), d_dispatch = matrix_of(tokens, columns),
         d_out = matrix_of(layout.rows(), width), d_in = matrix_of(layout.rows(), width);
  for (Index b = 0; b < layout.sequences; ++b) {
    const Index begin = layout.begin(b), count = layout.end(b, tokens) - begin;
    const Tensor out = gather(layout, b, std::as_const(saved.soft_out_SD).matrix());
    kernels::matmul_nt(d_y_TD.slice_rows(begin, count), out.matrix(), rows_of(d_combine, begin, begin + count));
    Tensor d_slots = matrix_of(columns, width);
    kernels::matmul_tn(combine_TS.slice_rows(begin, count), d_y_TD.slice_rows(begin, count), d_slots.matrix());
    scatter(layout, b, std::as_const(d_slots).matrix(), d_out.matrix());
  }
  if (layout.rows() > 0) {
    const ExpertLease lease = acquire_all(*weights.experts);
    std::vector<float> d_weight(static_cast<std::size_t>(layout.rows()));
    kernels::grouped_ffn_backward(config.expert.activation, std::as_const(saved.soft_in_SD).matrix(), layout.grouped(),
                                  lease.weights_E, saved.experts, std::as_const(d_out).matrix(), d_in.matrix(),
                                  d_weight, gradients.experts);
  }
  Tensor d_logits = Tensor::zeros(DType::kF32, {tokens, columns});
  const Matrix d_logits_TS = d_logits.matrix();
  for (Index b = 0; b < layout.sequences; ++b) {
    const Index begin = layout.begin(b), count = layout.end(b, tokens) - begin;
    const Tensor d_slots = gather(layout, b, std::as_const(d_in).matrix());
    kernels::matmul_nn(dispatch_TS.slice_rows(begin, count), d_slots.matrix(), d_x_TD.slice_rows(begin, count));
    kernels::matmul_nt(x_TD.slice_rows(begin, count), d_slots.matrix(), rows_of(d_dispatch, begin, begin + count));
    // Softmax over the tokens of the sequence.
    for (Index s = 0; s < columns; ++s) {
      float mean = 0.0F;
      for (Index t = begin; t < begin + count; ++t) mean += dispatch_TS(t, s) * d_dispatch.matrix()(t, s);
      for (Index t = begin; t < begin + count; ++t)
        d_logits_TS(t, s) += dispatch_TS(t, s) * (d_dispatch.matrix()(t, s) - mean);
    }
  }
  for (Index t = 0; t < tokens; ++t) {
    float mean = 0.0F;
    for (Index s = 0; s < columns; ++s) mean += combine_TS(t, s) * d_combine.matrix()(t, s);
    for (Index s = 0; s < columns; ++s) d_logits_TS(t, s) += combine_TS(t, s) * (d_combine.matrix()(t, s) - mean);
  }

  // d log(scale) = sum d r; then through the product of unit rows.
  const float scale = scale_of(weights);
  if (const Matrix d_scale = gradients.router.parts[RouterPart::kSlotScale]; !d_scale.empty()) {
    double sum = 0.0;
    for (Index t = 0; t < tokens; ++t)
      for (Index s = 0; s < columns; ++s)
        sum +=
            static_cast<double>(d_logits_TS(t, s)) * static_cast<double>(std::as_const(saved.logits_TR).matrix()(t, s));
    d_scale(0, 0) += static_cast<float>(sum);
  }
  for (Index t = 0; t < tokens; ++t)
    for (Index s = 0; s < columns; ++s) d_logits_TS(t, s) *= scale;
  const UnitRows x(x_TD, kLengthEpsilon), phi(weights.router.router_ED, kLengthEpsilon);
  Tensor d_x = matrix_of(tokens, width);
  kernels::matmul_nn(std::as_const(d_logits).matrix(), phi.unit.matrix(), d_x.matrix());
  x.backward(d_x.matrix());
  for (Index t = 0; t < tokens; ++t)
    for (Index d = 0; d < width; ++d) d_x_TD(t, d) += d_x.matrix()(t, d);
  if (gradients.router.router_ED.empty()) return;
  Tensor d_phi = matrix_of(columns, width);
  kernels::matmul_tn(std::as_const(d_logits).matrix(), x.unit.matrix(), d_phi.matrix());
  phi.backward(d_phi.matrix());
  for (Index s = 0; s < columns; ++s)
    for (Index d = 0; d < width; ++d) gradients.router.router_ED(s, d) += d_phi.matrix()(s, d);
}

}  // namespace switchyard::moe
