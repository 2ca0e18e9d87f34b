#include "oracle/router.hpp"

#include <algorithm>
#include <cmath>

namespace switchyard::oracle {
namespace {

double dot_of(const double* a, const double* b, Index n) {
  double sum = 0.0;
  for (Index i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

Values router_logits(const RouterProblem& p) {
  Values logits(static_cast<std::size_t>(p.tokens * p.experts));
  for (Index t = 0; t < p.tokens; ++t) {
    const double* x = p.x_TD.data() + t * p.width;
    Values projected(static_cast<std::size_t>(p.cosine_width));
    for (Index c = 0; c < p.cosine_width; ++c)
      projected[static_cast<std::size_t>(c)] = dot_of(p.projection_PD.data() + c * p.width, x, p.width);
    for (Index e = 0; e < p.experts; ++e) {
      double logit = 0.0;
      if (p.projection_PD.empty()) {
        logit = dot_of(p.router_ED.data() + e * p.width, x, p.width);
      } else {
        const double* w = p.router_ED.data() + e * p.cosine_width;
        const double lengths = std::sqrt(dot_of(projected.data(), projected.data(), p.cosine_width)) *
                               std::sqrt(dot_of(w, w, p.cosine_width));
        logit = std::min(2.0 * std::exp(p.log_scale), 100.0) * dot_of(projected.data(), w, p.cosine_width) / lengths;
      }
      if (!p.bias_E.empty()) logit += p.bias_E[static_cast<std::size_t>(e)];
      if (!p.previous_TE.empty())
        logit += dot_of(p.previous_TE.data() + t * p.experts, p.residual_EE.data() + e * p.experts, p.experts);
      logits[static_cast<std::size_t>(t * p.experts + e)] = logit / p.temperature;
    }
  }
  return logits;
}

Values shazeer_deviation(const Values& x_TD, const Values& noise_ED, Index width, Index experts) {
  const Index tokens = static_cast<Index>(x_TD.size()) / width;
  Values deviation;
  for (Index t = 0; t < tokens; ++t)
    for (Index e = 0; e < experts; ++e)
      deviation.push_back(
          std::log(1.0 + std::exp(dot_of(x_TD.data() + t * width, noise_ED.data() + e * width, width))) + 0.01);
  return deviation;
}

Values soft_moe(const Values& x_TD, const Values& phi_SD, double log_scale, Index width,
                const std::vector<std::uint8_t>& valid_T,
                const std::function<Values(Index slot, const Values& x_D)>& expert) {
  const Index tokens = static_cast<Index>(x_TD.size()) / width, slots = static_cast<Index>(phi_SD.size()) / width;
  const auto real = [&](Index t) { return valid_T.empty() || valid_T[static_cast<std::size_t>(t)] != 0; };
  const auto length = [&](const double* v) { return std::sqrt(dot_of(v, v, width) + 1e-6); };
  const auto exponential = [&](Index t, Index s) {
    const double *x = x_TD.data() + t * width, *phi = phi_SD.data() + s * width;
    return std::exp(std::exp(log_scale) * dot_of(x, phi, width) / length(x) / length(phi));
  };
  Values y(x_TD.size(), 0.0);
  for (Index s = 0; s < slots; ++s) {
    double sum = 0.0;
    Values mix(static_cast<std::size_t>(width), 0.0);
    for (Index t = 0; t < tokens; ++t) sum += real(t) ? exponential(t, s) : 0.0;
    if (sum == 0.0) continue;
    for (Index t = 0; t < tokens; ++t)
      for (Index d = 0; d < width; ++d)
        if (real(t))
          mix[static_cast<std::size_t>(d)] += exponential(t, s) / sum * x_TD[static_cast<std::size_t>(t * width + d)];
    const Values out = expert(s, mix);
    for (Index t = 0; t < tokens; ++t) {
      if (!real(t)) continue;
      double all = 0.0;
      for (Index other = 0; other < slots; ++other) all += exponential(t, other);
      for (Index d = 0; d < width; ++d)
        y[static_cast<std::size_t>(t * width + d)] += exponential(t, s) / all * out[static_cast<std::size_t>(d)];
    }
  }
  return y;
}

Values constant_expert(const double* x_D, const double* vector_D, const double* gate_2D, Index width) {
  const double keep = std::exp(dot_of(gate_2D, x_D, width)), give = std::exp(dot_of(gate_2D + width, x_D, width));
  Values y;
  for (Index d = 0; d < width; ++d) y.push_back((keep * x_D[d] + give * vector_D[d]) / (keep + give));
  return y;
}

}  // namespace switchyard::oracle
