// Quantised types: the integers of a block are unpacked to bytes, which are then turned into float32 and scaled.
// The formulas are those of tensor/quantised.hpp, the bits too. Kernels that multiply such integers as they are would
// replace the decoding of tiles where stored_few.hpp does so for other types.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "decode_runs.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/tensor/half.hpp"
#include "switchyard/tensor/quantised.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "decode_blocks.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef SWITCHYARD_KERNELS_DECODE_BLOCKS_RUNS
#define SWITCHYARD_KERNELS_DECODE_BLOCKS_RUNS
namespace switchyard::kernels {
namespace {

// Whole blocks that follow each other in memory, in several rows.
struct BlockRuns {
  const std::byte* from = nullptr;
  Index from_stride = 0;        // bytes from one run to the next
  Index count = 0, blocks = 0;  // runs, and blocks of each
  float* to = nullptr;
  Index to_stride = 0;
  Index ahead = 0;  // as in Runs
};

}  // namespace
}  // namespace switchyard::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace switchyard::kernels::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

using Tag = hn::ScalableTag<float>;
using Vector = hn::Vec<Tag>;
constexpr Index kLanes = static_cast<Index>(hn::MaxLanes(Tag()));
using Sixteen = hn::CappedTag<std::uint8_t, 16>;
using Bytes = hn::Vec<Sixteen>;

HWY_INLINE Bytes load16(const std::uint8_t* from) { return hn::LoadU(Sixteen(), from); }
HWY_INLINE Bytes bytes_of(int value) { return hn::Set(Sixteen(), static_cast<std::uint8_t>(value)); }
HWY_INLINE void store16(Bytes v, std::int8_t* to) {
  hn::StoreU(hn::BitCast(hn::RebindToSigned<Sixteen>(), v), hn::RebindToSigned<Sixteen>(), to);
}
HWY_INLINE Bytes low_nibbles(Bytes v) { return hn::And(v, bytes_of(15)); }
HWY_INLINE Bytes high_nibbles(Bytes v) { return hn::ShiftRight<4>(v); }
template <int kShift>
HWY_INLINE Bytes two_bits(Bytes v) {
  return hn::And(hn::ShiftRight<kShift>(v), bytes_of(3));
}
// `value` where the bit is set, else 0.
HWY_INLINE Bytes where_set(Bytes v, int bit, int value) {
  const Bytes mask = bytes_of(1 << bit);
  return hn::IfThenElseZero(hn::Eq(hn::And(v, mask), mask), bytes_of(value));
}

HWY_INLINE float half(const std::uint8_t* from) {
  std::uint16_t bits;
  std::memcpy(&bits, from, sizeof(bits));
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2 && !defined(HWY_DISABLE_F16C)
  const hn::CappedTag<float, 4> d;
  const hn::Rebind<std::uint16_t, decltype(d)> d16;
  return hn::GetLane(hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, decltype(d)>(), hn::Set(d16, bits))));
#else
  return to_float(Float16{bits});
#endif
}

HWY_INLINE Vector as_floats(const std::int8_t* q) {
  const hn::RebindToSigned<Tag> d32;
  return hn::ConvertTo(Tag(), hn::PromoteTo(d32, hn::LoadU(hn::Rebind<std::int8_t, Tag>(), q)));
}

// y[i] = scale * q[i]
template <Index kCount>
HWY_INLINE void scaled(const std::int8_t* q, float scale, float* y) {
  const Tag d;
  for (Index i = 0; i < kCount; i += kLanes) hn::StoreU(hn::Mul(hn::Set(d, scale), as_floats(q + i)), d, y + i);
}

// y[i] = scale * q[i] + offset; the product is exact, so a fused multiply-add would not differ.
template <Index kCount>
HWY_INLINE void scaled_and_moved(const std::int8_t* q, float scale, float offset, float* y) {
  const Tag d;
  for (Index i = 0; i < kCount; i += kLanes)
    hn::StoreU(hn::Add(hn::Mul(hn::Set(d, scale), as_floats(q + i)), hn::Set(d, offset)), d, y + i);
}

HWY_INLINE Bytes looked_up(const signed char (&table)[16], Bytes index) {
  const hn::RebindToSigned<Sixteen> d;
  return hn::TableLookupBytes(hn::BitCast(Sixteen(), hn::LoadU(d, reinterpret_cast<const std::int8_t*>(table))), index);
}

// The fifth bits of elements 16 h to 16 h + 15, as 16 where set. `qh` has 8 readable bytes from those bits on.
HWY_INLINE Bytes fifth_bits(const std::uint8_t* qh, int h) {
  return hn::IfThenElseZero(hn::LoadMaskBits(Sixteen(), qh + 2 * h), bytes_of(16));
}

