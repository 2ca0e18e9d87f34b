#pragma once
// Small floats as storage types. Arithmetic is done in float; these only convert, rounding to nearest, ties to even,
// with subnormals, infinities and NaN kept (a NaN stays a NaN, never becomes infinity).

#include <bit>
#include <cstdint>
#include <span>

namespace switchyard {

struct BFloat16 {
  std::uint16_t bits = 0;
};
struct Float16 {
  std::uint16_t bits = 0;
};

float to_float(BFloat16 value);
float to_float(Float16 value);
BFloat16 to_bfloat16(float value);
Float16 to_float16(float value);

// FP8 of the OCP specification: E4M3 has no infinity and its largest value is 448; E5M2 is half's upper byte.
float f8_e4m3_to_float(std::uint8_t bits);
float f8_e5m2_to_float(std::uint8_t bits);
// The scales and elements of the OCP microscaling formats. E8M0 is 2^(bits - 127), 0xFF is NaN. E2M1 is the lower four
// bits: 0, 0.5, 1, 1.5, 2, 3, 4, 6, and with bit 3 set their negatives.
float f8_e8m0_to_float(std::uint8_t bits);
float f4_e2m1_to_float(std::uint8_t bits);

}  // namespace switchyard
