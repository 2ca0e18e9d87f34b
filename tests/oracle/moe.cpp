#include "oracle/moe.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

namespace switchyard::oracle {
namespace {

bool valid(const std::vector<std::uint8_t>& valid_T, Index t) {
  return valid_T.empty() || valid_T[static_cast<std::size_t>(t)] != 0;
}

Index tokens_of(const Values& matrix, Index cols) { return static_cast<Index>(matrix.size()) / cols; }

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

double act(kernels::Activation activation, double x) {
  switch (activation.kind) {
    case kernels::Activation::Kind::kSwiGLU:
      return x * sigmoid(x);
    case kernels::Activation::Kind::kClampedSwiGLU:
      x = std::min(x, static_cast<double>(activation.limit));
      return x * sigmoid(static_cast<double>(activation.slope) * x);
    case kernels::Activation::Kind::kGatedGeluTanh:
      return x / 2.0 * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    case kernels::Activation::Kind::kGELU:
      return x / 2.0 * (1.0 + std::erf(x / std::sqrt(2.0)));
    case kernels::Activation::Kind::kReLU:
      return x > 0.0 ? x : 0.0;
  }
  throw std::logic_error("an activation that the oracle does not know");
}

// <w row i, x>
double product(const double* w_ND, Index i, const double* x_D, Index width) {
  double sum = 0.0;
  for (Index d = 0; d < width; ++d) sum += w_ND[i * width + d] * x_D[d];
  return sum;
}

double value_at(const double* bias, Index i) { return bias == nullptr ? 0.0 : bias[i]; }

}  // namespace

Values moe_scores(const std::string& score, const Values& logits_TE, Index experts) {
  Values scores_TE(logits_TE.size());
  for (Index t = 0; t < tokens_of(logits_TE, experts); ++t) {
    const double* logit_E = logits_TE.data() + t * experts;
    double* score_E = scores_TE.data() + t * experts;
    if (score == "softmax" || score == "tree") {  // a tree of one level
      const double largest = *std::max_element(logit_E, logit_E + experts);
      double sum = 0.0;
      for (Index e = 0; e < experts; ++e) sum += std::exp(logit_E[e] - largest);
      for (Index e = 0; e < experts; ++e) score_E[e] = std::exp(logit_E[e] - largest) / sum;
    } else if (score == "logits") {
      std::copy_n(logit_E, experts, score_E);
    } else if (score == "sqrt-softplus") {
      for (Index e = 0; e < experts; ++e) score_E[e] = std::sqrt(std::log1p(std::exp(logit_E[e])));
    } else if (score == "sigmoid") {
      for (Index e = 0; e < experts; ++e) score_E[e] = sigmoid(logit_E[e]);
    } else {
      throw std::logic_error("a score that the oracle does not know: " + score);
    }
  }
  return scores_TE;
}

std::vector<Index> top_experts(const double* score_E, const Values& bias_E, Index experts, Index k) {
  std::vector<Index> order(static_cast<std::size_t>(experts));
  std::iota(order.begin(), order.end(), 0);
  const auto key = [&](Index e) { return score_E[e] + (bias_E.empty() ? 0.0 : bias_E[static_cast<std::size_t>(e)]); };
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
    if (std::isnan(key(a))) return false;
    if (std::isnan(key(b))) return true;
    return key(a) > key(b);
  });
  order.resize(static_cast<std::size_t>(k));
  return order;
}

std::vector<MoeChoice> top_k_choices(const Values& scores_TE, const Values& bias_E, Index experts, Index k,
                                     const std::vector<std::uint8_t>& valid_T) {
  std::vector<MoeChoice> choices;
  for (Index t = 0; t < tokens_of(scores_TE, experts); ++t) {
    if (!valid(valid_T, t)) continue;
    const double* score_E = scores_TE.data() + t * experts;
    for (const Index e : top_experts(score_E, bias_E, experts, k)) choices.push_back({t, e, score_E[e], 0.0, false});
  }
  return choices;
}

