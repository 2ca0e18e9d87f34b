#include "switchyard/moe/weights.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "named_table.hpp"
#include "rows.hpp"

namespace switchyard::moe {
namespace {

constexpr float kNoScore = -std::numeric_limits<float>::infinity();

void keep(const RouterConfig& router, Assignments& list) {
  for (std::size_t a = 0; a < list.score_A.size(); ++a) list.weight_A[a] = router.scale * list.score_A[a];
}

void keep_backward(const RouterConfig& router, const Assignments&, std::span<const float> d_weight_A,
                   std::span<float> d_score_A) {
  for (std::size_t a = 0; a < d_weight_A.size(); ++a) d_score_A[a] = router.scale * d_weight_A[a];
}

// Calls f(begin, end) with the assignments of each token.
template <class F>
void for_each_token(const Assignments& list, const F& f) {
  for (std::size_t t = 0; t < static_cast<std::size_t>(list.tokens); ++t)
    f(static_cast<std::size_t>(list.offset_T1[t]), static_cast<std::size_t>(list.offset_T1[t + 1]));
}

float score_sum(const Assignments& list, std::size_t begin, std::size_t end) {
  float sum = kSumEpsilon;
  for (std::size_t a = begin; a < end; ++a) sum += list.score_A[a];
  return sum;
}

void divide_by_sum(const RouterConfig& router, Assignments& list) {
  for_each_token(list, [&](std::size_t begin, std::size_t end) {
    const float sum = score_sum(list, begin, end);
    for (std::size_t a = begin; a < end; ++a) list.weight_A[a] = router.scale * (list.score_A[a] / sum);
  });
}

// w_i = scale * s_i / S, so dL/ds_j = scale * (g_j - sum_i g_i s_i / S) / S.
void divide_by_sum_backward(const RouterConfig& router, const Assignments& list, std::span<const float> d_weight_A,
                            std::span<float> d_score_A) {
  for_each_token(list, [&](std::size_t begin, std::size_t end) {
    const float sum = score_sum(list, begin, end);
    float mean = 0.0F;
    for (std::size_t a = begin; a < end; ++a) mean += d_weight_A[a] * (list.score_A[a] / sum);
    for (std::size_t a = begin; a < end; ++a) d_score_A[a] = router.scale * (d_weight_A[a] - mean) / sum;
  });
}

float norm(const RouterConfig& router, const Assignments& list, std::size_t begin, std::size_t end) {
  double sum = 0.0;
  for (std::size_t a = begin; a < end; ++a)
    sum += std::pow(std::abs(static_cast<double>(list.score_A[a])), static_cast<double>(router.norm_p));
  return static_cast<float>(std::pow(sum, 1.0 / static_cast<double>(router.norm_p))) + kSumEpsilon;
}

void divide_by_norm(const RouterConfig& router, Assignments& list) {
  for_each_token(list, [&](std::size_t begin, std::size_t end) {
    const float divisor = norm(router, list, begin, end);
    for (std::size_t a = begin; a < end; ++a) list.weight_A[a] = router.scale * (list.score_A[a] / divisor);
  });
}

// N = (sum |s|^p)^(1/p) has dN/ds_j = sign(s_j) (|s_j| / N)^(p-1), so dL/ds_j = scale (g_j - dN/ds_j sum_i g_i s_i / N)
// / N.
void divide_by_norm_backward(const RouterConfig& router, const Assignments& list, std::span<const float> d_weight_A,
                             std::span<float> d_score_A) {
  for_each_token(list, [&](std::size_t begin, std::size_t end) {
    const float divisor = norm(router, list, begin, end);
    float mean = 0.0F;
    for (std::size_t a = begin; a < end; ++a) mean += d_weight_A[a] * (list.score_A[a] / divisor);
    for (std::size_t a = begin; a < end; ++a) {
      const float ratio = list.score_A[a] / divisor;
      const float slope = ratio == 0.0F && router.norm_p > 1.0F
                              ? 0.0F
                              : std::copysign(std::pow(std::abs(ratio), router.norm_p - 1.0F), ratio);
      d_score_A[a] = router.scale * (d_weight_A[a] - slope * mean) / divisor;
    }
  });
}

void softmax_of_chosen(const RouterConfig& router, Assignments& list) {
  for_each_token(list, [&](std::size_t begin, std::size_t end) {
    if (begin == end) return;
    const float most = *std::max_element(list.score_A.begin() + static_cast<std::ptrdiff_t>(begin),
                                         list.score_A.begin() + static_cast<std::ptrdiff_t>(end));
    if (most == kNoScore) {
      for (std::size_t a = begin; a < end; ++a) list.weight_A[a] = 0.0F;
      return;
    }
    float sum = 0.0F;
    for (std::size_t a = begin; a < end; ++a) sum += list.weight_A[a] = std::exp(list.score_A[a] - most);
    for (std::size_t a = begin; a < end; ++a) list.weight_A[a] *= router.scale / sum;
  });
}

// With p = w / scale: dL/ds_j = scale * p_j (g_j - sum_i g_i p_i). The weights are made again, since capacity may have
// changed those in the list.
void softmax_of_chosen_backward(const RouterConfig& router, const Assignments& list, std::span<const float> d_weight_A,
                                std::span<float> d_score_A) {
  Assignments again = list;
  softmax_of_chosen(router, again);
  for_each_token(list, [&](std::size_t begin, std::size_t end) {
    float mean = 0.0F;
    for (std::size_t a = begin; a < end; ++a) mean += d_weight_A[a] * (again.weight_A[a] / router.scale);
    for (std::size_t a = begin; a < end; ++a) d_score_A[a] = again.weight_A[a] * (d_weight_A[a] - mean);
  });
}

constexpr std::array kWeightRules = {
    WeightRule{"none", keep, keep_backward, 0.0F},
    WeightRule{"sum", divide_by_sum, divide_by_sum_backward, 0.0F},
    WeightRule{"p-norm", divide_by_norm, divide_by_norm_backward, 0.0F},
    WeightRule{"softmax", softmax_of_chosen, softmax_of_chosen_backward, kNoScore},
};

}  // namespace

std::span<const WeightRule> weight_rules() { return kWeightRules; }

const WeightRule& find_weight_rule(std::string_view name) {
  return require_row(weight_rules(), name, "normalisation of the router's weights");
}

}  // namespace switchyard::moe
