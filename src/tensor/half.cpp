#include "switchyard/tensor/half.hpp"

#include <cmath>

namespace switchyard {

float to_float(BFloat16 value) { return std::bit_cast<float>(std::uint32_t{value.bits} << 16); }

BFloat16 to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) {
    // Rounding could carry a NaN's mantissa into infinity: keep the upper half and make it quiet.
    return {static_cast<std::uint16_t>((bits >> 16) | 0x0040U)};
  }
  const std::uint32_t rounding = 0x7FFFU + ((bits >> 16) & 1U);
  return {static_cast<std::uint16_t>((bits + rounding) >> 16)};
}

float to_float(Float16 value) {
  const std::uint32_t sign = std::uint32_t{value.bits & 0x8000U} << 16;
  const std::uint32_t exponent = (value.bits >> 10) & 0x1FU;
  const std::uint32_t mantissa = value.bits & 0x3FFU;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000U | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1.0p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }
  return std::bit_cast<float>(sign | ((exponent + 112U) << 23) | (mantissa << 13));
}

Float16 to_float16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  const auto with_sign = [sign](std::uint32_t half) { return Float16{static_cast<std::uint16_t>(sign | half)}; };
  if (magnitude > 0x7F800000U) return with_sign(0x7E00U | ((magnitude >> 13) & 0x3FFU));
  if (magnitude >= 0x477FF000U) return with_sign(0x7C00U);  // 65520 and above round to infinity
  if (magnitude < 0x38800000U) {
    // Below the smallest normal: count in units of 2^-24. The product is exact, nearbyint rounds ties to even.
    const float units = std::bit_cast<float>(magnitude) * 0x1.0p24F;
    return with_sign(static_cast<std::uint32_t>(std::nearbyint(units)));
  }
  const std::uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13) & 1U);
  return with_sign((rounded >> 13) - (112U << 10));
}

float f8_e4m3_to_float(std::uint8_t bits) {
  const std::uint32_t exponent = (bits >> 3) & 0xFU, mantissa = bits & 0x7U;
  if ((bits & 0x7FU) == 0x7FU) return std::bit_cast<float>(0x7FC00000U | (std::uint32_t{bits & 0x80U} << 24));
  const float magnitude = exponent == 0
                              ? static_cast<float>(mantissa) * 0x1.0p-9F
                              : std::ldexp(1.0F + static_cast<float>(mantissa) / 8.0F, static_cast<int>(exponent) - 7);
  return (bits & 0x80U) != 0 ? -magnitude : magnitude;
}

float f8_e5m2_to_float(std::uint8_t bits) { return to_float(Float16{static_cast<std::uint16_t>(bits << 8)}); }

float f8_e8m0_to_float(std::uint8_t bits) {
  if (bits == 0xFF) return std::bit_cast<float>(0x7FC00000U);
  // 2^-127 is subnormal.
  return std::bit_cast<float>(bits == 0 ? 0x00400000U : std::uint32_t{bits} << 23);
}

float f4_e2m1_to_float(std::uint8_t bits) {
  constexpr float kMagnitude[] = {0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F};
  const float magnitude = kMagnitude[bits & 0x7U];
  return (bits & 0x8U) != 0 ? -magnitude : magnitude;
}

}  // namespace switchyard
