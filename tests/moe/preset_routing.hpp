#pragma once
// What a preset's own stages route, and the functions that published formulas are written with, in double.

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <vector>

#include "support.hpp"
#include "switchyard/moe/presets.hpp"
#include "switchyard/moe/score.hpp"
#include "switchyard/moe/select.hpp"
#include "switchyard/moe/weights.hpp"

namespace switchyard::moe {

using Chosen = std::map<Index, double>;  // expert to weight
using Row = std::vector<double>;

inline MoeConfig config_of(const char* name, Index experts) {
  MoeConfig config;
  config.router.experts = experts;
  config.expert.hidden = 1;
  config.shared.hidden = 1;
  apply_preset(find_preset(name), config);
  return config;
}

// Outside training: no noise, no capacity.
inline Assignments assignments_of(const MoeConfig& config, const std::vector<float>& logits,
                                  const std::vector<float>& bias = {}, std::span<const std::int32_t> token_id_T = {}) {
  const RouterConfig& router = config.router;
  const Index experts = router.choices();
  std::vector<float> scores(logits.size());
  find_score_function(router.score).forward(router, matrix_of(logits, experts), matrix_of(scores, experts));
  Assignments list = find_selection_rule(router.select)
                         .select(router, {.logits_TR = matrix_of(logits, experts),
                                          .scores_TE = matrix_of(scores, experts),
                                          .choice_TE = matrix_of(scores, experts),
                                          .selection_bias_E = bias,
                                          .token_id_T = token_id_T,
                                          .valid_T = {},
                                          .random = RandomStream(1, RandomPurpose::kRouter),
                                          .training = false,
                                          .sequence = 0,
                                          .replayed = nullptr});
  find_weight_rule(router.normalise).forward(router, list);
  return list;
}

inline Row softmax(const Row& logits) {
  Row p = logits;
  const double most = *std::max_element(p.begin(), p.end());
  double sum = 0.0;
  for (double& v : p) sum += v = std::exp(v - most);
  for (double& v : p) v /= sum;
  return p;
}
inline Row sigmoid(const Row& logits) {
  Row s = logits;
  for (double& v : s) v = 1.0 / (1.0 + std::exp(-v));
  return s;
}
inline std::vector<Index> best(const Row& key, Index k) {
  std::vector<Index> order(key.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
    return key[static_cast<std::size_t>(a)] > key[static_cast<std::size_t>(b)];
  });
  order.resize(static_cast<std::size_t>(k));
  return order;
}
inline double at(const Row& row, Index e) { return row[static_cast<std::size_t>(e)]; }

}  // namespace switchyard::moe
