#include "switchyard/tensor/not_finite.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <mutex>
#include <vector>

#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/tensor/quantised.hpp"

namespace switchyard {
namespace {

constexpr Index kGrain = 1 << 18;

void add(NotFinite& found, const NotFinite& mine, std::mutex& mutex) {
  if (mine.count == 0) return;
  const std::scoped_lock lock(mutex);
  found.count += mine.count;
  if (found.first < 0 || mine.first < found.first) found.first = mine.first;
}

// Elements of type U whose bits, without the sign, are at least `least`: IEEE's infinity, above which lie the NaN.
template <class U>
NotFinite find_above(std::span<const std::byte> bytes, U least, U mask = std::numeric_limits<U>::max() >> 1U) {
  NotFinite found;
  std::mutex mutex;
  const auto count = static_cast<Index>(bytes.size() / sizeof(U));
  parallel_for(count, kGrain, [&](Index begin, Index end) {
    NotFinite mine;
    for (Index i = begin; i < end; ++i) {
      U value;
      std::memcpy(&value, bytes.data() + static_cast<std::size_t>(i) * sizeof(U), sizeof(U));
      if (static_cast<U>(value & mask) < least) continue;
      if (mine.count++ == 0) mine.first = i;
    }
    add(found, mine, mutex);
  });
  return found;
}

// Whether a block of a quantised type may hold any. Integers are finite, so it takes a scale that is not or that is
// close to the limit.
bool is_suspicious(DType dtype, const std::byte* block) {
  constexpr int kLargestSafeScale = 252;  // 2^(252 - 128) times 12 is finite
  const auto bad_half = [&](int at) {
    return (std::to_integer<int>(block[at + 1]) & 0x7C) == 0x7C;  // the exponent, in the upper byte
  };
  switch (dtype) {
    case DType::kMXFP4:
      return std::to_integer<int>(block[0]) > kLargestSafeScale;
    case DType::kQ2K:
      return bad_half(80) || bad_half(82);
    case DType::kQ3K:
      return bad_half(108);
    case DType::kQ6K:
      return bad_half(208);
    case DType::kQ41:
    case DType::kQ51:
    case DType::kQ4K:
    case DType::kQ5K:
      return bad_half(0) || bad_half(2);
    default:
      return bad_half(0);
  }
}

NotFinite find_in_blocks(DType dtype, std::span<const std::byte> bytes) {
  const DTypeInfo& info = dtype_info(dtype);
  NotFinite found;
  std::mutex mutex;
  parallel_for(std::ssize(bytes) / info.block_bytes, kGrain / info.block_elements, [&](Index begin, Index end) {
    NotFinite mine;
    std::vector<float> values(static_cast<std::size_t>(info.block_elements));
    for (Index b = begin; b < end; ++b) {
      const auto block =
          bytes.subspan(static_cast<std::size_t>(b * info.block_bytes), static_cast<std::size_t>(info.block_bytes));
      if (!is_suspicious(dtype, block.data())) continue;
      dequantise(dtype, block, values);
      for (Index i = 0; i < info.block_elements; ++i) {
        if (std::isfinite(values[static_cast<std::size_t>(i)])) continue;
        if (mine.count++ == 0) mine.first = b * info.block_elements + i;
      }
    }
    add(found, mine, mutex);
  });
  return found;
}

}  // namespace

NotFinite find_not_finite(DType dtype, std::span<const std::byte> bytes) {
  switch (dtype) {
    case DType::kF32:
      return find_above<std::uint32_t>(bytes, 0x7F800000U);
    case DType::kF64:
      return find_above<std::uint64_t>(bytes, 0x7FF0000000000000ULL);
    case DType::kF16:
      return find_above<std::uint16_t>(bytes, 0x7C00U);
    case DType::kBF16:
      return find_above<std::uint16_t>(bytes, 0x7F80U);
    case DType::kF8E4M3:
      return find_above<std::uint8_t>(bytes, 0x7FU);
    case DType::kF8E5M2:
      return find_above<std::uint8_t>(bytes, 0x7CU);
    case DType::kF8E8M0:
      return find_above<std::uint8_t>(bytes, 0xFFU, 0xFFU);
    default:
      return dtype_info(dtype).is_quantised ? find_in_blocks(dtype, bytes) : NotFinite{};
  }
}

}  // namespace switchyard
