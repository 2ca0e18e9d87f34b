#include "switchyard/moe/losses.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "probabilities.hpp"
#include "rows.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/elementwise.hpp"
#include "switchyard/tensor/tensor.hpp"

namespace switchyard::moe {
namespace {

// Sums over tokens are cut into blocks of this many, whatever the number of threads.
constexpr Index kBlock = 64;

// Share of all assignments that chose each expert.
std::vector<float> chosen_share(const Assignments& list) {
  std::vector<Index> count_E(static_cast<std::size_t>(list.experts));
  for (const std::int32_t e : list.expert_A) ++count_E[static_cast<std::size_t>(e)];
  std::vector<float> share_E(count_E.size());
  const double total = static_cast<double>(std::max<Index>(list.size(), 1));
  for (std::size_t e = 0; e < share_E.size(); ++e)
    share_E[e] = static_cast<float>(static_cast<double>(count_E[e]) / total);
  return share_E;
}

// Sum over valid tokens of each expert's probability.
std::vector<double> probability_sum(const LossInput& input) {
  const RouterProbabilities probabilities(input.config.router, input.logits_TR, input.scores_TE);
  const ConstMatrix p_TE = probabilities.matrix();
  const Index tokens = input.scores_TE.rows, experts = input.scores_TE.cols, blocks = ceil_div(tokens, kBlock);
  std::vector<double> partial(static_cast<std::size_t>(blocks * experts));
  parallel_for(blocks, std::max<Index>(1, row_grain(experts) / kBlock), [&](Index begin, Index end) {
    for (Index block = begin; block < end; ++block) {
      double* sum_E = partial.data() + block * experts;
      for (Index t = block * kBlock; t < std::min(tokens, (block + 1) * kBlock); ++t) {
        if (!is_valid(input.valid_T, t)) continue;
        for (Index e = 0; e < experts; ++e) sum_E[e] += static_cast<double>(p_TE(t, e));
      }
    }
  });
  std::vector<double> sum_E(static_cast<std::size_t>(experts));
  for (Index block = 0; block < blocks; ++block)
    for (Index e = 0; e < experts; ++e)
      sum_E[static_cast<std::size_t>(e)] += partial[static_cast<std::size_t>(block * experts + e)];
  return sum_E;
}

constexpr std::array kRouterLosses = {
    RouterLoss{"load_balance", &BalanceConfig::load_balance, &RoutingLosses::load_balance, load_balance_loss,
               load_balance_backward, true},
    RouterLoss{"z_loss", &BalanceConfig::z_loss, &RoutingLosses::z_loss, z_loss, z_loss_backward, true},
};

// The softmax of the logits, and from it each token's log of the sum of exponentials: logit - log(p), taken where p
// is largest and therefore most exact.
struct LogSumExp {
  explicit LogSumExp(ConstMatrix logits_TE)
      : softmax_TE(Tensor::uninitialized(DType::kF32, {logits_TE.rows, logits_TE.cols})),
        value_T(static_cast<std::size_t>(logits_TE.rows)) {
    const Matrix p_TE = softmax_TE.matrix();
    kernels::softmax_rows(logits_TE, p_TE);
    parallel_for(logits_TE.rows, row_grain(logits_TE.cols), [&](Index begin, Index end) {
      for (Index t = begin; t < end; ++t) {
        const float* p = p_TE.row(t);
        const Index best = std::max_element(p, p + p_TE.cols) - p;
        value_T[static_cast<std::size_t>(t)] = logits_TE(t, best) - std::log(p[best]);
      }
    });
  }
  Tensor softmax_TE;
  std::vector<float> value_T;
};

}  // namespace

float load_balance_loss(const LossInput& input) {
  const Index tokens = count_valid(input.valid_T, input.scores_TE.rows), experts = input.scores_TE.cols;
  if (tokens == 0) return 0.0F;
  const std::vector<float> share_E = chosen_share(input.assignments);
  const std::vector<double> sum_E = probability_sum(input);
  double loss = 0.0;
  for (std::size_t e = 0; e < share_E.size(); ++e) loss += static_cast<double>(share_E[e]) * sum_E[e];
  return static_cast<float>(loss * static_cast<double>(experts) / static_cast<double>(tokens));
}

void load_balance_backward(const LossInput& input, float d, const LossGradients& gradients) {
  const Index tokens = count_valid(input.valid_T, input.scores_TE.rows), experts = input.scores_TE.cols;
  if (tokens == 0) return;
  std::vector<float> d_p_E = chosen_share(input.assignments);
  const RouterProbabilities probabilities(input.config.router, input.logits_TR, input.scores_TE);
  for (float& value : d_p_E) value *= d * static_cast<float>(experts) / static_cast<float>(tokens);
  parallel_for(input.scores_TE.rows, row_grain(experts), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      if (!is_valid(input.valid_T, t)) continue;
      probabilities.backward_row(t, d_p_E.data(), gradients);
    }
  });
}

float z_loss(const LossInput& input) {
  const Index tokens = count_valid(input.valid_T, input.logits_TR.rows);
  if (tokens == 0) return 0.0F;
  const LogSumExp log_sum_exp(input.logits_TR);
  double sum = 0.0;
  for (Index t = 0; t < input.logits_TR.rows; ++t) {
    const auto value = static_cast<double>(log_sum_exp.value_T[static_cast<std::size_t>(t)]);
    if (is_valid(input.valid_T, t)) sum += value * value;
  }
  return static_cast<float>(sum / static_cast<double>(tokens));
}

void z_loss_backward(const LossInput& input, float d, const LossGradients& gradients) {
  const Index tokens = count_valid(input.valid_T, input.logits_TR.rows), experts = input.logits_TR.cols;
  if (tokens == 0) return;
  const LogSumExp log_sum_exp(input.logits_TR);
  const ConstMatrix p_TE = log_sum_exp.softmax_TE.matrix();
  parallel_for(p_TE.rows, row_grain(experts), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      if (!is_valid(input.valid_T, t)) continue;
      const float factor = d * 2.0F * log_sum_exp.value_T[static_cast<std::size_t>(t)] / static_cast<float>(tokens);
      for (Index e = 0; e < experts; ++e) gradients.logits_TR(t, e) += factor * p_TE(t, e);
    }
  });
}

std::span<const RouterLoss> router_losses() { return kRouterLosses; }

void update_selection_bias(std::span<const Index> load_E, float rate, std::span<float> selection_bias_E) {
  require(load_E.size() == selection_bias_E.size(), "{} loads for a selection bias of {} values", load_E.size(),
          selection_bias_E.size());
  Index total = 0;
  for (const Index load : load_E) total += load;
  for (std::size_t e = 0; e < load_E.size(); ++e) {
    // load < mean, without the rounding of a division.
    const Index scaled = load_E[e] * static_cast<Index>(load_E.size());
    if (scaled < total) selection_bias_E[e] += rate;
    if (scaled > total) selection_bias_E[e] -= rate;
  }
}

}  // namespace switchyard::moe
