#pragma once
// Limits on how many assignments an expert takes. An assignment over the limit is dropped: the token passes that
// expert by on the residual path.
//   probs     each expert keeps the assignments with the largest scores (ties: the earlier token)
//   position  each expert keeps the earliest tokens

#include <span>
#include <string_view>

#include "switchyard/moe/assignments.hpp"
#include "switchyard/moe/config.hpp"

namespace switchyard::moe {

struct DropRule {
  std::string_view name;
  // Marks dropped_A and zeroes weight_A so that no expert keeps more than `capacity`.
  void (*apply)(Index capacity, Assignments& assignments);
};

std::span<const DropRule> drop_rules();
const DropRule& find_drop_rule(std::string_view name);  // kBadInput listing the names

// max(minimum, ceil(tokens * top_k / experts * factor)); tokens without padding. -1 where factor is 0: no limit. The
// rounding of factor to float32 does not count: 80 tokens, one expert of 8 each, 1.1 times is 11.
Index expert_capacity(const CapacityConfig& capacity, const RouterConfig& router, Index tokens);

}  // namespace switchyard::moe
