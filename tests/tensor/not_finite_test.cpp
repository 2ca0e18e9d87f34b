#include "switchyard/tensor/not_finite.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "switchyard/tensor/half.hpp"

namespace switchyard {
namespace {

template <class T>
std::span<const std::byte> bytes(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

// Every bit pattern of a narrow type against what its conversion to float says.
template <class Convert>
void sweep_bytes(DType dtype, const Convert& convert) {
  for (int b = 0; b < 256; ++b) {
    const std::vector<std::uint8_t> one = {0, static_cast<std::uint8_t>(b)};
    const bool finite = std::isfinite(convert(static_cast<std::uint8_t>(b)));
    const NotFinite found = find_not_finite(dtype, bytes(one));
    EXPECT_EQ(found.count, finite ? 0 : 1) << b;
    EXPECT_EQ(found.first, finite ? -1 : 1) << b;
  }
}

TEST(NotFinite, EveryByteOfTheNarrowTypes) {
  sweep_bytes(DType::kF8E4M3, f8_e4m3_to_float);
  sweep_bytes(DType::kF8E5M2, f8_e5m2_to_float);
}

TEST(NotFinite, EveryPatternOfSixteenBits) {
  for (std::uint32_t i = 0; i < 0x10000U; ++i) {
    const std::vector<std::uint16_t> one = {static_cast<std::uint16_t>(i)};
    const auto bits = static_cast<std::uint16_t>(i);
    EXPECT_EQ(find_not_finite(DType::kBF16, bytes(one)).count, std::isfinite(to_float(BFloat16{bits})) ? 0 : 1) << i;
    EXPECT_EQ(find_not_finite(DType::kF16, bytes(one)).count, std::isfinite(to_float(Float16{bits})) ? 0 : 1) << i;
  }
}

TEST(NotFinite, TheFirstOfManyWhereverItLies) {
  std::vector<float> values(1'000'003, 1.0F);
  EXPECT_EQ(find_not_finite(DType::kF32, bytes(values)).first, -1);
  values[999'999] = std::numeric_limits<float>::infinity();
  values[700'001] = -std::numeric_limits<float>::quiet_NaN();
  const NotFinite found = find_not_finite(DType::kF32, bytes(values));
  EXPECT_EQ(found.count, 2);
  EXPECT_EQ(found.first, 700'001);
  const std::vector<double> wide = {1e300, -std::numeric_limits<double>::infinity()};
  EXPECT_EQ(find_not_finite(DType::kF64, bytes(wide)).first, 1);
}

TEST(NotFinite, IntegersAlwaysAre) {
  const std::vector<std::int32_t> values = {-1, std::numeric_limits<std::int32_t>::max()};
  EXPECT_EQ(find_not_finite(DType::kI32, bytes(values)).count, 0);
}

}  // namespace
}  // namespace switchyard
