#include <algorithm>

#include "loss_rules.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::moe {
namespace {

// The tokens over which shares and probabilities are taken: all of them, or those of a sequence.
Index tokens_a_part(const LossInput& input) {
  const Index tokens = std::max<Index>(input.scores_TE.rows, 1);
  const bool by_sequence = input.config.balance.load_balance_scope == "sequence" && input.sequence > 0;
  return by_sequence ? std::min(input.sequence, tokens) : tokens;
}

std::vector<double> share_of_part(const LossInput& input, Index begin, Index end) {
  const BalanceConfig& balance = input.config.balance;
  std::vector<Index> count_E = count_choices(input.assignments, balance.load_balance_counts == "first", begin, end);
  if (balance.load_balance_scope == "global-batch" && !input.load_before_E.empty()) {
    require(input.load_before_E.size() == count_E.size(), "a load of {} experts before this micro-batch, expected {}",
            input.load_before_E.size(), count_E.size());
    for (std::size_t e = 0; e < count_E.size(); ++e) count_E[e] += input.load_before_E[e];
  }
  return shares(count_E);
}

// Calls f(begin, end, real tokens) for every part with real tokens. Returns how many there are.
template <class F>
Index for_parts(const LossInput& input, const F& f) {
  const Index tokens = input.scores_TE.rows, size = tokens_a_part(input);
  Index parts = 0;
  for (Index begin = 0; begin < tokens; begin += size) {
    const Index end = std::min(tokens, begin + size), real = valid_between(input.valid_T, begin, end);
    if (real == 0) continue;
    ++parts;
    f(begin, end, real);
  }
  return parts;
}

}  // namespace

std::vector<Index> balance_counts(const BalanceConfig& balance, const Assignments& list) {
  return count_choices(list, balance.load_balance_counts == "first", 0, list.tokens);
}

float load_balance_loss(const LossInput& input) {
  const RouterProbabilities probabilities(input.config.router, input.logits_TR, input.scores_TE);
  double loss = 0.0;
  const Index parts = for_parts(input, [&](Index begin, Index end, Index real) {
    const std::vector<double> share_E = share_of_part(input, begin, end),
                              sum_E = probability_sum(probabilities.matrix(), input.valid_T, begin, end);
    double product = 0.0;
    for (std::size_t e = 0; e < share_E.size(); ++e) product += share_E[e] * sum_E[e];
    loss += product / static_cast<double>(real);
  });
  if (parts == 0) return 0.0F;
  return static_cast<float>(loss * static_cast<double>(input.scores_TE.cols) / static_cast<double>(parts));
}

void load_balance_backward(const LossInput& input, float d, const LossGradients& gradients) {
  const Index parts = for_parts(input, [](Index, Index, Index) {});
  if (parts == 0) return;
  const RouterProbabilities probabilities(input.config.router, input.logits_TR, input.scores_TE);
  const double scale = static_cast<double>(d) * static_cast<double>(input.scores_TE.cols) / static_cast<double>(parts);
  for_parts(input, [&](Index begin, Index end, Index real) {
    const std::vector<double> share_E = share_of_part(input, begin, end);
    std::vector<float> d_p_E(share_E.size());
    for (std::size_t e = 0; e < share_E.size(); ++e)
      d_p_E[e] = static_cast<float>(share_E[e] * scale / static_cast<double>(real));
    add_probability_gradient(probabilities, d_p_E, input.valid_T, begin, end, gradients);
  });
}

}  // namespace switchyard::moe
