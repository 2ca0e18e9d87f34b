#include "switchyard/tensor/quantised.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "switchyard/base/error.hpp"
#include "switchyard/tensor/half.hpp"

namespace switchyard {
namespace {

using Bytes = const std::uint8_t*;
constexpr int kSmallBlock = 32, kSuperBlock = 256;

template <class T>
T read(Bytes from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

float half(Bytes from) { return to_float(read<Float16>(from)); }
int bits(unsigned value, int at, int count) {
  return static_cast<int>((value >> static_cast<unsigned>(at)) & ((1U << static_cast<unsigned>(count)) - 1U));
}
// Element j of 32 whose lower nibbles are the first half.
int nibble(Bytes qs, int j) { return bits(qs[j % 16], j / 16 * 4, 4); }
float as_float(int value) { return static_cast<float>(value); }

void q8_0(Bytes b, float* y) {
  for (int j = 0; j < kSmallBlock; ++j) y[j] = half(b) * as_float(static_cast<std::int8_t>(b[2 + j]));
}

void q4_0(Bytes b, float* y) {
  for (int j = 0; j < kSmallBlock; ++j) y[j] = half(b) * as_float(nibble(b + 2, j) - 8);
}

void q4_1(Bytes b, float* y) {
  for (int j = 0; j < kSmallBlock; ++j) y[j] = half(b) * as_float(nibble(b + 4, j)) + half(b + 2);
}

int five_bits(Bytes qh, Bytes qs, int j) { return nibble(qs, j) | bits(read<std::uint32_t>(qh), j, 1) << 4; }

void q5_0(Bytes b, float* y) {
  for (int j = 0; j < kSmallBlock; ++j) y[j] = half(b) * as_float(five_bits(b + 2, b + 6, j) - 16);
}

void q5_1(Bytes b, float* y) {
  for (int j = 0; j < kSmallBlock; ++j) y[j] = half(b) * as_float(five_bits(b + 4, b + 8, j)) + half(b + 2);
}

// In what follows e = 128 n + 32 s + l, with l < 32.
void q2_k(Bytes b, float* y) {
  const Bytes scales = b, qs = b + 16;
  const float d = half(b + 80), d_min = half(b + 82);
  for (int e = 0; e < kSuperBlock; ++e) {
    const int n = e / 128, s = e / 32 % 4, l = e % 32;
    const unsigned scale = scales[e / 16];
    y[e] = d * as_float(bits(scale, 0, 4)) * as_float(bits(qs[32 * n + l], 2 * s, 2)) -
           d_min * as_float(bits(scale, 4, 4));
  }
}

void q3_k(Bytes b, float* y) {
  const Bytes high = b, qs = b + 32, scales = b + 96;
  const float d = half(b + 108);
  for (int e = 0; e < kSuperBlock; ++e) {
    const int n = e / 128, s = e / 32 % 4, l = e % 32, j = e / 16;
    const int scale = (bits(scales[j % 8], j / 8 * 4, 4) | bits(scales[8 + j % 4], j / 4 * 2, 2) << 4) - 32;
    const int q = bits(qs[32 * n + l], 2 * s, 2) - (bits(high[l], 4 * n + s, 1) != 0 ? 0 : 4);
    y[e] = d * as_float(scale) * as_float(q);
  }
}

// The six-bit scale and minimum of the s-th 32 elements of Q4_K and Q5_K.
struct ScaleMin {
  int scale, min;
};
ScaleMin scale_min(Bytes packed, int s) {
  if (s < 4) return {bits(packed[s], 0, 6), bits(packed[s + 4], 0, 6)};
  return {bits(packed[s + 4], 0, 4) | bits(packed[s - 4], 6, 2) << 4, bits(packed[s + 4], 4, 4) | bits(packed[s], 6, 2)
                                                                                                      << 4};
}

void q4_k(Bytes b, float* y) {
  for (int e = 0; e < kSuperBlock; ++e) {
    const int s = e / 32, l = e % 32;
    const auto [scale, min] = scale_min(b + 4, s);
    const int q = bits(b[16 + 32 * (s / 2) + l], s % 2 * 4, 4);
    y[e] = half(b) * as_float(scale) * as_float(q) - half(b + 2) * as_float(min);
  }
}

void q5_k(Bytes b, float* y) {
  for (int e = 0; e < kSuperBlock; ++e) {
    const int s = e / 32, l = e % 32;
    const auto [scale, min] = scale_min(b + 4, s);
    const int q = bits(b[48 + 32 * (s / 2) + l], s % 2 * 4, 4) | bits(b[16 + l], s, 1) << 4;
    y[e] = half(b) * as_float(scale) * as_float(q) - half(b + 2) * as_float(min);
  }
}

void q6_k(Bytes b, float* y) {
  const Bytes low = b, high = b + 128, scales = b + 192;
  const float d = half(b + 208);
  for (int e = 0; e < kSuperBlock; ++e) {
    const int n = e / 128, s = e / 32 % 4, l = e % 32;
    const int nib = bits(low[64 * n + 32 * (s % 2) + l], s / 2 * 4, 4);
    const int q = (nib | bits(high[32 * n + l], 2 * s, 2) << 4) - 32;
    y[e] = d * as_float(static_cast<std::int8_t>(scales[e / 16])) * as_float(q);
  }
}

void iq4_nl(Bytes b, float* y) {
  for (int j = 0; j < kSmallBlock; ++j) y[j] = half(b) * as_float(kIQ4Values[nibble(b + 2, j)]);
}

void iq4_xs(Bytes b, float* y) {
  const unsigned high = read<std::uint16_t>(b + 2);
  for (int e = 0; e < kSuperBlock; ++e) {
    const int s = e / 32;
    const int scale = (bits(b[4 + s / 2], s % 2 * 4, 4) | bits(high, 2 * s, 2) << 4) - 32;
    y[e] = half(b) * as_float(scale) * as_float(kIQ4Values[nibble(b + 8 + 16 * s, e % 32)]);
  }
}

void mxfp4(Bytes b, float* y) {
  for (int j = 0; j < kSmallBlock; ++j) y[j] = mxfp4_half_scale(b[0]) * as_float(kMXFP4Values[nibble(b + 1, j)]);
}

using Dequantise = void (*)(Bytes block, float* y);

Dequantise dequantise_of(DType dtype) {
  switch (dtype) {
    case DType::kQ80:
      return q8_0;
    case DType::kQ40:
      return q4_0;
    case DType::kQ41:
      return q4_1;
    case DType::kQ50:
      return q5_0;
    case DType::kQ51:
      return q5_1;
    case DType::kQ2K:
      return q2_k;
    case DType::kQ3K:
      return q3_k;
    case DType::kQ4K:
      return q4_k;
    case DType::kQ5K:
      return q5_k;
    case DType::kQ6K:
      return q6_k;
    case DType::kIQ4NL:
      return iq4_nl;
    case DType::kIQ4XS:
      return iq4_xs;
    case DType::kMXFP4:
      return mxfp4;
    default:
      return nullptr;
  }
}

// To the nearest integer, halves away from zero.
float rounded(float value) {
  const float magnitude = std::abs(value), whole = std::floor(magnitude);
  return std::copysign(magnitude - whole >= 0.5F ? whole + 1.0F : whole, value);
}

}  // namespace

float mxfp4_half_scale(unsigned char value) {
  // 2^-127 and 2^-128 are subnormal.
  return std::bit_cast<float>(value < 2 ? 0x00200000U << value : (value - 1U) << 23U);
}

void dequantise(DType dtype, std::span<const std::byte> blocks, std::span<float> to) {
  const DTypeInfo& info = dtype_info(dtype);
  const Dequantise one = dequantise_of(dtype);
  require(one != nullptr, "{} is not a quantised type", info.name);
  const auto count = static_cast<Index>(to.size()) / info.block_elements;
  require(count * info.block_elements == std::ssize(to) && count * info.block_bytes == std::ssize(blocks),
          "{} bytes of {} for {} numbers", blocks.size(), info.name, to.size());
  const auto* from = reinterpret_cast<Bytes>(blocks.data());
  for (Index i = 0; i < count; ++i) one(from + i * info.block_bytes, to.data() + i * info.block_elements);
}

void quantise_q8_0(std::span<const float> from, std::span<std::byte> blocks) {
  constexpr std::size_t kElements = 32, kBytes = 34;
  const std::size_t count = from.size() / kElements;
  require(count * kElements == from.size() && count * kBytes == blocks.size(), "{} numbers for {} bytes of Q8_0",
          from.size(), blocks.size());
  for (std::size_t i = 0; i < count; ++i) {
    const float* x = from.data() + i * kElements;
    std::byte* block = blocks.data() + i * kBytes;
    float largest = 0.0F;
    bool finite = true;
    for (std::size_t j = 0; j < kElements; ++j) {
      largest = std::max(largest, std::abs(x[j]));
      finite = finite && std::isfinite(x[j]);
    }
    const float scale = largest / 127.0F;
    float inverse = scale == 0.0F ? 0.0F : 1.0F / scale;
    // The scale of such numbers is 0 as a half, whatever the integers.
    if (!finite || !std::isfinite(inverse)) inverse = 0.0F;
    const Float16 stored = finite ? to_float16(scale) : Float16{0x7E00};
    std::memcpy(block, &stored, sizeof(stored));
    std::int8_t q[kElements] = {};
    if (inverse != 0.0F)
      for (std::size_t j = 0; j < kElements; ++j) q[j] = static_cast<std::int8_t>(rounded(x[j] * inverse));
    std::memcpy(block + sizeof(stored), q, kElements);
  }
}

}  // namespace switchyard