struct FromQ80 {
  static constexpr Index kElements = 32, kBytes = 34;
  static HWY_INLINE void decode(const std::uint8_t* b, float* y) {
    scaled<32>(reinterpret_cast<const std::int8_t*>(b + 2), half(b), y);
  }
};

struct FromQ40 {
  static constexpr Index kElements = 32, kBytes = 18;
  static HWY_INLINE void decode(const std::uint8_t* b, float* y) {
    HWY_ALIGN std::int8_t q[32];
    const Bytes v = load16(b + 2);
    store16(hn::Sub(low_nibbles(v), bytes_of(8)), q);
    store16(hn::Sub(high_nibbles(v), bytes_of(8)), q + 16);
    scaled<32>(q, half(b), y);
  }
};

struct FromQ41 {
  static constexpr Index kElements = 32, kBytes = 20;
  static HWY_INLINE void decode(const std::uint8_t* b, float* y) {
    HWY_ALIGN std::int8_t q[32];
    const Bytes v = load16(b + 4);
    store16(low_nibbles(v), q);
    store16(high_nibbles(v), q + 16);
    scaled_and_moved<32>(q, half(b), half(b + 2), y);
  }
};

struct FromQ50 {
  static constexpr Index kElements = 32, kBytes = 22;
  static HWY_INLINE void decode(const std::uint8_t* b, float* y) {
    HWY_ALIGN std::int8_t q[32];
    const Bytes v = load16(b + 6);
    store16(hn::Sub(hn::Or(low_nibbles(v), fifth_bits(b + 2, 0)), bytes_of(16)), q);
    store16(hn::Sub(hn::Or(high_nibbles(v), fifth_bits(b + 2, 1)), bytes_of(16)), q + 16);
    scaled<32>(q, half(b), y);
  }
};

struct FromQ51 {
  static constexpr Index kElements = 32, kBytes = 24;
  static HWY_INLINE void decode(const std::uint8_t* b, float* y) {
    HWY_ALIGN std::int8_t q[32];
    const Bytes v = load16(b + 8);
    store16(hn::Or(low_nibbles(v), fifth_bits(b + 4, 0)), q);
    store16(hn::Or(high_nibbles(v), fifth_bits(b + 4, 1)), q + 16);
    scaled_and_moved<32>(q, half(b), half(b + 2), y);
  }
};

struct FromQ2K {
  static constexpr Index kElements = 256, kBytes = 84;
  template <int kPair>
  static HWY_INLINE void part(Bytes v, const std::uint8_t* scale, float d, float d_min, float* y) {
    HWY_ALIGN std::int8_t q[16];
    store16(two_bits<2 * kPair>(v), q);
    const unsigned packed = scale[2 * kPair];
    scaled_and_moved<16>(q, d * static_cast<float>(packed & 15U), -d_min * static_cast<float>(packed >> 4U),
                         y + 32 * kPair);
  }
  static HWY_INLINE void decode(const std::uint8_t* b, float* y) {
    const float d = half(b + 80), d_min = half(b + 82);
    for (int i = 0; i < 4; ++i) {  // 16 bytes, of which each holds four elements that are 32 apart
      const Bytes v = load16(b + 16 + 16 * i);
      const std::uint8_t* scale = b + i / 2 * 8 + i % 2;
      float* to = y + i / 2 * 128 + i % 2 * 16;
      part<0>(v, scale, d, d_min, to);
      part<1>(v, scale, d, d_min, to);
      part<2>(v, scale, d, d_min, to);
      part<3>(v, scale, d, d_min, to);
    }
  }
};

struct FromQ3K {
  static constexpr Index kElements = 256, kBytes = 110;
  template <int kPair>
  static HWY_INLINE void part(Bytes v, Bytes high, int n, const std::int8_t* scale, float d, float* y) {
    HWY_ALIGN std::int8_t q[16];
    store16(hn::Sub(hn::Or(two_bits<2 * kPair>(v), where_set(high, 4 * n + kPair, 4)), bytes_of(4)), q);
    scaled<16>(q, d * static_cast<float>(scale[2 * kPair]), y + 32 * kPair);
  }
  static HWY_INLINE void decode(const std::uint8_t* b, float* y) {
    const std::uint8_t* packed = b + 96;
    std::int8_t scales[16];
    for (unsigned j = 0; j < 16; ++j) {
      const unsigned low = packed[j % 8] >> (j / 8 * 4) & 15U, high = packed[8 + j % 4] >> (j / 4 * 2) & 3U;
      scales[j] = static_cast<std::int8_t>(static_cast<int>(low | high << 4U) - 32);
    }
    const float d = half(b + 108);
    for (int i = 0; i < 4; ++i) {
      const Bytes v = load16(b + 32 + 16 * i), high = load16(b + i % 2 * 16);
      const std::int8_t* scale = scales + i / 2 * 8 + i % 2;
      float* to = y + i / 2 * 128 + i % 2 * 16;
      part<0>(v, high, i / 2, scale, d, to);
      part<1>(v, high, i / 2, scale, d, to);
      part<2>(v, high, i / 2, scale, d, to);
      part<3>(v, high, i / 2, scale, d, to);
    }
  }
};

