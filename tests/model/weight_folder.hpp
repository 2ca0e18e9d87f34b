#pragma once
// Model folders whose weights have any type and layout, with the numbers that they stand for.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "model_folders.hpp"
#include "oracle/compare.hpp"
#include "switchyard/tensor/half.hpp"

namespace switchyard::model {

// A matrix of one native parameter, [rows, cols], in double.
struct Values {
  Index rows = 0, cols = 0;
  std::vector<double> of;
  double operator()(Index r, Index c) const { return of[static_cast<std::size_t>(r * cols + c)]; }
};

// What a file's element decodes to is computed here one by one, from the definition of the type.
inline double decoded(DType dtype, const std::byte* data, Index i) {
  const auto byte = [&](Index at) { return static_cast<unsigned>(std::to_integer<unsigned char>(data[at])); };
  switch (dtype) {
    case DType::kF32: {
      float value;
      std::memcpy(&value, data + i * 4, 4);
      return value;
    }
    case DType::kBF16: {
      const std::uint32_t bits = (byte(2 * i) | byte(2 * i + 1) << 8U) << 16U;
      return std::bit_cast<float>(bits);
    }
    case DType::kF8E4M3: {
      const unsigned b = byte(i), exponent = b >> 3U & 15U, mantissa = b & 7U;
      const double size =
          exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(1.0 + mantissa / 8.0, static_cast<int>(exponent) - 7);
      return (b & 128U) != 0 ? -size : size;
    }
    default:
      ADD_FAILURE() << "no type of these tests";
      return 0.0;
  }
}

// Random elements: bytes of any value but NaN.
inline Tensor random_tensor(DType dtype, const Shape& shape, std::uint32_t seed) {
  Tensor tensor = Tensor::uninitialized(dtype, shape);
  const std::vector<float> values = oracle::random_values(shape.numel(), seed, 0.5F);
  const std::span<std::byte> bytes = tensor.mutable_bytes();
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::kF32) std::memcpy(bytes.data() + i * 4, &values[i], 4);
    if (dtype == DType::kBF16) {
      const BFloat16 value = to_bfloat16(values[i]);
      std::memcpy(bytes.data() + i * 2, &value, 2);
    }
    if (dtype == DType::kF8E4M3 || dtype == DType::kU8) {
      const RandomStream stream(seed, RandomPurpose::kTest, 5);
      auto b = static_cast<unsigned char>(stream.below(i, 256));
      if (dtype == DType::kF8E4M3 && (b & 127U) == 127U) b = 64;
      bytes[i] = std::byte{b};
    }
  }
  return tensor;
}

// The parameters of the model as numbers, by native name; stacks have one an expert.
using Expected = std::map<std::string, std::vector<Values>>;

class Folder {
 public:
  explicit Folder(const std::string& config) { write_text(folder_.path() / "config.json", config); }
  const std::filesystem::path& path() const { return folder_.path(); }
  void put(const std::string& name, Tensor tensor) { tensors_.insert_or_assign(name, std::move(tensor)); }
  Tensor& at(const std::string& name) { return tensors_.at(name); }
  void erase(const std::string& name) { tensors_.erase(name); }
  // Shards of so many bytes; 0: one file.
  void write(std::size_t shard_bytes = 0) const {
    formats::write_safetensors_sharded(path(), named(tensors_), {},
                                       shard_bytes == 0 ? std::size_t{1} << 30 : shard_bytes);
  }

  // A tensor, and what it decodes to.
  Values matrix(const std::string& name, DType dtype, Index rows, Index cols) {
    put(name, random_tensor(dtype, {rows, cols}, ++seed_));
    return values_of(at(name), 0, rows, cols);
  }
  // FP8 with factors of blocks, of this type.
  Values fp8(const std::string& name, Index rows, Index cols, Index block_rows, Index block_cols,
             DType factor_type = DType::kF32) {
    Values values = matrix(name, DType::kF8E4M3, rows, cols);
    const Index grid_rows = (rows + block_rows - 1) / block_rows, grid_cols = (cols + block_cols - 1) / block_cols;
    put(name + "_scale_inv", random_tensor(factor_type, {grid_rows, grid_cols}, ++seed_));
    const std::byte* factors = at(name + "_scale_inv").bytes().data();
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < cols; ++c)
        values.of[static_cast<std::size_t>(r * cols + c)] *=
            decoded(factor_type, factors, r / block_rows * grid_cols + c / block_cols);
    return values;
  }
  // The m-th matrix of a tensor.
  static Values values_of(const Tensor& tensor, Index m, Index rows, Index cols) {
    Values values{rows, cols, {}};
    for (Index i = 0; i < rows * cols; ++i)
      values.of.push_back(decoded(tensor.dtype(), tensor.bytes().data(), m * rows * cols + i));
    return values;
  }
  std::uint32_t next_seed() { return ++seed_; }

 private:
  TemporaryFolder folder_;
  Tensors tensors_;
  std::uint32_t seed_ = 0;
};

