#include "switchyard/moe/noise.hpp"

#include <array>
#include <cmath>

#include "named_table.hpp"
#include "rows.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/matmul.hpp"

namespace switchyard::moe {
namespace {

constexpr float kLeastDeviation = 1e-2F;  // of the learned noise, in units of noise_std

// noisy = logits + std * draw(index of the element), std already filled in.
template <class Draw>
void add_draws(ConstMatrix logits_TR, ConstMatrix std_TR, Matrix noisy_TR, const Draw& draw) {
  parallel_for(logits_TR.rows, row_grain(32 * logits_TR.cols), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t)
      for (Index r = 0; r < logits_TR.cols; ++r)
        noisy_TR(t, r) = logits_TR(t, r) + std_TR(t, r) * draw(static_cast<std::uint64_t>(t * logits_TR.cols + r));
  });
}

void fill(Matrix m, float value) {
  for (Index r = 0; r < m.rows; ++r) std::fill_n(m.row(r), m.cols, value);
}

void none(const RouterConfig&, const RouterWeights&, ConstMatrix, RandomStream, ConstMatrix logits_TR, Matrix noisy_TR,
          Matrix std_TR) {
  fill(std_TR, 0.0F);
  for (Index t = 0; t < logits_TR.rows; ++t) std::copy_n(logits_TR.row(t), logits_TR.cols, noisy_TR.row(t));
}

void gaussian(const RouterConfig& router, const RouterWeights&, ConstMatrix, RandomStream random, ConstMatrix logits_TR,
              Matrix noisy_TR, Matrix std_TR) {
  fill(std_TR, router.noise_std);
  add_draws(logits_TR, std_TR, noisy_TR, [&](std::uint64_t i) { return random.normal(i); });
}

void gumbel(const RouterConfig& router, const RouterWeights&, ConstMatrix, RandomStream random, ConstMatrix logits_TR,
            Matrix noisy_TR, Matrix std_TR) {
  fill(std_TR, router.noise_std);
  add_draws(logits_TR, std_TR, noisy_TR, [&](std::uint64_t i) {
    // uniform() may be 0 and is never 1; half a step keeps both logarithms finite.
    const double u = static_cast<double>(random.uniform(i)) + 0x1.0p-25;
    return static_cast<float>(-std::log(-std::log(u)));
  });
}

// The learned part before softplus.
Tensor shazeer_input(const RouterWeights& weights, ConstMatrix x_TD) {
  const ConstMatrix w_RD = weights.parts[RouterPart::kNoise];
  Tensor raw = Tensor::uninitialized(DType::kF32, {x_TD.rows, w_RD.rows});
  kernels::matmul_nt(x_TD, w_RD, raw.matrix());
  return raw;
}

float softplus(float v) { return std::max(v, 0.0F) + std::log1p(std::exp(-std::abs(v))); }
float sigmoid(float v) { return 1.0F / (1.0F + std::exp(-v)); }

void shazeer(const RouterConfig& router, const RouterWeights& weights, ConstMatrix x_TD, RandomStream random,
             ConstMatrix logits_TR, Matrix noisy_TR, Matrix std_TR) {
  const Tensor raw = shazeer_input(weights, x_TD);
  for (Index t = 0; t < std_TR.rows; ++t)
    for (Index r = 0; r < std_TR.cols; ++r)
      std_TR(t, r) = router.noise_std * (softplus(raw.matrix()(t, r)) + kLeastDeviation);
  add_draws(logits_TR, std_TR, noisy_TR, [&](std::uint64_t i) { return random.normal(i); });
}

void shazeer_backward(const RouterConfig& router, const RouterWeights& weights, ConstMatrix x_TD, RandomStream random,
                      ConstMatrix d_noisy_TR, ConstMatrix d_std_TR, Matrix d_x_TD, const RouterGradients& gradients) {
  const Tensor raw = shazeer_input(weights, x_TD);
  Tensor d_raw = Tensor::uninitialized(DType::kF32, raw.shape());
  const Matrix d_raw_TR = d_raw.matrix();
  for (Index t = 0; t < d_raw_TR.rows; ++t)
    for (Index r = 0; r < d_raw_TR.cols; ++r) {
      const float draw = random.normal(static_cast<std::uint64_t>(t * d_raw_TR.cols + r));
      const float d_std = d_noisy_TR(t, r) * draw + d_std_TR(t, r);
      d_raw_TR(t, r) = router.noise_std * d_std * sigmoid(raw.matrix()(t, r));
    }
  kernels::matmul_nn(std::as_const(d_raw).matrix(), weights.parts[RouterPart::kNoise], d_x_TD, kernels::Store::kAdd);
  if (const Matrix d_w = gradients.parts[RouterPart::kNoise]; !d_w.empty())
    kernels::matmul_tn(std::as_const(d_raw).matrix(), x_TD, d_w, kernels::Store::kAdd);
}

constexpr std::array kNoiseRules = {
    NoiseRule{"none", none, nullptr},
    NoiseRule{"gaussian", gaussian, nullptr},
    NoiseRule{"shazeer", shazeer, shazeer_backward},
    NoiseRule{"gumbel", gumbel, nullptr},
};

}  // namespace

std::span<const NoiseRule> noise_rules() { return kNoiseRules; }

const NoiseRule& find_noise_rule(std::string_view name) { return require_row(noise_rules(), name, "router noise"); }

}  // namespace switchyard::moe
