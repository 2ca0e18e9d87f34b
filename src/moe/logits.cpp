#include "switchyard/moe/logits.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "named_table.hpp"
#include "rows.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/elementwise.hpp"
#include "switchyard/kernels/matmul.hpp"
#include "switchyard/tensor/half.hpp"
#include "switchyard/tensor/tensor.hpp"
#include "unit_rows.hpp"

namespace switchyard::moe {
namespace {

// ---- precision of the product

float to_bf16_and_back(float value) { return to_float(to_bfloat16(value)); }

Tensor rounded(ConstMatrix m) {
  Tensor out = matrix_of(m.rows, m.cols);
  const Matrix to = out.matrix();
  for (Index r = 0; r < m.rows; ++r) std::transform(m.row(r), m.row(r) + m.cols, to.row(r), to_bf16_and_back);
  return out;
}

void float32_product(ConstMatrix x_TD, ConstMatrix w_RD, Matrix logits_TR) {
  kernels::matmul_nt(x_TD, w_RD, logits_TR);
}

// The logits are stored as float32 again: float64 only keeps the sum from losing bits on its way.
void float64_product(ConstMatrix x_TD, ConstMatrix w_RD, Matrix logits_TR) {
  parallel_for(x_TD.rows, row_grain(x_TD.cols * w_RD.rows), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t)
      for (Index r = 0; r < w_RD.rows; ++r) {
        double sum = 0.0;
        for (Index d = 0; d < x_TD.cols; ++d) sum += static_cast<double>(x_TD(t, d)) * static_cast<double>(w_RD(r, d));
        logits_TR(t, r) = static_cast<float>(sum);
      }
  });
}

// Operands and result are rounded, sums are float32: what a bf16 matmul on tensor cores does.
void bfloat16_product(ConstMatrix x_TD, ConstMatrix w_RD, Matrix logits_TR) {
  const Tensor x = rounded(x_TD), w = rounded(w_RD);
  kernels::matmul_nt(x.matrix(), w.matrix(), logits_TR);
  for (Index t = 0; t < logits_TR.rows; ++t)
    std::transform(logits_TR.row(t), logits_TR.row(t) + logits_TR.cols, logits_TR.row(t), to_bf16_and_back);
}

struct Precision {
  std::string_view name;
  void (*product)(ConstMatrix x_TD, ConstMatrix w_RD, Matrix logits_TR);
};
constexpr std::array kPrecisions = {
    Precision{"float32", float32_product},
    Precision{"float64", float64_product},
    Precision{"bfloat16", bfloat16_product},
};

void product(const RouterConfig& router, ConstMatrix x_TD, ConstMatrix w_RD, Matrix logits_TR) {
  require_row(std::span<const Precision>(kPrecisions), router.precision, "router precision")
      .product(x_TD, w_RD, logits_TR);
}

// ---- linear

void linear(const RouterConfig& router, const RouterWeights& weights, ConstMatrix x_TD, Matrix logits_TR) {
  product(router, x_TD, weights.router_ED, logits_TR);
}

void linear_backward(const RouterConfig&, const RouterWeights& weights, ConstMatrix x_TD, ConstMatrix d_logits_TR,
                     Matrix d_x_TD, const RouterGradients& gradients) {
  kernels::matmul_nn(d_logits_TR, weights.router_ED, d_x_TD, kernels::Store::kAdd);
  if (!gradients.router_ED.empty()) kernels::matmul_tn(d_logits_TR, x_TD, gradients.router_ED, kernels::Store::kAdd);
}

// ---- cosine

constexpr float kInitialScale = 2.0F;  // 1 / 0.5, Tutel's initial temperature
constexpr float kLargestScale = 100.0F;
constexpr double kNormEpsilon = 1e-24;

float unclamped_scale(const RouterWeights& weights) {
  return kInitialScale * std::exp(weights.parts[RouterPart::kTemperature](0, 0));
}

Tensor projected(const RouterConfig& router, const RouterWeights& weights, ConstMatrix x_TD) {
  Tensor p = matrix_of(x_TD.rows, weights.parts[RouterPart::kProjection].rows);
  product(router, x_TD, weights.parts[RouterPart::kProjection], p.matrix());
  return p;
}

void cosine(const RouterConfig& router, const RouterWeights& weights, ConstMatrix x_TD, Matrix logits_TR) {
  const Tensor p = projected(router, weights, x_TD);
  const UnitRows tokens(p.matrix(), kNormEpsilon), experts(weights.router_ED, kNormEpsilon);
  product(router, tokens.unit.matrix(), experts.unit.matrix(), logits_TR);
  const float scale = std::min(unclamped_scale(weights), kLargestScale);
  for (Index t = 0; t < logits_TR.rows; ++t)
    for (Index e = 0; e < logits_TR.cols; ++e) logits_TR(t, e) *= scale;
}

