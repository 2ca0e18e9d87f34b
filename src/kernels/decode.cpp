#include "switchyard/kernels/decode.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "decode_runs.hpp"
#include "scratch.hpp"
#include "switchyard/base/error.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "decode.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace switchyard::kernels::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

using Tag = hn::ScalableTag<float>;
using Vector = hn::Vec<Tag>;
using Words = hn::RebindToUnsigned<Tag>;                  // uint32, a float each
using Halves = hn::Rebind<std::uint16_t, Tag>;            // as many as floats
using TwiceHalves = hn::Repartition<std::uint16_t, Tag>;  // twice as many
constexpr Index kLanes = static_cast<Index>(hn::MaxLanes(Tag()));
constexpr Index kStep = 2 * kLanes;  // elements that a format converts at a time

// Reads the memory of one vector of D, whatever its alignment.
template <class D>
HWY_INLINE hn::Vec<D> load(D d, const std::uint8_t* from) {
  return hn::BitCast(d, hn::LoadU(hn::Repartition<std::uint8_t, D>(), from));
}

HWY_INLINE Vector from_half(hn::Vec<Halves> half) {
  const Tag d;
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2 && !defined(HWY_DISABLE_F16C)
  return hn::PromoteTo(d, hn::BitCast(hn::Rebind<hwy::float16_t, Tag>(), half));
#else
  // As integers, since Highway's own emulation does not know infinity and NaN. The product is exact, also for
  // subnormals.
  const Words d32;
  const auto bits = hn::PromoteTo(d32, half);
  const auto magnitude = hn::ShiftLeft<13>(hn::And(bits, hn::Set(d32, 0x7FFFU)));
  const auto finite = hn::BitCast(d32, hn::Mul(hn::BitCast(d, magnitude), hn::Set(d, 0x1.0p112F)));
  const auto exponent = hn::And(bits, hn::Set(d32, 0x7C00U));
  const auto special = hn::VecFromMask(d32, hn::Eq(exponent, hn::Set(d32, 0x7C00U)));
  const auto infinity = hn::And(special, hn::Set(d32, 0x7F800000U));
  const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(d32, 0x8000U)));
  return hn::BitCast(d,
                     hn::Or(hn::Or(hn::AndNot(special, finite), hn::And(special, magnitude)), hn::Or(infinity, sign)));
#endif
}

HWY_INLINE void from_halves(hn::Vec<TwiceHalves> halves, Vector& v0, Vector& v1) {
  v0 = from_half(hn::LowerHalf(Halves(), halves));
  v1 = from_half(hn::UpperHalf(Halves(), halves));
}

// A format converts kStep elements: the first kLanes to v0.
struct FromF32 {
  static constexpr Index kBits = 32;
  static HWY_INLINE void convert(const std::uint8_t* from, Vector& v0, Vector& v1) {
    v0 = load(Tag(), from);
    v1 = load(Tag(), from + 4 * kLanes);
  }
};

struct FromF64 {
  static constexpr Index kBits = 64;
  static HWY_INLINE Vector one(const std::uint8_t* from) {
    const hn::Repartition<double, Tag> wide;
    const hn::Half<Tag> half;
    return hn::Combine(Tag(), hn::DemoteTo(half, load(wide, from + 4 * kLanes)), hn::DemoteTo(half, load(wide, from)));
  }
  static HWY_INLINE void convert(const std::uint8_t* from, Vector& v0, Vector& v1) {
    v0 = one(from);
    v1 = one(from + 8 * kLanes);
  }
};

struct FromF16 {
  static constexpr Index kBits = 16;
  static HWY_INLINE void convert(const std::uint8_t* from, Vector& v0, Vector& v1) {
    v0 = from_half(load(Halves(), from));
    v1 = from_half(load(Halves(), from + 2 * kLanes));
  }
};

