#include "oracle/balance.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>
#include <stdexcept>

namespace switchyard::oracle {
namespace {

bool real(const std::vector<std::uint8_t>& valid_T, Index t) {
  return valid_T.empty() || valid_T[static_cast<std::size_t>(t)] != 0;
}

double at(const Values& m, Index row, Index cols, Index col) { return m[static_cast<std::size_t>(row * cols + col)]; }

Index chosen(const MoeChoice& choice) { return choice.chosen < 0 ? choice.expert : choice.chosen; }

Index floor_of(Index a, Index b) { return a / b; }
Index ceil_of(Index a, Index b) { return (a + b - 1) / b; }

double squared_cv(const Values& x) {
  double mean = 0.0, variance = 0.0;
  for (const double v : x) mean += v;
  mean /= static_cast<double>(x.size());
  for (const double v : x) variance += (v - mean) * (v - mean);
  variance /= static_cast<double>(x.size());
  return variance / (mean * mean + 1e-10);
}

Index real_tokens(const BalanceProblem& p, Index begin, Index end) {
  Index count = 0;
  for (Index t = begin; t < end; ++t) count += real(p.valid_T, t) ? 1 : 0;
  return count;
}

double mean_probability(const BalanceProblem& p, const Values& p_TE, Index e, Index begin, Index end) {
  double sum = 0.0;
  for (Index t = begin; t < end; ++t)
    if (real(p.valid_T, t)) sum += at(p_TE, t, p.experts, e);
  return sum / static_cast<double>(real_tokens(p, begin, end));
}

double count_of(const BalanceProblem& p, Index e, Index begin, Index end, bool first_only) {
  double count = 0.0;
  Index before = -1;
  for (const MoeChoice& choice : p.choices) {
    const bool first = choice.token != before;
    before = choice.token;
    if (choice.token >= begin && choice.token < end && chosen(choice) == e && (first || !first_only)) count += 1.0;
  }
  return count;
}

double share_of(const BalanceProblem& p, Index e) {
  return count_of(p, e, 0, p.tokens, false) / static_cast<double>(p.choices.size());
}

}  // namespace

Index capacity(const std::string& formula, Index n, Index d, Index tokens, Index experts, Index top_k) {
  if (formula == "megatron" || formula == "deepspeed") return ceil_of(tokens * top_k * n, experts * d);
  if (formula == "tutel") return top_k * floor_of(n * ceil_of(tokens, experts), d);
  if (formula == "fairscale") return floor_of(2 * tokens, experts);
  if (formula == "mesh") return floor_of(tokens * n, experts * d);
  if (formula == "flaxformer") {
    const Index whole = floor_of(tokens * n, experts * d), twice_rest = 2 * (tokens * n - whole * experts * d);
    if (twice_rest == experts * d) return whole + whole % 2;
    return twice_rest > experts * d ? whole + 1 : whole;
  }
  throw std::logic_error("a capacity that the oracle does not know: " + formula);
}

void drop_in_order(const std::string& rule, Index capacity, Index experts, std::vector<MoeChoice>& choices) {
  struct Entry {
    MoeChoice* choice;
    Index rank;
    double best;
  };
  std::vector<Entry> order;
  for (MoeChoice& choice : choices) {
    Entry entry{&choice, 0, choice.score};
    for (const MoeChoice& other : choices) {
      if (other.token != choice.token) continue;
      if (&other < &choice) ++entry.rank;
      entry.best = std::max(entry.best, other.score);
    }
    order.push_back(entry);
  }
  std::stable_sort(order.begin(), order.end(), [&](const Entry& a, const Entry& b) {
    if (rule == "weights") return a.choice->weight > b.choice->weight;
    if (a.rank != b.rank) return a.rank < b.rank;
    return rule == "batch-priority" && a.best > b.best;
  });
  std::vector<Index> taken_E(static_cast<std::size_t>(experts));
  for (const Entry& entry : order)
    if (++taken_E[static_cast<std::size_t>(entry.choice->expert)] > capacity) entry.choice->dropped = true;
}

void reroute(Index capacity, const Values& scores_TE, Index experts, std::vector<MoeChoice>& choices) {
  std::vector<Index> taken_E(static_cast<std::size_t>(experts));
  for (const MoeChoice& choice : choices)
    if (!choice.dropped) ++taken_E[static_cast<std::size_t>(choice.expert)];
  for (MoeChoice& choice : choices) {
    if (!choice.dropped) continue;
    for (const Index e : top_experts(scores_TE.data() + choice.token * experts, {}, experts, experts)) {
      const bool has = std::any_of(choices.begin(), choices.end(), [&](const MoeChoice& other) {
        return other.token == choice.token && other.expert == e;
      });
      if (has || taken_E[static_cast<std::size_t>(e)] >= capacity) continue;
      choice.chosen = choice.expert;
      choice.expert = e;
      choice.score = at(scores_TE, choice.token, experts, e);
      choice.dropped = false;
      ++taken_E[static_cast<std::size_t>(e)];
      break;
    }
  }
}

double load_balance(const BalanceProblem& p, const Values& p_TE) {
  const Index part = p.sequence == 0 ? std::max<Index>(p.tokens, 1) : p.sequence;
  double loss = 0.0, parts = 0.0;
  for (Index begin = 0; begin < p.tokens; begin += part) {
    const Index end = std::min(p.tokens, begin + part);
    if (real_tokens(p, begin, end) == 0) continue;
    parts += 1.0;
    double total = 0.0;
    const auto count = [&](Index e) {
      const double before = p.before_E.empty() ? 0.0 : p.before_E[static_cast<std::size_t>(e)];
      return count_of(p, e, begin, end, p.first_only) + before;
    };
    for (Index e = 0; e < p.experts; ++e) total += count(e);
    for (Index e = 0; e < p.experts; ++e)
      loss += static_cast<double>(p.experts) * count(e) / total * mean_probability(p, p_TE, e, begin, end);
  }
  return parts == 0.0 ? 0.0 : loss / parts;
}

double usage_variance(const BalanceProblem& p) {
  double mean = static_cast<double>(p.choices.size()) / static_cast<double>(p.experts), sum = 0.0;
  if (mean == 0.0) return 0.0;
  for (Index e = 0; e < p.experts; ++e) {
    const double count = count_of(p, e, 0, p.tokens, false);
    sum += (count - mean) * (count - mean);
  }
  return sum / static_cast<double>(p.experts) / (mean * mean);
}

double usage_variance_surrogate(const BalanceProblem& p, const Values& p_TE) {
  double sum = 0.0;
  const auto experts = static_cast<double>(p.experts);
  for (Index e = 0; e < p.experts; ++e)
    sum += 2.0 / experts * (experts * share_of(p, e) - 1.0) * experts * mean_probability(p, p_TE, e, 0, p.tokens);
  return sum;
}

double device(const BalanceProblem& p, const Values& p_TE) {
  if (real_tokens(p, 0, p.tokens) == 0) return 0.0;
  const Index size = p.experts / p.devices;
  double loss = 0.0;
  for (Index g = 0; g < p.devices; ++g) {
    double load = 0.0, probability = 0.0;
    for (Index e = g * size; e < (g + 1) * size; ++e) {
      load += static_cast<double>(p.experts) * share_of(p, e) / static_cast<double>(size);
      probability += mean_probability(p, p_TE, e, 0, p.tokens);
    }
    loss += load * probability;
  }
  return loss;
}

double communication(const BalanceProblem& p, const Values& p_TE) {
  const Index tokens = real_tokens(p, 0, p.tokens), size = p.experts / p.devices;
  if (tokens == 0) return 0.0;
  double loss = 0.0;
  for (Index g = 0; g < p.devices; ++g) {
    std::set<Index> sent;
    for (const MoeChoice& choice : p.choices)
      if (chosen(choice) / size == g) sent.insert(choice.token);
    double probability = 0.0;
    for (Index e = g * size; e < (g + 1) * size; ++e) probability += mean_probability(p, p_TE, e, 0, p.tokens);
    loss += static_cast<double>(p.devices) / static_cast<double>(p.devices_a_token * tokens) *
            static_cast<double>(sent.size()) * probability;
  }
  return loss;
}

double entropy(const BalanceProblem& p, const Values& p_TE) {
  double sum = 0.0;
  for (Index t = 0; t < p.tokens; ++t) {
    if (!real(p.valid_T, t)) continue;
    for (Index e = 0; e < p.experts; ++e)
      if (const double q = at(p_TE, t, p.experts, e); q > 0.0) sum -= q * std::log(q);
  }
  const Index tokens = real_tokens(p, 0, p.tokens);
  return tokens == 0 ? 0.0 : sum / static_cast<double>(tokens);
}

double importance_cv(const std::vector<MoeChoice>& choices, Index experts) {
  Values sum_E(static_cast<std::size_t>(experts));
  for (const MoeChoice& choice : choices) sum_E[static_cast<std::size_t>(choice.expert)] += choice.weight;
  return squared_cv(sum_E);
}

double load_cv(const BalanceProblem& p, const Values& clean_TE, const Values& std_TE, const Values& draw_TE) {
  Values load_E(static_cast<std::size_t>(p.experts));
  for (Index t = 0; t < p.tokens; ++t) {
    if (!real(p.valid_T, t)) continue;
    Values noisy_E;
    for (Index e = 0; e < p.experts; ++e)
      noisy_E.push_back(at(clean_TE, t, p.experts, e) + at(std_TE, t, p.experts, e) * at(draw_TE, t, p.experts, e));
    Values sorted = noisy_E;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    const double last_in = sorted[static_cast<std::size_t>(p.top_k) - 1],
                 first_out = sorted[static_cast<std::size_t>(p.top_k)];
    for (Index e = 0; e < p.experts; ++e) {
      const double threshold = noisy_E[static_cast<std::size_t>(e)] > first_out ? first_out : last_in;
      const double z = (at(clean_TE, t, p.experts, e) - threshold) / at(std_TE, t, p.experts, e);
      load_E[static_cast<std::size_t>(e)] += 0.5 * (1.0 + std::erf(z / std::numbers::sqrt2));
    }
  }
  return squared_cv(load_E);
}

Values quantile_bias(const Values& scores_TE, const Values& bias_E, Index experts, Index top_k,
                     const std::vector<std::uint8_t>& valid_T) {
  const Index tokens = static_cast<Index>(scores_TE.size()) / experts;
  std::vector<Values> margins(static_cast<std::size_t>(experts));
  Index count = 0;
  for (Index t = 0; t < tokens; ++t) {
    if (!real(valid_T, t)) continue;
    ++count;
    Values biased;
    for (Index e = 0; e < experts; ++e)
      biased.push_back(at(scores_TE, t, experts, e) + bias_E[static_cast<std::size_t>(e)]);
    std::sort(biased.begin(), biased.end(), std::greater<>());
    for (Index e = 0; e < experts; ++e)
      margins[static_cast<std::size_t>(e)].push_back(at(scores_TE, t, experts, e) -
                                                     biased[static_cast<std::size_t>(top_k)]);
  }
  Values result;
  for (Values& margin : margins) {
    std::sort(margin.begin(), margin.end(), std::greater<>());
    result.push_back(-margin[static_cast<std::size_t>(count * top_k / experts)]);
  }
  return result;
}

}  // namespace switchyard::oracle
