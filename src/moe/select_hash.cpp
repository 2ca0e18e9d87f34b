#include <limits>

#include "schemes.hpp"
#include "selection.hpp"

namespace switchyard::moe {
namespace {

// The table is never made: an entry is a function of seed and id. Steps count up from 0, so that no stream of a router
// is this one. Entries of an id stand so far apart that its first expert is the same for every top_k.
RandomStream table_of(const RouterConfig& router) {
  return {router.hash_seed, RandomPurpose::kRouter, std::numeric_limits<std::uint32_t>::max()};
}

Assignments experts_of_ids(const RouterConfig& router, const SelectionInput& input) {
  require_shapes(router, input);
  const Index experts = input.scores_TE.cols, k = router.top_k;
  if (static_cast<Index>(input.token_id_T.size()) != input.scores_TE.rows)
    fail(ErrorKind::kBadInput, "router.select '{}' goes by token ids: {} were given for {} tokens", router.select,
         input.token_id_T.size(), input.scores_TE.rows);
  const RandomStream table = table_of(router);
  return assign_k(k, 64 * k, input, [&](Index t, std::int32_t* expert_K) {
    std::vector<std::int32_t> taken;
    const auto id = static_cast<std::uint32_t>(input.token_id_T[static_cast<std::size_t>(t)]);
    distinct_experts(table, std::uint64_t{id} * static_cast<std::uint64_t>(4 * kMaxExperts), experts, k, expert_K,
                     taken);
  });
}

}  // namespace

Assignments select_hash(const RouterConfig& router, const SelectionInput& input) {
  Assignments list = experts_of_ids(router, input);
  std::fill(list.score_A.begin(), list.score_A.end(), 1.0F);
  return list;
}

void select_hash_backward(const RouterConfig&, const SelectionInput&, const Assignments&, std::span<const float>,
                          Matrix) {}  // scores are constants

Assignments select_hash_gated(const RouterConfig& router, const SelectionInput& input) {
  return experts_of_ids(router, input);
}

}  // namespace switchyard::moe
