#include <cmath>

#include "schemes.hpp"
#include "selection.hpp"
#include "switchyard/tensor/tensor.hpp"

namespace switchyard::moe {
namespace {

constexpr float kEpsilon = 1e-8F;     // Megatron's
constexpr double kTolerance = 1e-4;   // on the mean change of the experts' factors
constexpr int kMostIterations = 256;  // a NaN or an expert that nobody can be sent to must not loop forever
constexpr Index kChunk = 256;         // tokens whose share of a sum is added up in one go, whatever the threads

// exp(logit - the row's largest). The factor this puts on a row is one that the row's own factor takes out again. Rows
// with NaN or infinity, and padding, become 0: they take no part.
Tensor exponentials(const SelectionInput& input) {
  const ConstMatrix logits_TE = input.logits_TR;
  Tensor cost = Tensor::uninitialized(DType::kF32, {logits_TE.rows, logits_TE.cols});
  const Matrix cost_TE = cost.matrix();
  parallel_for(logits_TE.rows, row_grain(16 * logits_TE.cols), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      const float* logit = logits_TE.row(t);
      float* row = cost_TE.row(t);
      const float most = *std::max_element(logit, logit + logits_TE.cols);
      float sum = 0.0F;
      for (Index e = 0; e < logits_TE.cols; ++e) sum += row[e] = std::exp(logit[e] - most);
      if (!is_valid(input.valid_T, t) || !std::isfinite(sum)) std::fill_n(row, logits_TE.cols, 0.0F);
    }
  });
  return cost;
}

// Eight sums side by side, which compilers turn into vectors.
float dot(const float* a, const float* b, Index count) {
  float lane[8] = {};
  Index i = 0;
  for (; i + 8 <= count; i += 8)
    for (Index l = 0; l < 8; ++l) lane[l] += a[i + l] * b[i + l];
  float sum = 0.0F;
  for (; i < count; ++i) sum += a[i] * b[i];
  for (const float part : lane) sum += part;
  return sum;
}

// The experts' factors d1: d0_t = 1 / (T sum_e d1_e c_te), d1_e = 1 / (E sum_t d0_t c_te), in turns.
std::vector<float> expert_factors(ConstMatrix cost_TE, Index tokens) {
  const Index experts = cost_TE.cols, chunks = (cost_TE.rows + kChunk - 1) / kChunk;
  std::vector<float> factor_E(static_cast<std::size_t>(experts), 1.0F);
  std::vector<float> sum_CE(static_cast<std::size_t>(chunks * experts));
  for (int iteration = 0; iteration < kMostIterations; ++iteration) {
    parallel_for(chunks, row_grain(2 * kChunk * experts), [&](Index begin, Index end) {
      for (Index c = begin; c < end; ++c) {
        float* sum_E = sum_CE.data() + c * experts;
        std::fill_n(sum_E, experts, 0.0F);
        for (Index t = c * kChunk; t < std::min(cost_TE.rows, (c + 1) * kChunk); ++t) {
          const float* cost_E = cost_TE.row(t);
          const float row = dot(factor_E.data(), cost_E, experts);
          const float token_factor = 1.0F / (static_cast<float>(tokens) * (row + kEpsilon));
          for (Index e = 0; e < experts; ++e) sum_E[e] += token_factor * cost_E[e];
        }
      }
    });
    double change = 0.0;
    for (Index e = 0; e < experts; ++e) {
      double sum = 0.0;
      for (Index c = 0; c < chunks; ++c) sum += static_cast<double>(sum_CE[static_cast<std::size_t>(c * experts + e)]);
      const auto factor =
          static_cast<float>(1.0 / (static_cast<double>(experts) * (sum + static_cast<double>(kEpsilon))));
      change += static_cast<double>(std::abs(factor - factor_E[static_cast<std::size_t>(e)]));
      factor_E[static_cast<std::size_t>(e)] = factor;
    }
    if (change / static_cast<double>(experts) <= kTolerance) break;
  }
  return factor_E;
}

}  // namespace

// The best experts of a token are those with the largest d1_e c_te; its own factor changes none of it. A row that took
// no part is ranked by its logits.
Assignments select_sinkhorn(const RouterConfig& router, const SelectionInput& input) {
  require_shapes(router, input);
  const Index experts = input.scores_TE.cols, k = router.top_k;
  require(input.logits_TR.cols == experts, "{} logits for {} experts", input.logits_TR.cols, experts);
  Tensor cost;
  std::vector<float> factor_E;
  if (input.training) {
    cost = exponentials(input);
    factor_E = expert_factors(std::as_const(cost).matrix(), count_valid(input.valid_T, input.scores_TE.rows));
  }
  return assign_k(k, 3 * experts, input, [&](Index t, std::int32_t* expert_K) {
    std::vector<float> best(static_cast<std::size_t>(k)), key_E;
    const float* key = input.logits_TR.row(t);
    if (input.training) {
      const float* cost_E = std::as_const(cost).matrix().row(t);
      if (*std::max_element(cost_E, cost_E + experts) > 0.0F) {
        key_E.resize(static_cast<std::size_t>(experts));
        for (std::size_t e = 0; e < key_E.size(); ++e) key_E[e] = factor_E[e] * cost_E[e];
        key = key_E.data();
      }
    }
    top_k_of_row(key, nullptr, experts, k, best.data(), expert_K);
  });
}

}  // namespace switchyard::moe
