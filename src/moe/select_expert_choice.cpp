#include <bit>

#include "schemes.hpp"
#include "selection.hpp"

namespace switchyard::moe {
namespace {

constexpr Index kBlock = 16;  // experts that are read together: neighbours in memory

// A whole number that is the smaller the better the key is, with the token's place for a tie: plain numbers are
// compared several times as fast. NaN is the worst.
std::uint64_t order_of(float key, std::size_t place) {
  std::uint32_t rising = 0;
  if (key == key) {
    const auto bits = std::bit_cast<std::uint32_t>(key + 0.0F);  // no -0
    rising = (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
  }
  return (std::uint64_t{~rising} << 32) | place;
}

// Marks, in taken_TE, the `capacity` best tokens of token_N for each of the experts [begin, end); the earlier token
// wins a tie.
void take_tokens(const SelectionInput& input, const std::vector<Index>& token_N, Index capacity, Index begin, Index end,
                 std::vector<std::uint8_t>& taken_TE) {
  const Index experts = input.scores_TE.cols;
  std::vector<std::vector<std::uint64_t>> order_EN(static_cast<std::size_t>(end - begin));
  for (auto& order_N : order_EN) order_N.resize(token_N.size());
  for (std::size_t n = 0; n < token_N.size(); ++n)
    for (Index e = begin; e < end; ++e)
      order_EN[static_cast<std::size_t>(e - begin)][n] = order_of(key_of(input, token_N[n], e), n);
  for (Index e = begin; e < end; ++e) {
    std::vector<std::uint64_t>& order_N = order_EN[static_cast<std::size_t>(e - begin)];
    const auto last = order_N.begin() + capacity;
    if (8 * capacity < static_cast<Index>(order_N.size())) {
      std::partial_sort(order_N.begin(), last, order_N.end());  // turns most away at one look
    } else if (last != order_N.end()) {
      std::nth_element(order_N.begin(), last, order_N.end());
    }
    for (auto n = order_N.begin(); n != last; ++n)
      taken_TE[static_cast<std::size_t>(token_N[static_cast<std::size_t>(*n & 0xFFFFFFFFU)] * experts + e)] = 1;
  }
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
    parallel_for((experts + kBlock - 1) / kBlock, row_grain(8 * count * kBlock), [&](Index begin, Index end) {
      for (Index block = begin; block < end; ++block)
        take_tokens(input, token_N, capacity, block * kBlock, std::min(experts, (block + 1) * kBlock), taken_TE);
    });
  }
  return assign_up_to(experts, 2 * experts, input, [&](Index t, std::int32_t* expert_K) {
    std::int32_t* end = expert_K;
    for (Index e = 0; e < experts; ++e)
      if (taken_TE[static_cast<std::size_t>(t * experts + e)] != 0) *end++ = static_cast<std::int32_t>(e);
    std::sort(expert_K, end, [&](std::int32_t a, std::int32_t b) {
      const float key_a = key_of(input, t, a), key_b = key_of(input, t, b);
      return goes_before(key_a, key_b) || (!goes_before(key_b, key_a) && a < b);
    });
    return end - expert_K;
  });
}

}  // namespace switchyard::moe
