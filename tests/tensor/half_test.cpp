#include "switchyard/tensor/half.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "switchyard/base/random.hpp"

namespace switchyard {
namespace {

// A small binary float, by the definition: (-1)^s * 2^(max(e, 1) - bias) * (m / 2^mantissa_bits, plus 1 where e > 0).
enum class Top { kInfinity, kNaN, kNumbers };  // all exponent bits set: infinity and NaN; one NaN; numbers as others
struct Layout {
  int exponent_bits, mantissa_bits;
  Top top;
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  int sign_shift() const { return exponent_bits + mantissa_bits; }
};
constexpr Layout kBF16{8, 7, Top::kInfinity}, kF16{5, 10, Top::kInfinity}, kE4M3{4, 3, Top::kNaN},
    kE5M2{5, 2, Top::kInfinity}, kE2M1{2, 1, Top::kNumbers};

double decode(const Layout& layout, std::uint32_t bits) {
  const std::uint32_t m = bits & ((1U << layout.mantissa_bits) - 1);
  const std::uint32_t all_ones = (1U << layout.exponent_bits) - 1;
  const std::uint32_t e = (bits >> layout.mantissa_bits) & all_ones;
  const double sign = (bits >> layout.sign_shift() & 1U) != 0 ? -1.0 : 1.0;
  if (layout.top == Top::kInfinity && e == all_ones) {
    return m == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  }
  if (layout.top == Top::kNaN && e == all_ones && m == (1U << layout.mantissa_bits) - 1) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  const double fraction = std::ldexp(m, -layout.mantissa_bits) + (e > 0 ? 1.0 : 0.0);
  return sign * std::ldexp(fraction, std::max(static_cast<int>(e), 1) - layout.bias());
}

// Rounds a number to the grid of the layout in double, where everything is exact: nearest, ties to even.
double round_to(const Layout& layout, float value) {
  const double x = value;
  if (!std::isfinite(x) || x == 0.0) return x;
  const int exponent = std::max(std::ilogb(x), 1 - layout.bias());
  const double rounded =
      std::ldexp(std::nearbyint(std::ldexp(x, layout.mantissa_bits - exponent)), exponent - layout.mantissa_bits);
  const double largest = std::ldexp(2.0 - std::ldexp(1.0, -layout.mantissa_bits), layout.bias());
  return std::abs(rounded) > largest ? std::copysign(std::numeric_limits<double>::infinity(), x) : rounded;
}

void expect_same(double found, double expected, const char* what, std::uint32_t bits) {
  if (std::isnan(expected)) {
    ASSERT_TRUE(std::isnan(found)) << what << " 0x" << std::hex << bits;
  } else {
    ASSERT_EQ(found, expected) << what << " 0x" << std::hex << bits;
    ASSERT_EQ(std::signbit(found), std::signbit(expected)) << what << " 0x" << std::hex << bits;
  }
}

TEST(Half, EveryValueIsWhatTheFormatSays) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto b = static_cast<std::uint16_t>(bits);
    expect_same(to_float(BFloat16{b}), decode(kBF16, bits), "bf16", bits);
    expect_same(to_float(Float16{b}), decode(kF16, bits), "f16", bits);
  }
  for (std::uint32_t bits = 0; bits < 256; ++bits) {
    const auto b = static_cast<std::uint8_t>(bits);
    expect_same(f8_e4m3_to_float(b), decode(kE4M3, bits), "e4m3", bits);
    expect_same(f8_e5m2_to_float(b), decode(kE5M2, bits), "e5m2", bits);
  }
  for (std::uint32_t bits = 0; bits < 255; ++bits)
    expect_same(f8_e8m0_to_float(static_cast<std::uint8_t>(bits)), std::ldexp(1.0, static_cast<int>(bits) - 127),
                "e8m0", bits);
  EXPECT_TRUE(std::isnan(f8_e8m0_to_float(0xFF)));
  for (std::uint32_t bits = 0; bits < 256; ++bits)  // only the lower nibble counts
    expect_same(f4_e2m1_to_float(static_cast<std::uint8_t>(bits)), decode(kE2M1, bits & 0xFU), "e2m1", bits);
  EXPECT_EQ(f8_e4m3_to_float(0x7E), 448.0F);
  EXPECT_EQ(f8_e5m2_to_float(0x7B), 57344.0F);
}

TEST(Half, EveryValueSurvivesTheRoundTrip) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto b = static_cast<std::uint16_t>(bits);
    const std::uint16_t bf16 = to_bfloat16(to_float(BFloat16{b})).bits;
    const std::uint16_t f16 = to_float16(to_float(Float16{b})).bits;
    // A NaN may become quiet; it keeps its sign and the rest of its payload.
    if (std::isnan(decode(kBF16, bits))) {
      ASSERT_EQ(bf16, bits | 0x0040U);
    } else {
      ASSERT_EQ(bf16, bits);
    }
    if (std::isnan(decode(kF16, bits))) {
      ASSERT_EQ(f16, bits | 0x0200U);
    } else {
      ASSERT_EQ(f16, bits);
    }
  }
}

void expect_rounds(std::uint32_t bits) {
  const float x = std::bit_cast<float>(bits);
  expect_same(to_float(to_bfloat16(x)), round_to(kBF16, x), "float to bf16", bits);
  expect_same(to_float(to_float16(x)), round_to(kF16, x), "float to f16", bits);
}

TEST(Half, RoundsToNearestTiesToEven) {
  const RandomStream random(1, RandomPurpose::kTest);
  for (std::uint64_t i = 0; i < 200000; ++i) expect_rounds(random.bits(i));
  // Where it is delicate: about each representable value, each middle between two, and the ends of the range.
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto b = static_cast<std::uint16_t>(bits);
    const std::uint32_t f16 = std::bit_cast<std::uint32_t>(to_float(Float16{b}));
    for (const std::uint32_t middle : {bits << 16, bits << 16 | 0x8000U, f16, f16 | 0x1000U}) {
      for (const std::uint32_t near : {middle - 1, middle, middle + 1}) expect_rounds(near);
    }
  }
  // The middles between subnormal halves, which the mask above does not reach.
  for (std::uint32_t i = 0; i < 2048; ++i) {
    const auto middle = std::bit_cast<std::uint32_t>(std::ldexp(static_cast<float>(2 * i + 1), -25));
    for (const std::uint32_t near : {middle - 1, middle, middle + 1}) expect_rounds(near);
  }
  for (const float x : {65504.0F, 65519.996F, 65520.0F, 65536.0F, std::numeric_limits<float>::max(),
                        std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::min(),
                        std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN(),
                        std::numeric_limits<float>::signaling_NaN(), 0.0F, 0x1.0p-24F, 0x1.0p-25F, 0x1.000002p-25F}) {
    expect_rounds(std::bit_cast<std::uint32_t>(x));
    expect_rounds(std::bit_cast<std::uint32_t>(-x));
  }
  // A NaN whose payload is in the low bits only must not round to infinity.
  for (const std::uint32_t bits : {0x7F800001U, 0xFF800001U, 0x7FFFFFFFU, 0xFFFFFFFFU}) expect_rounds(bits);
}

}  // namespace
}  // namespace switchyard
