#include <numeric>

#include "schemes.hpp"
#include "selection.hpp"

namespace switchyard::moe {
namespace {

// Marks, in taken_TE, the `capacity` tokens of token_N with the largest choice + bias for one expert; the earlier token
// wins a tie.
void take_tokens(const SelectionInput& input, const std::vector<Index>& token_N, Index capacity, Index e,
                 std::vector<std::uint8_t>& taken_TE) {
  std::vector<float> key_N(token_N.size());
  for (std::size_t n = 0; n < key_N.size(); ++n) key_N[n] = key_of(input, token_N[n], e);
  std::vector<std::int32_t> order(token_N.size());
  std::iota(order.begin(), order.end(), 0);
  const auto before = [&](std::int32_t a, std::int32_t b) {
    const float key_a = key_N[static_cast<std::size_t>(a)], key_b = key_N[static_cast<std::size_t>(b)];
    if (goes_before(key_a, key_b)) return true;
    return !goes_before(key_b, key_a) && a < b;
  };
  const auto end = order.begin() + capacity;
  if (end != order.end()) std::nth_element(order.begin(), end, order.end(), before);
  const Index experts = input.scores_TE.cols;
  for (auto n = order.begin(); n != end; ++n)
    taken_TE[static_cast<std::size_t>(token_N[static_cast<std::size_t>(*n)] * experts + e)] = 1;
}

}  // namespace

Assignments select_expert_choice(const RouterConfig& router, const SelectionInput& input) {
  require_shapes(router, input);
  const Index tokens = input.scores_TE.rows, experts = input.scores_TE.cols;
  const Index part = input.sequence > 0 ? input.sequence : std::max<Index>(tokens, 1);
  std::vector<std::uint8_t> taken_TE(static_cast<std::size_t>(tokens * experts));
  std::vector<Index> token_N;
  for (Index start = 0; start < tokens; start += part) {
    token_N.clear();
    for (Index t = start; t < std::min(tokens, start + part); ++t)
      if (is_valid(input.valid_T, t)) token_N.push_back(t);
    const auto count = static_cast<Index>(token_N.size());
    const Index capacity = std::min(count, (count * router.top_k + experts - 1) / experts);
    parallel_for(experts, row_grain(8 * count), [&](Index begin, Index end) {
      for (Index e = begin; e < end; ++e) take_tokens(input, token_N, capacity, e, taken_TE);
    });
  }
  return assign_up_to(experts, 2 * experts, input, [&](Index t, std::int32_t* expert_K) {
    std::int32_t* end = expert_K;
    for (Index e = 0; e < experts; ++e)
      if (taken_TE[static_cast<std::size_t>(t * experts + e)] != 0) *end++ = static_cast<std::int32_t>(e);
    std::stable_sort(expert_K, end, [&](std::int32_t a, std::int32_t b) {
      return goes_before(key_of(input, t, a), key_of(input, t, b));
    });
    return end - expert_K;
  });
}

}  // namespace switchyard::moe