struct FromBF16 {
  static constexpr Index kBits = 16;
  static HWY_INLINE Vector one(const std::uint8_t* from) {
    return hn::BitCast(Tag(), hn::ShiftLeft<16>(hn::PromoteTo(Words(), load(Halves(), from))));
  }
  static HWY_INLINE void convert(const std::uint8_t* from, Vector& v0, Vector& v1) {
    v0 = one(from);
    v1 = one(from + 2 * kLanes);
  }
};

// Seven bits at the place of half's exponent and mantissa are the number divided by 2^8, as half's bias is that much
// larger.
struct FromF8E4M3 {
  static constexpr Index kBits = 8;
  static HWY_INLINE void convert(const std::uint8_t* from, Vector& v0, Vector& v1) {
    const TwiceHalves d16;
    const hn::RebindToSigned<TwiceHalves> signed16;
    const auto wide = hn::PromoteTo(signed16, load(hn::Rebind<std::int8_t, TwiceHalves>(), from));
    // The sign was copied to all upper bits; it belongs into bit 15 and not into bit 14.
    auto half = hn::And(hn::BitCast(d16, hn::ShiftLeft<7>(wide)), hn::Set(d16, std::uint16_t{0xBFFF}));
    const auto ones = hn::Set(d16, std::uint16_t{0x3F80});
    const auto is_nan = hn::VecFromMask(d16, hn::Eq(hn::And(half, ones), ones));
    half = hn::Or(half, hn::And(is_nan, hn::Set(d16, std::uint16_t{0x7C00})));
    from_halves(half, v0, v1);
    v0 = hn::Mul(v0, hn::Set(Tag(), 256.0F));
    v1 = hn::Mul(v1, hn::Set(Tag(), 256.0F));
  }
};

struct FromF8E5M2 {
  static constexpr Index kBits = 8;
  static HWY_INLINE void convert(const std::uint8_t* from, Vector& v0, Vector& v1) {
    const TwiceHalves d16;
    from_halves(hn::ShiftLeft<8>(hn::PromoteTo(d16, load(hn::Rebind<std::uint8_t, TwiceHalves>(), from))), v0, v1);
  }
};

struct FromF8E8M0 {
  static constexpr Index kBits = 8;
  static HWY_INLINE Vector one(const std::uint8_t* from) {
    const Words d32;
    const auto exponent = hn::PromoteTo(d32, load(hn::Rebind<std::uint8_t, Words>(), from));
    // 0 is the subnormal 2^-127 and 255 is NaN: both have the highest bit of the mantissa.
    const auto end = hn::Or(hn::VecFromMask(d32, hn::Eq(exponent, hn::Zero(d32))),
                            hn::VecFromMask(d32, hn::Eq(exponent, hn::Set(d32, 255U))));
    return hn::BitCast(Tag(), hn::Or(hn::ShiftLeft<23>(exponent), hn::And(end, hn::Set(d32, 0x00400000U))));
  }
  static HWY_INLINE void convert(const std::uint8_t* from, Vector& v0, Vector& v1) {
    v0 = one(from);
    v1 = one(from + kLanes);
  }
};

// E2M1 to E5M2, which is the upper byte of half.
struct FromF4 {
  static constexpr Index kBits = 4;
  static HWY_INLINE void convert(const std::uint8_t* from, Vector& v0, Vector& v1) {
    const TwiceHalves d16;
    const hn::Rebind<std::uint8_t, TwiceHalves> d8;
    const hn::CappedTag < std::uint8_t, kStep<16 ? 16 : kStep> table8;  // never less than the whole table
    HWY_ALIGN static constexpr std::uint8_t kE5M2[16] = {0x00, 0x38, 0x3C, 0x3E, 0x40, 0x42, 0x44, 0x46,
                                                         0x80, 0xB8, 0xBC, 0xBE, 0xC0, 0xC2, 0xC4, 0xC6};
    // A byte becomes the two bytes of its nibbles, the lower one first.
    const auto pair = hn::PromoteTo(Halves(), load(hn::Rebind<std::uint8_t, Halves>(), from));
    const auto nibbles = hn::And(hn::Or(pair, hn::ShiftLeft<4>(pair)), hn::Set(Halves(), std::uint16_t{0x0F0F}));
    const auto bytes = hn::TableLookupBytes(hn::LoadDup128(table8, kE5M2), hn::BitCast(d8, nibbles));
    from_halves(hn::ShiftLeft<8>(hn::PromoteTo(d16, bytes)), v0, v1);
  }
};