// Blocks and scales of MXFP4 for `matrices` matrices [rows, cols], and what they decode to.
inline std::vector<Values> put_mxfp4(Folder& folder, const std::string& name, Index matrices, Index rows, Index cols) {
  constexpr double kValues[] = {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0};
  folder.put(name + "_blocks", random_tensor(DType::kU8, {matrices, rows, cols / 32, 16}, folder.next_seed()));
  folder.put(name + "_scales", random_tensor(DType::kU8, {matrices, rows, cols / 32}, folder.next_seed()));
  const std::span<const std::byte> blocks = folder.at(name + "_blocks").bytes();
  // Within the range in which float32 holds the products exactly.
  for (std::byte& scale : folder.at(name + "_scales").mutable_bytes())
    scale = static_cast<std::byte>(100 + std::to_integer<int>(scale) % 50);
  const std::span<const std::byte> scales = folder.at(name + "_scales").bytes();
  std::vector<Values> result;
  std::size_t at = 0;
  for (Index m = 0; m < matrices; ++m) {
    Values& values = result.emplace_back(Values{rows, cols, {}});
    for (Index i = 0; i < rows * cols; ++i, ++at) {
      const unsigned byte = std::to_integer<unsigned>(blocks[at / 2]);
      const unsigned bits = at % 2 == 0 ? byte & 15U : byte >> 4U;
      const double size = kValues[bits & 7U] * std::ldexp(1.0, std::to_integer<int>(scales[at / 32]) - 127);
      values.of.push_back((bits & 8U) != 0 ? -size : size);
    }
  }
  return result;
}

// Rows [begin, begin + step, ...] of a matrix.
inline Values rows_of(const Values& all, Index begin, Index step, Index count) {
  Values part{count, all.cols, {}};
  for (Index r = 0; r < count; ++r)
    for (Index c = 0; c < all.cols; ++c) part.of.push_back(all(begin + r * step, c));
  return part;
}

inline double element(const WeightView& w, Index r, Index c) {
  const WeightView one = w.slice_rows(r, 1);
  const Index at = c * one.col_stride;
  double value = 0.0;
  if (one.dtype == DType::kF4) {
    constexpr double kValues[] = {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0};
    const unsigned bits = std::to_integer<unsigned>(one.data[at / 2]) >> (at % 2 * 4) & 15U;
    value = (bits & 8U) != 0 ? -kValues[bits & 7U] : kValues[bits & 7U];
  } else {
    value = decoded(one.dtype, one.data, at);
  }
  const WeightScales& s = one.scales;
  if (s.data == nullptr) return value;
  const Index factor = s.first_row / s.row_block * s.stride + (s.first_column + c) / s.column_block * s.column_stride;
  return s.dtype == DType::kF8E8M0 ? value * std::ldexp(1.0, std::to_integer<int>(s.data[factor]) - 127)
                                   : value * decoded(s.dtype, s.data, factor);
}

inline bool is_small(const autograd::Parameter& parameter) {
  using autograd::ParameterRole;
  return parameter.shape().rank() < 2 || parameter.role == ParameterRole::kRouter ||
         parameter.role == ParameterRole::kBias;
}

// The model in float32, stored and mapped, and stored and copied, is what was written.
inline void expect_loads(const Folder& folder, const Expected& expected) {
  struct Way {
    LoadOptions options;
    const char* name;
  };
  for (const auto& [options, way] :
       {Way{{}, "float32"}, Way{{.stored = true}, "mapped"}, Way{{.stored = true, .mapped = false}, "copied"}}) {
    SCOPED_TRACE(way);
    LoadedModel model = load_model(folder.path(), options);
    for (autograd::Parameter* parameter : model.transformer.parameters()) {
      SCOPED_TRACE(parameter->name);
      const auto found = expected.find(parameter->name);
      ASSERT_NE(found, expected.end());
      EXPECT_EQ(parameter->is_stored(), options.stored && !is_small(*parameter));
      if (!parameter->is_stored()) {
        std::vector<double> all;
        for (const Values& values : found->second) all.insert(all.end(), values.of.begin(), values.of.end());
        const std::span<const float> actual = std::as_const(parameter->value).f32();
        ASSERT_EQ(actual.size(), all.size());
        for (std::size_t i = 0; i < all.size(); ++i) ASSERT_EQ(actual[i], static_cast<float>(all[i])) << i;
        continue;
      }
      for (std::size_t e = 0; e < found->second.size(); ++e) {
        const Values& values = found->second[e];
        const WeightView w = found->second.size() == 1 ? parameter->weight() : parameter->weight(static_cast<Index>(e));
        ASSERT_EQ(w.rows, values.rows);
        ASSERT_EQ(w.cols, values.cols);
        for (Index r = 0; r < w.rows; ++r)
          for (Index c = 0; c < w.cols; ++c)
            ASSERT_EQ(static_cast<float>(element(w, r, c)), static_cast<float>(values(r, c))) << r << ", " << c;
      }
    }
  }
}

}  // namespace switchyard::model
