#include "oracle/weight.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "switchyard/base/error.hpp"
#include "switchyard/base/random.hpp"
#include "switchyard/tensor/half.hpp"

namespace switchyard::oracle {
namespace {

template <class T>
T read(const std::byte* from, Index i) {
  T value;
  std::memcpy(&value, from + i * static_cast<Index>(sizeof(T)), sizeof(T));
  return value;
}

float number(DType dtype, const std::byte* data, Index i) {
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

bool tame(float value) { return std::isfinite(value) && std::abs(value) < 1e4F; }

// `count` random numbers; `positive` ones of moderate size serve as scales.
std::vector<std::byte> numbers(DType dtype, Index count, std::uint32_t seed, bool special, bool positive) {
  const RandomStream stream(seed, RandomPurpose::kTest, 31);
  const DTypeInfo& info = dtype_info(dtype);
  const Index bytes = ceil_div(count, info.block_elements) * info.block_bytes;
  std::vector<std::byte> memory(static_cast<std::size_t>(bytes));
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