// The six-bit scales and minima of Q4_K and Q5_K, times those of the block; the minima negated.
HWY_INLINE void scales_and_minima(const std::uint8_t* b, float (&scale)[8], float (&min)[8]) {
  const float d = half(b), d_min = half(b + 2);
  const std::uint8_t* packed = b + 4;
  for (unsigned s = 0; s < 4; ++s) {
    const unsigned lower = packed[s], middle = packed[s + 4], upper = packed[s + 8];
    scale[s] = d * static_cast<float>(lower & 63U);
    min[s] = -d_min * static_cast<float>(middle & 63U);
    scale[s + 4] = d * static_cast<float>((upper & 15U) | lower >> 6U << 4U);
    min[s + 4] = -d_min * static_cast<float>(upper >> 4U | middle >> 6U << 4U);
  }
}

struct FromQ4K {
  static constexpr Index kElements = 256, kBytes = 144;
  static HWY_INLINE void decode(const std::uint8_t* b, float* y) {
    float scale[8], min[8];
    scales_and_minima(b, scale, min);
    for (int c = 0; c < 4; ++c) {
      HWY_ALIGN std::int8_t q[64];
      for (int i = 0; i < 32; i += 16) {
        const Bytes v = load16(b + 16 + 32 * c + i);
        store16(low_nibbles(v), q + i);
        store16(high_nibbles(v), q + 32 + i);
      }
      scaled_and_moved<32>(q, scale[2 * c], min[2 * c], y + 64 * c);
      scaled_and_moved<32>(q + 32, scale[2 * c + 1], min[2 * c + 1], y + 64 * c + 32);
    }
  }
};

struct FromQ5K {
  static constexpr Index kElements = 256, kBytes = 176;
  static HWY_INLINE void decode(const std::uint8_t* b, float* y) {
    float scale[8], min[8];
    scales_and_minima(b, scale, min);
    for (int c = 0; c < 4; ++c) {
      HWY_ALIGN std::int8_t q[64];
      for (int i = 0; i < 32; i += 16) {
        const Bytes v = load16(b + 48 + 32 * c + i), high = load16(b + 16 + i);
        store16(hn::Or(low_nibbles(v), where_set(high, 2 * c, 16)), q + i);
        store16(hn::Or(high_nibbles(v), where_set(high, 2 * c + 1, 16)), q + 32 + i);
      }
      scaled_and_moved<32>(q, scale[2 * c], min[2 * c], y + 64 * c);
      scaled_and_moved<32>(q + 32, scale[2 * c + 1], min[2 * c + 1], y + 64 * c + 32);
    }
  }
};

struct FromQ6K {
  static constexpr Index kElements = 256, kBytes = 210;
  static HWY_INLINE void part(Bytes nibbles, Bytes high, float d, std::uint8_t scale, float* y) {
    HWY_ALIGN std::int8_t q[16];
    store16(hn::Sub(hn::Or(nibbles, hn::ShiftLeft<4>(high)), bytes_of(32)), q);
    scaled<16>(q, d * static_cast<float>(static_cast<std::int8_t>(scale)), y);
  }
  static HWY_INLINE void decode(const std::uint8_t* b, float* y) {
    const float d = half(b + 208);
    for (int i = 0; i < 4; ++i) {
      const int n = i / 2, h = i % 2;
      const Bytes low = load16(b + 64 * n + 16 * h), low_odd = load16(b + 64 * n + 32 + 16 * h);
      const Bytes high = load16(b + 128 + 32 * n + 16 * h);
      const std::uint8_t* scale = b + 192 + 8 * n + h;
      float* to = y + 128 * n + 16 * h;
      part(low_nibbles(low), two_bits<0>(high), d, scale[0], to);
      part(low_nibbles(low_odd), two_bits<2>(high), d, scale[2], to + 32);
      part(high_nibbles(low), two_bits<4>(high), d, scale[4], to + 64);
      part(high_nibbles(low_odd), two_bits<6>(high), d, scale[6], to + 96);
    }
  }
};

// Sixteen bytes whose nibbles stand for the numbers of a table.
HWY_INLINE void from_table(const signed char (&table)[16], const std::uint8_t* qs, float scale, float* y) {
  HWY_ALIGN std::int8_t q[32];
  const Bytes v = load16(qs);
  store16(looked_up(table, low_nibbles(v)), q);
  store16(looked_up(table, high_nibbles(v)), q + 16);
  scaled<32>(q, scale, y);
}

struct FromIQ4NL {
  static constexpr Index kElements = 32, kBytes = 18;
  static HWY_INLINE void decode(const std::uint8_t* b, float* y) { from_table(kIQ4Values, b + 2, half(b), y); }
};

