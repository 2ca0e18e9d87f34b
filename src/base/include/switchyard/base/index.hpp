#pragma once
// Sizes and positions. Signed, so that differences and downward loops mean what they say.

#include <cstdint>

namespace switchyard {

using Index = std::int64_t;

constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }
constexpr Index round_up(Index a, Index multiple) { return ceil_div(a, multiple) * multiple; }

}  // namespace switchyard
