#include <cmath>
#include <limits>

#include "schemes.hpp"
#include "selection.hpp"

namespace switchyard::moe {
namespace {

// A bid's step as a share of the spread of the values: how far from the best sum a token's place may be.
constexpr float kStep = 1.0F / 256.0F;
constexpr Index kMostBids = 64;  // a token, on the mean; what is left then goes to whoever has room

struct Bid {
  float price;
  std::int32_t token;
};
// On top of the heap: the lowest bid, of equal ones the latest token's.
bool stays_before(const Bid& a, const Bid& b) { return a.price != b.price ? a.price > b.price : a.token < b.token; }

// Finite values for an auction: NaN counts as the smallest, infinities as a spread beyond the rest.
struct Values {
  explicit Values(const SelectionInput& input) : logits_TE(input.logits_TR) {
    least = std::numeric_limits<float>::max();
    most = std::numeric_limits<float>::lowest();
    for (Index t = 0; t < logits_TE.rows; ++t) {
      if (!is_valid(input.valid_T, t)) continue;
      for (Index e = 0; e < logits_TE.cols; ++e)
        if (std::isfinite(logits_TE(t, e))) {
          least = std::min(least, logits_TE(t, e));
          most = std::max(most, logits_TE(t, e));
        }
    }
    if (most < least) least = most = 0.0F;
    least = std::max(least, -1e30F);
    most = std::min(most, 1e30F);
  }
  float operator()(Index t, Index e) const {
    const float v = logits_TE(t, e);
    if (v != v) return least - spread();
    return std::min(std::max(v, least - spread()), most + spread());
  }
  float spread() const { return most - least; }
  ConstMatrix logits_TE;
  float least, most;
};

// Every token bids for the expert that is worth most to it after its price, by how much that is better than the second;
// an expert keeps the `room` highest bids, and its price is the lowest of them once it is full.
std::vector<std::int32_t> auction(const Values& value, const std::vector<std::int32_t>& token_N, Index room) {
  const Index experts = value.logits_TE.cols;
  std::vector<std::int32_t> expert_T(static_cast<std::size_t>(value.logits_TE.rows), -1);
  std::vector<std::vector<Bid>> held(static_cast<std::size_t>(experts));
  std::vector<float> price_E(static_cast<std::size_t>(experts), 0.0F);
  const float step = std::max(value.spread(), 1e-3F) * kStep;
  std::vector<std::int32_t> waiting(token_N.rbegin(), token_N.rend());
  Index bids = kMostBids * static_cast<Index>(token_N.size());
  for (; !waiting.empty() && bids > 0; --bids) {
    const std::int32_t t = waiting.back();
    waiting.pop_back();
    constexpr float kLeast = -std::numeric_limits<float>::infinity();
    float first = kLeast, second = kLeast;
    Index best = 0;
    for (Index e = 0; e < experts; ++e) {
      const float worth = value(t, e) - price_E[static_cast<std::size_t>(e)];
      if (worth > first) {
        second = first;
        first = worth;
        best = e;
      } else if (worth > second) {
        second = worth;
      }
    }
    const auto b = static_cast<std::size_t>(best);
    const float margin = experts > 1 ? first - second : 0.0F;
    held[b].push_back({price_E[b] + margin + step, t});
    std::push_heap(held[b].begin(), held[b].end(), stays_before);
    expert_T[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(best);
    if (static_cast<Index>(held[b].size()) > room) {
      std::pop_heap(held[b].begin(), held[b].end(), stays_before);
      const std::int32_t evicted = held[b].back().token;
      held[b].pop_back();
      expert_T[static_cast<std::size_t>(evicted)] = -1;
      waiting.push_back(evicted);
    }
    if (static_cast<Index>(held[b].size()) == room) price_E[b] = held[b].front().price;
  }
  for (; !waiting.empty(); waiting.pop_back()) {
    const std::int32_t t = waiting.back();
    Index best = -1;
    for (Index e = 0; e < experts; ++e)
      if (static_cast<Index>(held[static_cast<std::size_t>(e)].size()) < room &&
          (best < 0 || value(t, e) > value(t, best)))
        best = e;
    held[static_cast<std::size_t>(best)].push_back({0.0F, t});
    expert_T[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(best);
  }
  return expert_T;
}

}  // namespace

Assignments select_base(const RouterConfig& router, const SelectionInput& input) {
  require_shapes(router, input);
  const Index experts = input.scores_TE.cols;
  require(router.top_k == 1 && input.logits_TR.cols == experts, "select base with top-{} and {} logits for {} experts",
          router.top_k, input.logits_TR.cols, experts);
  std::vector<std::int32_t> expert_T;
  if (input.training) {
    std::vector<std::int32_t> token_N;
    for (Index t = 0; t < input.scores_TE.rows; ++t)
      if (is_valid(input.valid_T, t)) token_N.push_back(static_cast<std::int32_t>(t));
    const Index room = (static_cast<Index>(token_N.size()) + experts - 1) / experts;
    expert_T = auction(Values(input), token_N, room);
  }
  return assign_k(1, experts, input, [&](Index t, std::int32_t* expert_K) {
    float best = 0.0F;
    if (input.training) {
      expert_K[0] = expert_T[static_cast<std::size_t>(t)];
    } else {
      top_k_of_row(input.logits_TR.row(t), nullptr, experts, 1, &best, expert_K);
    }
  });
}

}  // namespace switchyard::moe
