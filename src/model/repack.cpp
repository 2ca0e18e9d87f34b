#include "repack.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/encode.hpp"
#include "weight_files.hpp"

namespace switchyard::model {
namespace {

constexpr Index kChunkElements = Index{1} << 22;  // decoded at a time
constexpr Index kRowGrain = 16;
constexpr Index kBlock = 32, kBlockBytes = 17, kHalfBlock = 16;  // of MXFP4

// Element i of a row of F4.
unsigned nibble(const WeightView& weight, Index row, Index i) {
  const Index at = row * weight.row_stride + i;
  return std::to_integer<unsigned>(weight.data[at / 2]) >> (at % 2 * 4) & 15U;
}

std::byte scale_of(const WeightView& weight, Index row, Index block) {
  const WeightScales& s = weight.scales;
  const Index r = (s.first_row + row) / s.row_block, c = (s.first_column + block * kBlock) / s.column_block;
  return s.data[r * s.stride + c * s.column_stride];
}

void pack_mxfp4_row(const WeightView& weight, Index row, std::byte* to) {
  for (Index b = 0; b < weight.cols / kBlock; ++b, to += kBlockBytes) {
    to[0] = scale_of(weight, row, b);
    for (Index i = 0; i < kHalfBlock; ++i)
      to[1 + i] = static_cast<std::byte>(nibble(weight, row, b * kBlock + i) |
                                         nibble(weight, row, b * kBlock + i + kHalfBlock) << 4U);
  }
}

// Rows [begin, begin + rows) of the matrix; of a vector, elements.
WeightView part_of(const WeightView& weight, const TensorPlace& place) {
  return place.vector ? weight.slice_cols(place.begin, place.cols) : weight.slice_rows(place.begin, place.rows);
}

void copy_elements(const WeightView& part, const TensorPlace& place, std::span<std::byte> tensor) {
  const auto bytes = static_cast<std::size_t>(dtype_info(part.dtype).block_bytes);
  parallel_for(part.rows, kRowGrain, [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const std::byte* from = part.data + static_cast<std::size_t>(r * part.row_stride) * bytes;
      std::byte* to = tensor.data() + static_cast<std::size_t>(place.first() + r * place.row_stride()) * bytes;
      if (part.col_stride == 1 && place.col_stride() == 1) {
        std::memcpy(to, from, static_cast<std::size_t>(part.cols) * bytes);
        continue;
      }
      for (Index c = 0; c < part.cols; ++c)
        std::memcpy(to + static_cast<std::size_t>(c * place.col_stride()) * bytes,
                    from + static_cast<std::size_t>(c * part.col_stride) * bytes, bytes);
    }
  });
}

std::vector<float> decoded(const WeightView& part) {
  std::vector<float> values(static_cast<std::size_t>(part.rows * part.cols));
  decode(part, values);
  return values;
}

// The bytes of `count` numbers from element `first` on.
std::span<std::byte> bytes_at(std::span<std::byte> tensor, DType dtype, Index first, Index count) {
  return tensor.subspan(static_cast<std::size_t>(dtype_bytes(dtype, first)),
                        static_cast<std::size_t>(dtype_bytes(dtype, count)));
}

void encode_rows(const WeightView& part, const TensorPlace& place, DType dtype, std::span<std::byte> tensor) {
  const Index step = std::max(Index{1}, kChunkElements / std::max(part.cols, Index{1}));
  for (Index first = 0; first < part.rows; first += step) {
    const Index count = std::min(step, part.rows - first);
    const std::vector<float> values = decoded(part.slice_rows(first, count));
    for (Index r = 0; r < count; ++r) {
      const std::span<const float> row(values.data() + r * part.cols, static_cast<std::size_t>(part.cols));
      kernels::encode(dtype, row, bytes_at(tensor, dtype, place.first() + (first + r) * place.row_stride(), part.cols));
    }
  }
}

// Our columns are the rows of the file.
void encode_columns(const WeightView& part, const TensorPlace& place, DType dtype, std::span<std::byte> tensor) {
  const std::vector<float> values = decoded(part);
  parallel_for(part.cols, kRowGrain, [&](Index begin, Index end) {
    std::vector<float> column(static_cast<std::size_t>(part.rows));
    for (Index c = begin; c < end; ++c) {
      for (Index r = 0; r < part.rows; ++r)
        column[static_cast<std::size_t>(r)] = values[static_cast<std::size_t>(r * part.cols + c)];
      kernels::encode(dtype, column, bytes_at(tensor, dtype, place.first() + c * place.col_stride(), part.rows));
    }
  });
}

void encode_elements(const WeightView& part, const TensorPlace& place, DType dtype, std::span<std::byte> tensor) {
  const std::vector<float> values = decoded(part);
  std::vector<std::byte> encoded(static_cast<std::size_t>(dtype_bytes(dtype, part.rows * part.cols)));
  kernels::encode(dtype, values, encoded);
  WeightView whole;
  whole.data = encoded.data();
  whole.dtype = dtype;
  whole.rows = part.rows;
  whole.cols = whole.row_stride = part.cols;
  copy_elements(whole, place, tensor);
}

}  // namespace