void cosine_backward(const RouterConfig& router, const RouterWeights& weights, ConstMatrix x_TD,
                     ConstMatrix d_logits_TR, Matrix d_x_TD, const RouterGradients& gradients) {
  const Tensor p = projected(router, weights, x_TD);
  const UnitRows tokens(p.matrix(), kNormEpsilon), experts(weights.router_ED, kNormEpsilon);
  const float scale = std::min(unclamped_scale(weights), kLargestScale);
  Tensor d_cosine = matrix_of(d_logits_TR.rows, d_logits_TR.cols);
  const Matrix d_cosine_TE = d_cosine.matrix();
  for (Index t = 0; t < d_logits_TR.rows; ++t)
    for (Index e = 0; e < d_logits_TR.cols; ++e) d_cosine_TE(t, e) = scale * d_logits_TR(t, e);

  if (const Matrix d_temperature = gradients.parts[RouterPart::kTemperature];
      !d_temperature.empty() && unclamped_scale(weights) < kLargestScale) {
    Tensor of_cosine = matrix_of(d_logits_TR.rows, d_logits_TR.cols);
    product(router, tokens.unit.matrix(), experts.unit.matrix(), of_cosine.matrix());
    double sum = 0.0;
    for (Index t = 0; t < d_logits_TR.rows; ++t)
      for (Index e = 0; e < d_logits_TR.cols; ++e)
        sum += static_cast<double>(d_cosine_TE(t, e)) * static_cast<double>(std::as_const(of_cosine).matrix()(t, e));
    d_temperature(0, 0) += static_cast<float>(sum);
  }
  if (!gradients.router_ED.empty()) {
    Tensor d_experts = matrix_of(weights.router_ED.rows, weights.router_ED.cols);
    kernels::matmul_tn(std::as_const(d_cosine).matrix(), tokens.unit.matrix(), d_experts.matrix());
    experts.backward(d_experts.matrix());
    for (Index e = 0; e < d_experts.matrix().rows; ++e)
      for (Index c = 0; c < d_experts.matrix().cols; ++c) gradients.router_ED(e, c) += d_experts.matrix()(e, c);
  }
  Tensor d_p = matrix_of(p.matrix().rows, p.matrix().cols);
  kernels::matmul_nn(std::as_const(d_cosine).matrix(), experts.unit.matrix(), d_p.matrix());
  tokens.backward(d_p.matrix());
  kernels::matmul_nn(std::as_const(d_p).matrix(), weights.parts[RouterPart::kProjection], d_x_TD, kernels::Store::kAdd);
  if (const Matrix d_projection = gradients.parts[RouterPart::kProjection]; !d_projection.empty())
    kernels::matmul_tn(std::as_const(d_p).matrix(), x_TD, d_projection, kernels::Store::kAdd);
}

constexpr std::array kLogitsRules = {
    LogitsRule{"linear", linear, linear_backward},
    LogitsRule{"cosine", cosine, cosine_backward},
};

}  // namespace

std::span<const LogitsRule> logits_rules() { return kLogitsRules; }

const LogitsRule& find_logits_rule(std::string_view name) { return require_row(logits_rules(), name, "router logits"); }

std::string precision_names() { return row_names(std::span<const Precision>(kPrecisions)); }
bool is_precision(std::string_view name) { return find_row(std::span<const Precision>(kPrecisions), name) != nullptr; }

void router_logits(const RouterConfig& router, const RouterWeights& weights, ConstMatrix x_TD, ConstMatrix previous_TR,
                   Matrix logits_TR) {
  find_logits_rule(router.logits).forward(router, weights, x_TD, logits_TR);
  if (router.logits_bias) kernels::add_bias(logits_TR, weights.bias_E);
  if (router.residual && !previous_TR.empty())
    kernels::matmul_nt(previous_TR, weights.parts[RouterPart::kResidual], logits_TR, kernels::Store::kAdd);
  if (router.temperature == 1.0F) return;
  for (Index t = 0; t < logits_TR.rows; ++t)
    for (Index r = 0; r < logits_TR.cols; ++r) logits_TR(t, r) /= router.temperature;
}

void router_logits_backward(const RouterConfig& router, const RouterWeights& weights, ConstMatrix x_TD,
                            ConstMatrix previous_TR, ConstMatrix d_logits_TR, Matrix d_x_TD, Matrix d_previous_TR,
                            const RouterGradients& gradients) {
  Tensor divided;
  if (router.temperature != 1.0F) {
    divided = matrix_of(d_logits_TR.rows, d_logits_TR.cols);
    for (Index t = 0; t < d_logits_TR.rows; ++t)
      for (Index r = 0; r < d_logits_TR.cols; ++r) divided.matrix()(t, r) = d_logits_TR(t, r) / router.temperature;
    d_logits_TR = std::as_const(divided).matrix();
  }
  if (router.residual && !previous_TR.empty()) {
    if (!d_previous_TR.empty())
      kernels::matmul_nn(d_logits_TR, weights.parts[RouterPart::kResidual], d_previous_TR, kernels::Store::kAdd);
    if (const Matrix d_residual = gradients.parts[RouterPart::kResidual]; !d_residual.empty())
      kernels::matmul_tn(d_logits_TR, previous_TR, d_residual, kernels::Store::kAdd);
  }
  if (!gradients.bias_E.empty()) kernels::add_bias_backward(d_logits_TR, gradients.bias_E);
  find_logits_rule(router.logits).backward(router, weights, x_TD, d_logits_TR, d_x_TD, gradients);
}

}  // namespace switchyard::moe
