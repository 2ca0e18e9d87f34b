#include "switchyard/tensor/not_finite.hpp"

#include <cstdint>
#include <cstring>
#include <limits>
#include <mutex>

#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard {
namespace {

constexpr Index kGrain = 1 << 18;

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
    if (mine.count == 0) return;
    const std::scoped_lock lock(mutex);
    found.count += mine.count;
    if (found.first < 0 || mine.first < found.first) found.first = mine.first;
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
      return {};
  }
}

}  // namespace switchyard
