#include <algorithm>

#include "loss_rules.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::moe {
namespace {

// Sums over tokens are cut into blocks of this many, whatever the number of threads.
constexpr Index kBlock = 64;

}  // namespace

std::vector<Index> count_choices(const Assignments& list, bool first_only, Index begin, Index end) {
  std::vector<Index> count_E(static_cast<std::size_t>(list.experts));
  const std::vector<std::int32_t>& choices = list.choices();
  for (auto t = static_cast<std::size_t>(begin); t < static_cast<std::size_t>(end); ++t) {
    const auto first = static_cast<std::size_t>(list.offset_T1[t]);
    auto last = static_cast<std::size_t>(list.offset_T1[t + 1]);
    if (first_only) last = std::min(last, first + 1);
    for (std::size_t a = first; a < last; ++a) ++count_E[static_cast<std::size_t>(choices[a])];
  }
  return count_E;
}

std::vector<double> shares(const std::vector<Index>& count_E) {
  Index total = 0;
  for (const Index count : count_E) total += count;
  std::vector<double> share_E(count_E.size());
  for (std::size_t e = 0; e < share_E.size(); ++e)
    share_E[e] = static_cast<double>(count_E[e]) / static_cast<double>(std::max<Index>(total, 1));
  return share_E;
}

std::vector<double> probability_sum(ConstMatrix p_TE, std::span<const std::uint8_t> valid_T, Index begin, Index end) {
  const Index experts = p_TE.cols, blocks = ceil_div(end - begin, kBlock);
  std::vector<double> partial(static_cast<std::size_t>(blocks * experts));
  parallel_for(blocks, std::max<Index>(1, row_grain(experts) / kBlock), [&](Index first, Index last) {
    for (Index block = first; block < last; ++block) {
      double* sum_E = partial.data() + block * experts;
      for (Index t = begin + block * kBlock; t < std::min(end, begin + (block + 1) * kBlock); ++t) {
        if (!is_valid(valid_T, t)) continue;
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

void add_probability_gradient(const RouterProbabilities& probabilities, std::span<const float> d_p_E,
                              std::span<const std::uint8_t> valid_T, Index begin, Index end,
                              const LossGradients& gradients) {
  parallel_for(end - begin, row_grain(static_cast<Index>(d_p_E.size())), [&](Index first, Index last) {
    for (Index t = begin + first; t < begin + last; ++t)
      if (is_valid(valid_T, t)) probabilities.backward_row(t, d_p_E.data(), gradients);
  });
}

}  // namespace switchyard::moe
