#include "oracle/weight.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "switchyard/base/error.hpp"
#include "switchyard/base/random.hpp"
#include "switchyard/tensor/half.hpp"
#include "switchyard/tensor/quantised.hpp"

namespace switchyard::oracle {
namespace {

template <class T>
T read(const std::byte* from, Index i) {
  T value;
  std::memcpy(&value, from + i * static_cast<Index>(sizeof(T)), sizeof(T));
  return value;
}

// The blocks that hold elements [first, first + count) of a quantised type, from the beginning of the first of them on.
std::vector<float> blocks(DType dtype, const std::byte* data, Index first, Index count) {
  const DTypeInfo& info = dtype_info(dtype);
  const Index begin = first / info.block_elements, size = ceil_div(first + count, info.block_elements) - begin;
  std::vector<float> values(static_cast<std::size_t>(size * info.block_elements));
  dequantise(dtype, {data + begin * info.block_bytes, static_cast<std::size_t>(size * info.block_bytes)}, values);
  return values;
}

float number(DType dtype, const std::byte* data, Index i) {
  if (const DTypeInfo& info = dtype_info(dtype); info.is_quantised)
    return blocks(dtype, data, i, 1)[static_cast<std::size_t>(i % info.block_elements)];
  switch (dtype) {
    case DType::kF32:
      return read<float>(data, i);
    case DType::kF64:
      return static_cast<float>(read<double>(data, i));
    case DType::kF16:
      return to_float(read<Float16>(data, i));
    case DType::kBF16:
      return to_float(read<BFloat16>(data, i));
    case DType::kF8E4M3:
      return f8_e4m3_to_float(read<std::uint8_t>(data, i));
    case DType::kF8E5M2:
      return f8_e5m2_to_float(read<std::uint8_t>(data, i));
    case DType::kF8E8M0:
      return f8_e8m0_to_float(read<std::uint8_t>(data, i));
    case DType::kF4:
      return f4_e2m1_to_float(static_cast<std::uint8_t>(read<std::uint8_t>(data, i / 2) >> (i % 2 * 4)));
    default:
      fail(ErrorKind::kInternal, "the oracle knows no {}", dtype_info(dtype).name);
  }
}

// Where the scales of a block are that have exponents: halves, but of MXFP4 a byte.
std::vector<Index> places_of_scales(DType dtype) {
  switch (dtype) {
    case DType::kQ2K:
      return {80, 82};
    case DType::kQ3K:
      return {108};
    case DType::kQ6K:
      return {208};
    case DType::kQ41:
    case DType::kQ51:
    case DType::kQ4K:
    case DType::kQ5K:
      return {0, 2};
    default:
      return {0};
  }
}

// Random blocks; their scales are small but where `special`.
void fill_blocks(DType dtype, const RandomStream& stream, bool special, std::vector<std::byte>& memory) {
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<std::byte>(stream.below(i, 256));
  if (special) return;
  const auto block_bytes = static_cast<std::size_t>(dtype_info(dtype).block_bytes);
  for (std::size_t b = 0; b < memory.size(); b += block_bytes) {
    for (const Index place : places_of_scales(dtype)) {
      const std::size_t at = b + static_cast<std::size_t>(place);
      const Float16 scale = to_float16(0.01F * stream.normal(memory.size() + at));
      if (dtype == DType::kMXFP4)
        memory[at] = static_cast<std::byte>(118 + stream.below(at, 12));
      else
        std::memcpy(memory.data() + at, &scale, sizeof(scale));
    }
  }
}

bool tame(float value) { return std::isfinite(value) && std::abs(value) < 1e4F; }

// `count` random numbers; `positive` ones of moderate size serve as scales.
std::vector<std::byte> numbers(DType dtype, Index count, std::uint32_t seed, bool special, bool positive) {
  const RandomStream stream(seed, RandomPurpose::kTest, 31);
  const DTypeInfo& info = dtype_info(dtype);
  const Index bytes = ceil_div(count, info.block_elements) * info.block_bytes;
  std::vector<std::byte> memory(static_cast<std::size_t>(bytes));
  if (info.is_quantised) {
    fill_blocks(dtype, stream, special, memory);
    return memory;
  }
  if (dtype == DType::kF4) {
    for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<std::byte>(stream.below(i, 256));
    return memory;
  }
  for (Index i = 0; i < count; ++i) {
    const auto at = static_cast<std::uint64_t>(i);
    const float normal = (positive ? 0.1F + std::abs(stream.normal(at)) : stream.normal(at));
    const auto bits = static_cast<std::uint32_t>(stream.below(at + static_cast<std::uint64_t>(count), 1U << 16U));
    const auto put = [&](auto value) { std::memcpy(memory.data() + i * info.block_bytes, &value, sizeof(value)); };
    const bool any = special && bits % 16 == 0;  // any bit pattern
    switch (dtype) {
      case DType::kF32:
        put(any ? std::bit_cast<float>(bits << 16U | bits) : normal);
        break;
      case DType::kF64:
        put(any ? std::bit_cast<double>(std::uint64_t{bits} << 48U) : static_cast<double>(normal) / 3.0);
        break;
      case DType::kF16:
        put(any ? Float16{static_cast<std::uint16_t>(bits / 16 * 4097)} : to_float16(normal));
        break;
      case DType::kBF16:
        put(any ? BFloat16{static_cast<std::uint16_t>(bits / 16 * 4097)} : to_bfloat16(normal));
        break;
      case DType::kF8E8M0:
        put(static_cast<std::uint8_t>(any ? bits >> 4U : 120 + bits % 16));
        break;
      default: {
        auto byte = static_cast<std::uint8_t>(bits);
        if (positive) byte &= 0x7FU;
        if (!special && !tame(number(dtype, reinterpret_cast<const std::byte*>(&byte), 0))) byte = 0x41;
        put(byte);
      }
    }
  }
  return memory;
}

std::vector<std::byte> one_byte_on(const std::vector<std::byte>& from) {
  std::vector<std::byte> to(from.size() + 1);
  std::copy(from.begin(), from.end(), to.begin() + 1);
  return to;
}

}  // namespace

float element(const WeightView& w, Index r, Index c) {
  const float value = number(w.dtype, w.data, r * w.row_stride + c * w.col_stride);
  const WeightScales& s = w.scales;
  if (s.data == nullptr) return value;
  const Index row = (s.first_row + r) / s.row_block, column = (s.first_column + c) / s.column_block;
  return value * number(s.dtype, s.data, row * s.stride + column * s.column_stride);
}

std::vector<float> expand(const WeightView& w) {
  std::vector<float> all;
  if (dtype_info(w.dtype).is_quantised) {
    for (Index r = 0; r < w.rows; ++r) {
      const std::vector<float> row = blocks(w.dtype, w.data, r * w.row_stride, w.cols);
      all.insert(all.end(), row.begin(), row.begin() + w.cols);
    }
    return all;
  }
  for (Index r = 0; r < w.rows; ++r)
    for (Index c = 0; c < w.cols; ++c) all.push_back(element(w, r, c));
  return all;
}

StoredWeight::StoredWeight(const WeightKind& kind, Index rows, Index cols, std::uint32_t seed, bool special) {
  const Index runs = kind.column_major ? cols : rows, size = kind.column_major ? rows : cols;
  const Index block = dtype_info(kind.dtype).block_elements;
  const Index stride = round_up((size - 1) * kind.apart + 1 + kind.row_gap, block);
  const Index count = runs == 0 || size == 0 ? 0 : (runs - 1) * stride + (size - 1) * kind.apart + 1;
  memory_ = one_byte_on(numbers(kind.dtype, count, seed, special, false));
  view_.data = memory_.data() + 1;
  view_.dtype = kind.dtype;
  view_.rows = rows;
  view_.cols = cols;
  view_.row_stride = kind.column_major ? kind.apart : stride;
  view_.col_stride = kind.column_major ? stride : kind.apart;
  if (kind.row_block == 0) return;
  const Index grid_rows = ceil_div(kind.first_row + std::max<Index>(rows, 1), kind.row_block);
  const Index grid_columns = ceil_div(kind.first_column + std::max<Index>(cols, 1), kind.column_block);
  const Index grid_stride = grid_columns + 2;
  scales_ =
      one_byte_on(numbers(kind.scale_dtype, (grid_rows - 1) * grid_stride + grid_columns, seed + 1, special, true));
  view_.scales = {scales_.data() + 1, kind.scale_dtype, grid_stride,      kind.row_block,
                  kind.column_block,  kind.first_row,   kind.first_column};
}

}  // namespace switchyard::oracle