struct FromIQ4XS {
  static constexpr Index kElements = 256, kBytes = 136;
  static HWY_INLINE void decode(const std::uint8_t* b, float* y) {
    const float d = half(b);
    const unsigned high = b[2] | static_cast<unsigned>(b[3]) << 8U;
    for (unsigned s = 0; s < 8; ++s) {
      const unsigned scale = (b[4 + s / 2] >> (s % 2 * 4) & 15U) | (high >> (2 * s) & 3U) << 4U;
      from_table(kIQ4Values, b + 8 + 16 * s, d * static_cast<float>(static_cast<int>(scale) - 32), y + 32 * s);
    }
  }
};

struct FromMXFP4 {
  static constexpr Index kElements = 32, kBytes = 17;
  static HWY_INLINE void decode(const std::uint8_t* b, float* y) {
    from_table(kMXFP4Values, b + 1, mxfp4_half_scale(b[0]), y);
  }
};

template <class Format>
void decode_blocks(const BlockRuns& runs) {
  constexpr Index kLine = 64;
  for (Index r = 0; r < runs.count; ++r) {
    const auto* from = reinterpret_cast<const std::uint8_t*>(runs.from + r * runs.from_stride);
    float* to = runs.to + r * runs.to_stride;
    if (runs.ahead != 0)
      for (Index i = 0; i < runs.blocks * Format::kBytes; i += kLine) hwy::Prefetch(from + runs.ahead + i);
    for (Index i = 0; i < runs.blocks; ++i) Format::decode(from + i * Format::kBytes, to + i * Format::kElements);
  }
}

}  // namespace

void decode_blocks_of(DType dtype, const BlockRuns& runs) {
  switch (dtype) {
    case DType::kQ80:
      return decode_blocks<FromQ80>(runs);
    case DType::kQ40:
      return decode_blocks<FromQ40>(runs);
    case DType::kQ41:
      return decode_blocks<FromQ41>(runs);
    case DType::kQ50:
      return decode_blocks<FromQ50>(runs);
    case DType::kQ51:
      return decode_blocks<FromQ51>(runs);
    case DType::kQ2K:
      return decode_blocks<FromQ2K>(runs);
    case DType::kQ3K:
      return decode_blocks<FromQ3K>(runs);
    case DType::kQ4K:
      return decode_blocks<FromQ4K>(runs);
    case DType::kQ5K:
      return decode_blocks<FromQ5K>(runs);
    case DType::kQ6K:
      return decode_blocks<FromQ6K>(runs);
    case DType::kIQ4NL:
      return decode_blocks<FromIQ4NL>(runs);
    case DType::kIQ4XS:
      return decode_blocks<FromIQ4XS>(runs);
    case DType::kMXFP4:
      return decode_blocks<FromMXFP4>(runs);
    default:
      require(false, "blocks of type {} were decoded", dtype_info(dtype).name);
  }
}

}  // namespace switchyard::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace switchyard::kernels {
namespace {

HWY_EXPORT(decode_blocks_of);

}  // namespace

void decode_quantised(const WeightView& w, Index row, Index column, Matrix to, Index ahead) {
  constexpr Index kLargestBlock = 256;
  const DTypeInfo& type = dtype_info(w.dtype);
  const auto kernel = HWY_DYNAMIC_DISPATCH(decode_blocks_of);
  BlockRuns runs;
  runs.from_stride = w.row_stride / type.block_elements * type.block_bytes;
  runs.to_stride = to.stride;
  const auto block_at = [&](Index c) {
    return w.data + row * runs.from_stride + (column + c) / type.block_elements * type.block_bytes;
  };
  // Columns [c, c + size) of one block, of which the rest is not asked for.
  alignas(64) float whole[kLargestBlock];
  const auto decode_part = [&](Index c, Index size) {
    for (Index r = 0; r < to.rows; ++r) {
      kernel(w.dtype, {block_at(c) + r * runs.from_stride, 0, 1, 1, whole, 0, 0});
      std::copy_n(whole + (column + c) % type.block_elements, size, to.row(r) + c);
    }
  };
  Index c = 0;
  if (const Index before = column % type.block_elements; before != 0) {
    const Index size = std::min(type.block_elements - before, to.cols);
    decode_part(0, size);
    c = size;
  }
  runs.count = to.rows;
  runs.blocks = (to.cols - c) / type.block_elements;
  runs.ahead = ahead;
  if (runs.blocks > 0) {
    runs.from = block_at(c);
    runs.to = to.data + c;
    kernel(w.dtype, runs);
    c += runs.blocks * type.block_elements;
  }
  if (c < to.cols) decode_part(c, to.cols - c);
}

}  // namespace switchyard::kernels
#endif  // HWY_ONCE