template <class Format, bool kScaled>
HWY_INLINE void convert(const std::uint8_t* from, Index size, float scale, float* to) {
  const Tag d;
  Vector v0, v1;
  Index i = 0;
  for (; i + kStep <= size; i += kStep) {
    Format::convert(from + i * Format::kBits / 8, v0, v1);
    if constexpr (kScaled) {
      v0 = hn::Mul(v0, hn::Set(d, scale));
      v1 = hn::Mul(v1, hn::Set(d, scale));
    }
    hn::StoreU(v0, d, to + i);
    hn::StoreU(v1, d, to + i + kLanes);
  }
  if (i == size) return;
  std::uint8_t rest[kStep * Format::kBits / 8] = {};
  std::memcpy(rest, from + i * Format::kBits / 8, static_cast<std::size_t>(((size - i) * Format::kBits + 7) / 8));
  Format::convert(rest, v0, v1);
  if constexpr (kScaled) {
    v0 = hn::Mul(v0, hn::Set(d, scale));
    v1 = hn::Mul(v1, hn::Set(d, scale));
  }
  HWY_ALIGN float converted[kStep];
  hn::Store(v0, d, converted);
  hn::Store(v1, d, converted + kLanes);
  std::copy_n(converted, size - i, to + i);
}

template <class Format>
void decode_runs(const Runs& runs) {
  constexpr Index kLine = 64, kLeastBlock = 16;
  const Index bytes = (runs.size * Format::kBits + 7) / 8;
  const bool whole_bytes = Format::kBits >= 8 || (runs.first % 2 == 0 && runs.block % 2 == 0);
  for (Index r = 0; r < runs.count; ++r) {
    const auto* from = reinterpret_cast<const std::uint8_t*>(runs.from + r * runs.from_stride);
    float* to = runs.to + r * runs.to_stride;
    if (runs.ahead != 0)
      for (Index i = 0; i < bytes; i += kLine) hwy::Prefetch(from + runs.ahead + i);
    if (runs.scales == nullptr) {
      convert<Format, false>(from, runs.size, 1.0F, to);
      continue;
    }
    const float* scale = runs.scales + r * runs.scales_stride;
    Index i = 0, end = runs.block - runs.first;
    if (runs.block < kLeastBlock || !whole_bytes) {
      convert<Format, false>(from, runs.size, 1.0F, to);
      for (; i < runs.size; end += runs.block, ++scale)
        for (; i < HWY_MIN(end, runs.size); ++i) to[i] *= *scale;
      continue;
    }
    for (; i < runs.size; i = end, end += runs.block, ++scale)
      convert<Format, true>(from + i * Format::kBits / 8, HWY_MIN(end, runs.size) - i, *scale, to + i);
  }
}

}  // namespace