void weigh(const std::string& normalise, double scale, std::vector<MoeChoice>& choices, double norm_p) {
  for (MoeChoice& choice : choices) {
    double divisor = 1.0;
    if (normalise == "softmax") {
      double sum = 0.0;
      for (const MoeChoice& other : choices)
        if (other.token == choice.token) sum += std::exp(other.score - choice.score);
      choice.weight = scale / sum;
      continue;
    }
    if (normalise == "p-norm") {
      divisor = 0.0;
      for (const MoeChoice& other : choices)
        if (other.token == choice.token) divisor += std::pow(std::abs(other.score), norm_p);
      divisor = std::pow(divisor, 1.0 / norm_p);
    }
    if (normalise == "sum") {
      divisor = 1e-20;
      for (const MoeChoice& other : choices)
        if (other.token == choice.token) divisor += other.score;
    }
    choice.weight = scale * choice.score / divisor;
  }
}

void drop_over_capacity(const std::string& rule, Index capacity, Index experts, std::vector<MoeChoice>& choices) {
  for (Index e = 0; e < experts; ++e) {
    std::vector<MoeChoice*> mine;
    for (MoeChoice& choice : choices)
      if (choice.expert == e) mine.push_back(&choice);
    if (rule == "probs")
      std::stable_sort(mine.begin(), mine.end(),
                       [](const MoeChoice* a, const MoeChoice* b) { return a->score > b->score; });
    for (std::size_t i = static_cast<std::size_t>(capacity); i < mine.size(); ++i) {
      mine[i]->dropped = true;
      mine[i]->weight = 0.0;
    }
  }
}

double load_balance_loss(const Values& scores_TE, Index experts, const std::vector<MoeChoice>& choices,
                         const std::vector<std::uint8_t>& valid_T) {
  double tokens = 0.0, loss = 0.0;
  for (Index t = 0; t < tokens_of(scores_TE, experts); ++t) tokens += valid(valid_T, t) ? 1.0 : 0.0;
  if (tokens == 0.0) return 0.0;
  for (Index e = 0; e < experts; ++e) {
    double chosen = 0.0, probability = 0.0;
    for (const MoeChoice& choice : choices)
      chosen += (choice.chosen < 0 ? choice.expert : choice.chosen) == e ? 1.0 : 0.0;
    for (Index t = 0; t < tokens_of(scores_TE, experts); ++t) {
      if (!valid(valid_T, t)) continue;
      const double* score_E = scores_TE.data() + t * experts;
      probability += score_E[e] / std::accumulate(score_E, score_E + experts, 0.0);
    }
    loss += chosen / static_cast<double>(choices.size()) * (probability / tokens);
  }
  return static_cast<double>(experts) * loss;
}

double z_loss(const Values& logits_TE, Index experts, const std::vector<std::uint8_t>& valid_T) {
  double tokens = 0.0, loss = 0.0;
  for (Index t = 0; t < tokens_of(logits_TE, experts); ++t) {
    if (!valid(valid_T, t)) continue;
    double sum = 0.0;
    for (Index e = 0; e < experts; ++e) sum += std::exp(logits_TE[static_cast<std::size_t>(t * experts + e)]);
    loss += std::log(sum) * std::log(sum);
    tokens += 1.0;
  }
  return tokens == 0.0 ? 0.0 : loss / tokens;
}

Values ffn(kernels::Activation activation, const double* x_D, Index width, Index hidden, const double* gate_FD,
           const double* up_FD, const double* down_DF, const double* gate_bias_F, const double* up_bias_F,
           const double* down_bias_D) {
  Values h_F(static_cast<std::size_t>(hidden)), y_D(static_cast<std::size_t>(width));
  for (Index f = 0; f < hidden; ++f) {
    double up = product(up_FD, f, x_D, width) + value_at(up_bias_F, f);
    if (activation.kind == kernels::Activation::Kind::kClampedSwiGLU) {
      const auto limit = static_cast<double>(activation.limit);
      up = std::clamp(up, -limit, limit) + 1.0;
    }
    h_F[static_cast<std::size_t>(f)] =
        gate_FD != nullptr ? act(activation, product(gate_FD, f, x_D, width) + value_at(gate_bias_F, f)) * up
                           : act(activation, up);
  }
  for (Index d = 0; d < width; ++d)
    y_D[static_cast<std::size_t>(d)] = product(down_DF, d, h_F.data(), hidden) + value_at(down_bias_D, d);
  return y_D;
}

