#include "oracle/routing.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

namespace switchyard::oracle {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double at(const Values& v, Index i) { return v[static_cast<std::size_t>(i)]; }

// Of the candidates, the k with the largest key.
std::vector<Index> best_of(const Values& key, std::vector<Index> candidates, Index k) {
  std::stable_sort(candidates.begin(), candidates.end(), [&](Index a, Index b) { return at(key, a) > at(key, b); });
  candidates.resize(std::min(candidates.size(), static_cast<std::size_t>(k)));
  return candidates;
}

}  // namespace

Values tree_scores(const Values& logits_TR, const std::vector<Index>& levels) {
  Index row = 0, nodes = 1;
  for (const Index branches : levels) row += nodes *= branches;
  const Index experts = nodes, tokens = static_cast<Index>(logits_TR.size()) / row;
  Values scores;
  for (Index t = 0; t < tokens; ++t)
    for (Index e = 0; e < experts; ++e) {
      // Down from the root: at each level, which child the leaf is under.
      double product = 1.0;
      Index first = t * row, node = 0, leaves = experts, width = 1;
      for (const Index branches : levels) {
        leaves /= branches;
        width *= branches;
        const Index child = e / leaves;
        double sum = 0.0;
        for (Index b = 0; b < branches; ++b) sum += std::exp(at(logits_TR, first + node * branches + b));
        product *= std::exp(at(logits_TR, first + child)) / sum;
        node = child;
        first += width;
      }
      scores.push_back(product);
    }
  return scores;
}

std::vector<Index> tree_experts(const Values& key_E, const std::vector<Index>& levels, const std::vector<Index>& keep) {
  std::vector<Index> kept = {0};
  Index leaves = static_cast<Index>(key_E.size());
  for (std::size_t l = 0; l < levels.size(); ++l) {
    leaves /= levels[l];
    Values key(key_E.size(), 0.0);
    for (std::size_t e = 0; e < key_E.size(); ++e) key[e / static_cast<std::size_t>(leaves)] += key_E[e];
    std::vector<Index> next;
    for (const Index node : kept) {
      std::vector<Index> children(static_cast<std::size_t>(levels[l]));
      std::iota(children.begin(), children.end(), node * levels[l]);
      for (const Index child : best_of(key, children, keep[l])) next.push_back(child);
    }
    kept = next;
  }
  std::sort(kept.begin(), kept.end());
  return best_of(key_E, kept, static_cast<Index>(kept.size()));
}

std::vector<Index> group_limited_experts(const Values& key_E, Index groups, Index kept, const std::string& group_score,
                                         Index k) {
  const Index size = static_cast<Index>(key_E.size()) / groups;
  const Index counted = group_score == "max" ? 1 : group_score == "top-2-sum" ? 2 : k / kept;
  Values score;
  std::vector<Index> all;
  for (Index g = 0; g < groups; ++g) {
    Values group(key_E.begin() + g * size, key_E.begin() + (g + 1) * size);
    std::sort(group.rbegin(), group.rend());
    score.push_back(std::accumulate(group.begin(), group.begin() + counted, 0.0));
    all.push_back(g);
  }
  std::vector<Index> candidates;
  for (const Index g : best_of(score, all, kept))
    for (Index e = g * size; e < (g + 1) * size; ++e) candidates.push_back(e);
  std::sort(candidates.begin(), candidates.end());
  return best_of(key_E, candidates, k);
}

std::vector<std::vector<Index>> expert_choice(const Values& key_TE, Index experts, Index top_k,
                                              const std::vector<std::uint8_t>& valid_T, Index sequence) {
  const Index tokens = static_cast<Index>(key_TE.size()) / experts;
  std::vector<std::vector<Index>> of_token(static_cast<std::size_t>(tokens));
  const Index part = sequence == 0 ? std::max<Index>(tokens, 1) : sequence;
  for (Index start = 0; start < tokens; start += part) {
    std::vector<Index> real;
    for (Index t = start; t < std::min(tokens, start + part); ++t)
      if (valid_T.empty() || valid_T[static_cast<std::size_t>(t)] != 0) real.push_back(t);
    const double exact = static_cast<double>(real.size()) * static_cast<double>(top_k) / static_cast<double>(experts);
    const auto capacity = static_cast<Index>(std::ceil(exact));
    for (Index e = 0; e < experts; ++e) {
      Values key;
      for (Index t = 0; t < tokens; ++t) key.push_back(at(key_TE, t * experts + e));
      for (const Index t : best_of(key, real, capacity)) of_token[static_cast<std::size_t>(t)].push_back(e);
    }
  }
  for (Index t = 0; t < tokens; ++t) {
    const Values row(key_TE.begin() + t * experts, key_TE.begin() + (t + 1) * experts);
    of_token[static_cast<std::size_t>(t)] = best_of(row, of_token[static_cast<std::size_t>(t)], experts);
  }
  return of_token;
}