void decode_runs_of(DType dtype, const Runs& runs) {
  switch (dtype) {
    case DType::kF32:
      return decode_runs<FromF32>(runs);
    case DType::kF64:
      return decode_runs<FromF64>(runs);
    case DType::kF16:
      return decode_runs<FromF16>(runs);
    case DType::kBF16:
      return decode_runs<FromBF16>(runs);
    case DType::kF8E4M3:
      return decode_runs<FromF8E4M3>(runs);
    case DType::kF8E5M2:
      return decode_runs<FromF8E5M2>(runs);
    case DType::kF8E8M0:
      return decode_runs<FromF8E8M0>(runs);
    case DType::kF4:
      return decode_runs<FromF4>(runs);
    default:
      require(false, "a weight of type {} was decoded", dtype_info(dtype).name);
  }
}

}  // namespace switchyard::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace switchyard::kernels {
namespace {

HWY_EXPORT(decode_runs_of);

constexpr Index kScaledRows = 16, kScaledColumns = 256;  // of a part whose scales are laid out at a time

Index distance(const DTypeInfo& type, Index elements) { return elements * type.block_bytes / type.block_elements; }

// size elements that lie `stride` apart, of Bytes bytes each, one behind the other.
template <Index Bytes>
void gather(const std::byte* from, Index stride, Index size, std::byte* to) {
  for (Index i = 0; i < size; ++i) std::memcpy(to + i * Bytes, from + i * stride * Bytes, Bytes);
}

void gather(Index bytes, const std::byte* from, Index stride, Index size, std::byte* to) {
  switch (bytes) {
    case 1:
      return gather<1>(from, stride, size, to);
    case 2:
      return gather<2>(from, stride, size, to);
    case 4:
      return gather<4>(from, stride, size, to);
    default:
      return gather<8>(from, stride, size, to);
  }
}

// runs, from element (row, column) of w on.
void decode_part(const WeightView& w, Index row, Index column, Runs& runs) {
  const DTypeInfo& type = dtype_info(w.dtype);
  const auto kernel = HWY_DYNAMIC_DISPATCH(decode_runs_of);
  runs.from = w.data + distance(type, row * w.row_stride + column * w.col_stride);
  runs.from_stride = distance(type, w.row_stride);
  if (w.col_stride == 1 || runs.size <= 1) {
    kernel(w.dtype, runs);
    return;
  }
  constexpr Index kPart = 256;
  alignas(64) std::byte gathered[kPart * 8];
  Runs one = runs;
  one.from = gathered;
  one.count = 1;
  one.ahead = 0;
  for (Index r = 0; r < runs.count; ++r)
    for (Index i = 0; i < runs.size; i += kPart) {
      one.size = std::min(kPart, runs.size - i);
      gather(type.block_bytes, runs.from + r * runs.from_stride + i * w.col_stride * type.block_bytes, w.col_stride,
             one.size, gathered);
      one.to = runs.to + r * runs.to_stride + i;
      if (runs.scales != nullptr) {
        one.scales = runs.scales + r * runs.scales_stride + (runs.first + i) / runs.block;
        one.first = (runs.first + i) % runs.block;
      }
      kernel(w.dtype, one);
    }
}

// Scales are few a row; the types of published checkpoints do without a call for each row.
void decode_scales(const WeightView& grid, Index row, Index column, Runs& runs) {
  const DTypeInfo& type = dtype_info(grid.dtype);
  if (grid.dtype != DType::kF8E8M0 && grid.dtype != DType::kF32) {
    decode_part(grid, row, column, runs);
    return;
  }
  for (Index r = 0; r < runs.count; ++r) {
    const std::byte* from = grid.data + ((row + r) * grid.row_stride + column * grid.col_stride) * type.block_bytes;
    float* to = runs.to + r * runs.to_stride;
    if (grid.dtype == DType::kF32) {
      for (Index i = 0; i < runs.size; ++i)
        std::memcpy(to + i, from + i * grid.col_stride * type.block_bytes, sizeof(float));
      continue;
    }
    for (Index i = 0; i < runs.size; ++i) {
      const auto exponent = std::to_integer<std::uint32_t>(from[i * grid.col_stride]);
      to[i] = std::bit_cast<float>(exponent << 23U | (exponent == 0 || exponent == 255 ? 0x00400000U : 0U));
    }
  }
}

// runs with the scales of the part, which is of at most kScaledRows by kScaledColumns, laid out in `scales`.
void decode_scaled(const WeightView& w, Index row, Index column, Runs& runs, float* scales) {
  const WeightScales& s = w.scales;
  const auto grid_row = [&](Index r) { return (s.first_row + row + r) / s.row_block; };
  const Index grid_column = (s.first_column + column) / s.column_block;
  runs.first = (s.first_column + column) % s.column_block;
  runs.block = s.column_block;
  const Index blocks = ceil_div(runs.first + runs.size, runs.block);
  WeightView grid;
  grid.data = s.data;
  grid.dtype = s.dtype;
  grid.row_stride = s.stride;
  grid.col_stride = s.column_stride;
  // Consecutive rows of the grid, or one for all, or each by itself.
  const bool one = grid_row(0) == grid_row(runs.count - 1);
  const Index together = one ? 1 : s.row_block == 1 ? runs.count : 1;
  runs.scales = scales;
  runs.scales_stride = one ? 0 : blocks;
  for (Index r = 0; r < (one ? 1 : runs.count); r += together) {
    Runs factors;
    factors.count = together;
    factors.size = blocks;
    factors.to = scales + r * blocks;
    factors.to_stride = blocks;
    decode_scales(grid, grid_row(r), grid_column, factors);
  }
  decode_part(w, row, column, runs);
}

}  // namespace

