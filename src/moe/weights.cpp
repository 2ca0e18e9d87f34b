#include "switchyard/moe/weights.hpp"

#include <array>

#include "named_table.hpp"
#include "rows.hpp"

namespace switchyard::moe {
namespace {

void keep(float scale, Assignments& list) {
  for (std::size_t a = 0; a < list.score_A.size(); ++a) list.weight_A[a] = scale * list.score_A[a];
}

void keep_backward(float scale, const Assignments&, std::span<const float> d_weight_A, std::span<float> d_score_A) {
  for (std::size_t a = 0; a < d_weight_A.size(); ++a) d_score_A[a] = scale * d_weight_A[a];
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

void divide_by_sum(float scale, Assignments& list) {
  for_each_token(list, [&](std::size_t begin, std::size_t end) {
    const float sum = score_sum(list, begin, end);
    for (std::size_t a = begin; a < end; ++a) list.weight_A[a] = scale * (list.score_A[a] / sum);
  });
}

// w_i = scale * s_i / S, so dL/ds_j = scale * (g_j - sum_i g_i s_i / S) / S.
void divide_by_sum_backward(float scale, const Assignments& list, std::span<const float> d_weight_A,
                            std::span<float> d_score_A) {
  for_each_token(list, [&](std::size_t begin, std::size_t end) {
    const float sum = score_sum(list, begin, end);
    float mean = 0.0F;
    for (std::size_t a = begin; a < end; ++a) mean += d_weight_A[a] * (list.score_A[a] / sum);
    for (std::size_t a = begin; a < end; ++a) d_score_A[a] = scale * (d_weight_A[a] - mean) / sum;
  });
}

constexpr std::array kWeightRules = {
    WeightRule{"none", keep, keep_backward},
    WeightRule{"sum", divide_by_sum, divide_by_sum_backward},
};

}  // namespace

std::span<const WeightRule> weight_rules() { return kWeightRules; }

const WeightRule& find_weight_rule(std::string_view name) {
  return require_row(weight_rules(), name, "normalisation of the router's weights");
}

}  // namespace switchyard::moe
