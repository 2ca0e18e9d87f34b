#pragma once
// Small helpers of code that works row by row.

#include <algorithm>
#include <cstdint>
#include <span>

#include "switchyard/base/index.hpp"
#include "switchyard/tensor/tensor.hpp"

namespace switchyard::moe {

inline Tensor matrix_of(Index rows, Index cols) { return Tensor::uninitialized(DType::kF32, {rows, cols}); }

// Rows a task, so that a task is worth its start: some ten microseconds of simple work.
inline Index row_grain(Index cols) { return std::max<Index>(1, 16384 / std::max<Index>(cols, 1)); }

inline bool is_valid(std::span<const std::uint8_t> valid_T, Index t) {
  return valid_T.empty() || valid_T[static_cast<std::size_t>(t)] != 0;
}

inline Index count_valid(std::span<const std::uint8_t> valid_T, Index tokens) {
  if (valid_T.empty()) return tokens;
  return tokens - static_cast<Index>(std::count(valid_T.begin(), valid_T.end(), std::uint8_t{0}));
}

// Added to sums that scores are divided by, as in DeepSeek-V3's published code.
inline constexpr float kSumEpsilon = 1e-20F;

}  // namespace switchyard::moe