Values sinkhorn(const Values& logits_TE, Index experts) {
  const Index tokens = static_cast<Index>(logits_TE.size()) / experts;
  Values cost;
  for (const double logit : logits_TE) cost.push_back(std::exp(logit));
  Values d0(static_cast<std::size_t>(tokens), 1.0), d1(static_cast<std::size_t>(experts), 1.0);
  for (double error = 1e9; error > 1e-4;) {
    for (Index t = 0; t < tokens; ++t) {
      double sum = 0.0;
      for (Index e = 0; e < experts; ++e) sum += at(d1, e) * at(cost, t * experts + e);
      d0[static_cast<std::size_t>(t)] = 1.0 / static_cast<double>(tokens) / (sum + 1e-8);
    }
    error = 0.0;
    for (Index e = 0; e < experts; ++e) {
      double sum = 0.0;
      for (Index t = 0; t < tokens; ++t) sum += at(d0, t) * at(cost, t * experts + e);
      const double next = 1.0 / static_cast<double>(experts) / (sum + 1e-8);
      error += std::abs(next - at(d1, e)) / static_cast<double>(experts);
      d1[static_cast<std::size_t>(e)] = next;
    }
  }
  for (Index i = 0; i < tokens * experts; ++i)
    cost[static_cast<std::size_t>(i)] *= at(d0, i / experts) * at(d1, i % experts);
  return cost;
}

double best_balanced_sum(const Values& value_TE, Index experts, Index room) {
  // The best sum for each number of tokens that the experts have so far.
  std::map<std::vector<Index>, double> best = {{std::vector<Index>(static_cast<std::size_t>(experts), 0), 0.0}};
  for (Index t = 0; t < static_cast<Index>(value_TE.size()) / experts; ++t) {
    std::map<std::vector<Index>, double> next;
    for (const auto& [load, sum] : best)
      for (Index e = 0; e < experts; ++e) {
        std::vector<Index> with = load;
        if (++with[static_cast<std::size_t>(e)] > room) continue;
        const double value = sum + at(value_TE, t * experts + e);
        const auto [entry, added] = next.try_emplace(with, value);
        if (!added) entry->second = std::max(entry->second, value);
      }
    best = next;
  }
  double largest = -kInfinity;
  for (const auto& [load, sum] : best) largest = std::max(largest, sum);
  return largest;
}

std::vector<Index> top_p_experts(const Values& score_E, double threshold, Index most) {
  std::vector<Index> all(score_E.size());
  std::iota(all.begin(), all.end(), 0);
  const double whole = std::accumulate(score_E.begin(), score_E.end(), 0.0);
  std::vector<Index> taken;
  double sum = 0.0;
  for (const Index e : best_of(score_E, all, most)) {
    taken.push_back(e);
    sum += at(score_E, e) / whole;
    if (sum > threshold) break;
  }
  return taken;
}

std::vector<MixedExpert> sparse_mixer(const Values& logit_E, Index k, double jitter, const Values& gumbel_KE,
                                      const Values& uniform_K, const std::vector<Index>& fixed) {
  const auto experts = static_cast<Index>(logit_E.size());
  Values open_E = logit_E;  // -inf: taken
  std::vector<MixedExpert> mixed;
  for (Index i = 0; i < k; ++i) {
    const Index best = static_cast<Index>(std::max_element(open_E.begin(), open_E.end()) - open_E.begin());
    const double most = at(open_E, best);
    Values gate_E = open_E;
    for (Index e = 0; e < experts; ++e)
      if ((most - at(logit_E, e)) / std::max(std::abs(at(logit_E, e)), most) > 2.0 * jitter)
        gate_E[static_cast<std::size_t>(e)] = -kInfinity;
    double sum = 0.0;
    for (const double gate : gate_E) sum += std::exp(gate);
    Index chosen = best;
    if (!gumbel_KE.empty()) {
      Values key_E;
      for (Index e = 0; e < experts; ++e) key_E.push_back(at(gate_E, e) + at(gumbel_KE, i * experts + e));
      chosen = static_cast<Index>(std::max_element(key_E.begin(), key_E.end()) - key_E.begin());
    }
    if (!fixed.empty()) chosen = fixed[static_cast<std::size_t>(i)];
    MixedExpert one{chosen, std::exp(at(gate_E, chosen)) / sum, 1.0};
    if (!uniform_K.empty() && chosen != best && at(uniform_K, i) <= 0.75) one.factor = 0.3333;
    mixed.push_back(one);
    open_E[static_cast<std::size_t>(chosen)] = -kInfinity;
  }
  return mixed;
}

}  // namespace switchyard::oracle
