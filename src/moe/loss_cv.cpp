#include <cmath>
#include <numbers>

#include "loss_rules.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/moe/select.hpp"
#include "switchyard/moe/weights.hpp"

namespace switchyard::moe {
namespace {

// Variance over squared mean, and its gradient.
struct SquaredCv {
  explicit SquaredCv(const std::vector<double>& x) : gradient(x.size()) {
    const auto n = static_cast<double>(x.size());
    double mean = 0.0, variance = 0.0;
    for (const double v : x) mean += v / n;
    for (const double v : x) variance += (v - mean) * (v - mean) / n;
    const double divisor = mean * mean + 1e-10;  // as in Shazeer's published code
    value = variance / divisor;
    for (std::size_t i = 0; i < x.size(); ++i) gradient[i] = 2.0 / n * ((x[i] - mean) - value * mean) / divisor;
  }
  double value;
  std::vector<double> gradient;
};

// The weights that the rule makes of the choices' scores, none of them dropped or scaled down.
Assignments weighed(const LossInput& input) {
  Assignments list = input.assignments;
  find_weight_rule(input.config.router.normalise).forward(input.config.router, list);
  return list;
}

std::vector<double> importance(const Assignments& list) {
  std::vector<double> sum_E(static_cast<std::size_t>(list.experts));
  for (std::size_t a = 0; a < list.expert_A.size(); ++a)
    sum_E[static_cast<std::size_t>(list.expert_A[a])] += static_cast<double>(list.weight_A[a]);
  return sum_E;
}

double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }
double normal_density(double x) { return std::exp(-0.5 * x * x) / std::sqrt(2.0 * std::numbers::pi); }

// The K-th and the next noisy logit of a token, against which it is measured how likely an expert was to be chosen.
struct Thresholds {
  Thresholds(const float* noisy_E, Index experts, Index k)
      : key(static_cast<std::size_t>(k) + 1), expert(static_cast<std::size_t>(k) + 1) {
    top_k_of_row(noisy_E, nullptr, experts, k + 1, key.data(), expert.data());
  }
  // Of an expert that is in, the first one that is not; of one that is out, the last one that is.
  bool is_in(float noisy) const { return noisy > key.back(); }
  std::size_t against(float noisy) const { return is_in(noisy) ? key.size() - 1 : key.size() - 2; }

  std::vector<float> key;
  std::vector<std::int32_t> expert;
};

// Without noise, or where every expert is chosen, a load has no slope: it is the number of choices.
bool smooth(const LossInput& input) {
  return !input.clean_logits_TR.empty() && input.config.router.top_k < input.logits_TR.cols;
}

std::vector<double> smooth_load(const LossInput& input) {
  const Index tokens = input.logits_TR.rows, experts = input.logits_TR.cols;
  std::vector<double> load_E(static_cast<std::size_t>(experts));
  if (!smooth(input)) {
    const std::vector<Index> count_E = count_choices(input.assignments, false, 0, input.assignments.tokens);
    return {count_E.begin(), count_E.end()};
  }
  for (Index t = 0; t < tokens; ++t) {
    if (!is_valid(input.valid_T, t)) continue;
    const float* noisy_E = input.logits_TR.row(t);
    const Thresholds thresholds(noisy_E, experts, input.config.router.top_k);
    for (Index e = 0; e < experts; ++e) {
      const auto std = static_cast<double>(input.noise_std_TR(t, e));
      const double ahead = static_cast<double>(input.clean_logits_TR(t, e)) -
                           static_cast<double>(thresholds.key[thresholds.against(noisy_E[e])]);
      load_E[static_cast<std::size_t>(e)] +=
          std > 0.0 ? normal_cdf(ahead / std) : (thresholds.is_in(noisy_E[e]) ? 1.0 : 0.0);
    }
  }
  return load_E;
}

}  // namespace

float importance_cv_loss(const LossInput& input) {
  return static_cast<float>(SquaredCv(importance(weighed(input))).value);
}

void importance_cv_backward(const LossInput& input, float d, const LossGradients& gradients) {
  const Assignments list = weighed(input);
  const SquaredCv cv(importance(list));
  std::vector<float> d_weight_A(list.expert_A.size()), d_score_A(list.expert_A.size());
  for (std::size_t a = 0; a < d_weight_A.size(); ++a)
    d_weight_A[a] =
        static_cast<float>(static_cast<double>(d) * cv.gradient[static_cast<std::size_t>(list.expert_A[a])]);
  find_weight_rule(input.config.router.normalise).backward(input.config.router, list, d_weight_A, d_score_A);
  for (std::size_t a = 0; a < d_score_A.size(); ++a) gradients.score_A[a] += d_score_A[a];
}

float load_cv_loss(const LossInput& input) { return static_cast<float>(SquaredCv(smooth_load(input)).value); }

// The noisy logits h = c + std n are what other code differentiates by: it turns dL/dh into dL/dc = dL/dh and
// dL/dstd += n dL/dh. So what belongs to c alone is added to dL/dh and its share of std taken off again.
void load_cv_backward(const LossInput& input, float d, const LossGradients& gradients) {
  if (!smooth(input)) return;
  const SquaredCv cv(smooth_load(input));
  const Index experts = input.logits_TR.cols;
  parallel_for(input.logits_TR.rows, row_grain(32 * experts), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      if (!is_valid(input.valid_T, t)) continue;
      const float* noisy_E = input.logits_TR.row(t);
      const Thresholds thresholds(noisy_E, experts, input.config.router.top_k);
      for (Index e = 0; e < experts; ++e) {
        const auto std = static_cast<double>(input.noise_std_TR(t, e)),
                   clean = static_cast<double>(input.clean_logits_TR(t, e));
        if (std <= 0.0) continue;
        const std::size_t at = thresholds.against(noisy_E[e]);
        const double z = (clean - static_cast<double>(thresholds.key[at])) / std,
                     n = (static_cast<double>(noisy_E[e]) - clean) / std;
        const double slope =
            static_cast<double>(d) * cv.gradient[static_cast<std::size_t>(e)] * normal_density(z) / std;
        gradients.logits_TR(t, e) += static_cast<float>(slope);
        gradients.logits_TR(t, thresholds.expert[at]) -= static_cast<float>(slope);
        gradients.noise_std_TR(t, e) -= static_cast<float>(slope * (z + n));
      }
    }
  });
}

}  // namespace switchyard::moe