bool is_mxfp4(const WeightView& weight) {
  if (weight.cols % kBlock != 0 || weight.col_stride != 1) return false;
  if (weight.dtype == DType::kMXFP4) return true;
  return weight.dtype == DType::kF4 && weight.scales.dtype == DType::kF8E8M0 && weight.scales.column_block == kBlock &&
         weight.scales.first_column == 0;
}

void split_mxfp4_row(const WeightView& weight, Index row, std::byte* blocks, std::byte* scales) {
  const Index count = weight.cols / kBlock;
  if (weight.dtype == DType::kF4) {
    for (Index b = 0; b < count; ++b) scales[b] = scale_of(weight, row, b);
    for (Index i = 0; i < weight.cols; i += 2)
      blocks[i / 2] = static_cast<std::byte>(nibble(weight, row, i) | nibble(weight, row, i + 1) << 4U);
    return;
  }
  const std::byte* from = weight.data + dtype_bytes(DType::kMXFP4, row * weight.row_stride);
  const auto element = [&](Index i) {
    const auto byte = std::to_integer<unsigned>(from[1 + i % kHalfBlock]);
    return i < kHalfBlock ? byte & 15U : byte >> 4U;
  };
  for (Index b = 0; b < count; ++b, from += kBlockBytes, blocks += kHalfBlock) {
    scales[b] = from[0];
    for (Index i = 0; i < kBlock; i += 2) blocks[i / 2] = static_cast<std::byte>(element(i) | element(i + 1) << 4U);
  }
}

void put(const WeightView& weight, const TensorPlace& place, DType dtype, std::span<std::byte> tensor) {
  const WeightView part = part_of(weight, place);
  if (part.empty()) return;
  const bool plain = dtype_info(part.dtype).block_elements == 1 && part.scales.data == nullptr;
  if (part.dtype == dtype && plain) return copy_elements(part, place, tensor);
  const bool rows = place.col_stride() == 1;
  if (dtype == DType::kMXFP4 && part.dtype == DType::kF4 && rows && is_mxfp4(part)) {
    return parallel_for(part.rows, kRowGrain, [&](Index begin, Index end) {
      for (Index r = begin; r < end; ++r)
        pack_mxfp4_row(part, r, tensor.data() + dtype_bytes(dtype, place.first() + r * place.row_stride()));
    });
  }
  if (part.dtype == dtype && rows && part.col_stride == 1) {
    const auto bytes = static_cast<std::size_t>(dtype_bytes(dtype, part.cols));
    for (Index r = 0; r < part.rows; ++r)
      std::memcpy(tensor.data() + dtype_bytes(dtype, place.first() + r * place.row_stride()),
                  part.data + dtype_bytes(dtype, r * part.row_stride), bytes);
    return;
  }
  if (rows) return encode_rows(part, place, dtype, tensor);
  if (place.transposed && place.step == 1) return encode_columns(part, place, dtype, tensor);
  encode_elements(part, place, dtype, tensor);
}

}  // namespace switchyard::model