bool is_column_major(const WeightView& w) {
  return w.col_stride != 1 && std::abs(w.row_stride) < std::abs(w.col_stride) &&
         dtype_info(w.dtype).block_elements == 1;
}

void decode_rows(const WeightView& w, Index row, Index column, Matrix to, Index ahead) {
  if (dtype_info(w.dtype).is_quantised) {
    decode_quantised(w, row, column, to, ahead);
    return;
  }
  Runs runs;
  runs.ahead = ahead;
  runs.to_stride = to.stride;
  if (w.scales.data == nullptr) {
    runs.count = to.rows;
    runs.size = to.cols;
    runs.to = to.data;
    decode_part(w, row, column, runs);
    return;
  }
  const Scratch scales(kScaledRows * kScaledColumns);
  for (Index r = 0; r < to.rows; r += kScaledRows)
    for (Index c = 0; c < to.cols; c += kScaledColumns) {
      runs.count = std::min(kScaledRows, to.rows - r);
      runs.size = std::min(kScaledColumns, to.cols - c);
      runs.to = to.row(r) + c;
      decode_scaled(w, row + r, column + c, runs, scales.data());
    }
}

void decode(const WeightView& w, Index row, Index column, Matrix to) {
  w.check();
  require(row >= 0 && column >= 0 && row + to.rows <= w.rows && column + to.cols <= w.cols && to.stride >= to.cols,
          "decode: [{}, {}] with stride {} from {}, {} of [{}, {}]", to.rows, to.cols, to.stride, row, column, w.rows,
          w.cols);
  const DTypeInfo& type = dtype_info(w.dtype);
  require(type.is_quantised || column % type.block_elements == 0, "decode: column {} of {} begins within a byte",
          column, type.name);
  if (to.empty()) return;
  if (!is_column_major(w)) {
    decode_rows(w, row, column, to);
    return;
  }
  // Runs of many rows, so that whole cache lines are used, turned in blocks that stay in the cache.
  constexpr Index kRows = 128, kColumns = 32;
  const WeightView turned = w.transposed();
  const Scratch scratch(kColumns * kRows);
  for (Index r = 0; r < to.rows; r += kRows)
    for (Index c = 0; c < to.cols; c += kColumns) {
      const Index m = std::min(kRows, to.rows - r), k = std::min(kColumns, to.cols - c);
      const Matrix block(scratch.data(), k, m);
      decode_rows(turned, column + c, row + r, block);
      for (Index i = 0; i < m; ++i)
        for (Index j = 0; j < k; ++j) to(r + i, c + j) = block(j, i);
    }
}

}  // namespace switchyard::kernels
#endif  // HWY_ONCE