MoeResult moe_layer(const MoeProblem& p, const std::vector<MoeChoice>* fixed) {
  MoeResult result;
  for (Index t = 0; t < p.tokens; ++t)
    for (Index e = 0; e < p.experts; ++e)
      result.logits_TE.push_back(product(p.router_ED.data(), e, p.x_TD.data() + t * p.width, p.width) +
                                 (p.router_bias_E.empty() ? 0.0 : p.router_bias_E[static_cast<std::size_t>(e)]));
  result.scores_TE = moe_scores(p.score, result.logits_TE, p.experts);

  Values to_shared_T(static_cast<std::size_t>(p.tokens));
  if (fixed == nullptr) {
    result.choices = top_k_choices(result.scores_TE, p.selection_bias_E, p.experts, p.top_k, p.valid_T);
    weigh(p.normalise, p.scale, result.choices);
    if (p.capacity >= 0) drop_over_capacity(p.drop, p.capacity, p.experts, result.choices);
  } else {
    result.choices = *fixed;
    for (MoeChoice& choice : result.choices)
      choice.score = result.scores_TE[static_cast<std::size_t>(choice.token * p.experts + choice.expert)];
    if (p.renormalise) {
      std::vector<MoeChoice> kept;
      for (const MoeChoice& choice : result.choices)
        if (!choice.dropped) kept.push_back(choice);
      result.choices = kept;
    }
    weigh(p.normalise, p.scale, result.choices);
    for (MoeChoice& choice : result.choices) {
      choice.weight *= choice.factor;
      if (choice.to_shared) to_shared_T[static_cast<std::size_t>(choice.token)] += choice.weight;
      if (choice.dropped) choice.weight = 0.0;
    }
  }

  result.load_balance = load_balance_loss(result.scores_TE, p.experts, result.choices, p.valid_T);
  result.z_loss = z_loss(result.logits_TE, p.experts, p.valid_T);
  result.total = p.load_balance * result.load_balance + p.z_loss * result.z_loss;
  if (p.more_losses) result.total += p.more_losses(result);

  result.y_TD.assign(static_cast<std::size_t>(p.tokens * p.width), 0.0);
  const bool gated = kernels::is_gated(p.activation);
  const Index matrix = p.hidden * p.width;
  for (const MoeChoice& choice : result.choices) {
    const auto bias = [&](const Values& bias_EN, Index n) {
      return bias_EN.empty() ? nullptr : bias_EN.data() + choice.expert * n;
    };
    const Values y_D = ffn(p.activation, p.x_TD.data() + choice.token * p.width, p.width, p.hidden,
                           gated ? p.gate_EFD.data() + choice.expert * matrix : nullptr,
                           p.up_EFD.data() + choice.expert * matrix, p.down_EDF.data() + choice.expert * matrix,
                           bias(p.gate_bias_EF, p.hidden), bias(p.up_bias_EF, p.hidden), bias(p.down_bias_ED, p.width));
    for (Index d = 0; d < p.width; ++d)
      result.y_TD[static_cast<std::size_t>(choice.token * p.width + d)] +=
          choice.weight * y_D[static_cast<std::size_t>(d)];
  }
  for (Index t = 0; t < p.tokens && p.shared_hidden > 0; ++t) {
    if (!valid(p.valid_T, t)) continue;
    const double* x_D = p.x_TD.data() + t * p.width;
    const double weight = (p.shared_gate_D.empty() ? 1.0 : sigmoid(product(p.shared_gate_D.data(), 0, x_D, p.width))) +
                          to_shared_T[static_cast<std::size_t>(t)];
    const Values y_D = ffn(p.activation, x_D, p.width, p.shared_hidden, gated ? p.shared_gate_FD.data() : nullptr,
                           p.shared_up_FD.data(), p.shared_down_DF.data());
    for (Index d = 0; d < p.width; ++d)
      result.y_TD[static_cast<std::size_t>(t * p.width + d)] += weight * y_D[static_cast<std::size_t>(d)];
  }
  return result;
}

}  // namespace switchyard::oracle
