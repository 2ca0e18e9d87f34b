#include "switchyard/tensor/quantised.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "support/error_of.hpp"
#include "switchyard/base/random.hpp"
#include "switchyard/tensor/half.hpp"
#include "switchyard/tensor/not_finite.hpp"
#include "switchyard/tensor/tensor.hpp"
#include "switchyard/tensor/weight.hpp"

namespace switchyard {
namespace {

constexpr DType kAll[] = {DType::kQ80,   DType::kQ40,   DType::kQ41,  DType::kQ50, DType::kQ51,
                          DType::kQ2K,   DType::kQ3K,   DType::kQ4K,  DType::kQ5K, DType::kQ6K,
                          DType::kIQ4NL, DType::kIQ4XS, DType::kMXFP4};

TEST(Quantised, HaveNoSafetensorsNameAndNoAlignment) {
  for (const DType dtype : kAll) {
    const DTypeInfo& info = dtype_info(dtype);
    EXPECT_TRUE(info.is_quantised && info.is_float) << info.name;
    EXPECT_EQ(find_dtype(info.name), nullptr);
    EXPECT_EQ(dtype_alignment(dtype), 1);
    EXPECT_EQ(dtype_bytes(dtype, 3 * info.block_elements), 3 * info.block_bytes);
  }
  EXPECT_EQ(dtype_alignment(DType::kF64), 8);
  EXPECT_EQ(dtype_alignment(DType::kF4), 1);
}

// Random blocks: every bit pattern of scales too.
TEST(Quantised, NotFiniteOnesAreFoundWhereTheyAre) {
  for (const DType dtype : kAll) {
    const DTypeInfo& info = dtype_info(dtype);
    Tensor tensor = Tensor::zeros(dtype, {400, 2 * info.block_elements});
    const RandomStream stream(5, RandomPurpose::kTest);
    std::uint64_t draw = 0;
    for (std::byte& byte : tensor.mutable_bytes()) byte = static_cast<std::byte>(stream.bits(draw++));
    const Tensor values = tensor.to_f32();
    NotFinite expected;
    for (Index i = 0; i < values.numel(); ++i) {
      if (std::isfinite(values.f32()[static_cast<std::size_t>(i)])) continue;
      if (expected.count++ == 0) expected.first = i;
    }
    EXPECT_GT(expected.count, 0) << info.name;
    const NotFinite found = find_not_finite(dtype, tensor.bytes());
    EXPECT_EQ(found.count, expected.count) << info.name;
    EXPECT_EQ(found.first, expected.first) << info.name;
    EXPECT_EQ(find_not_finite(dtype, Tensor::zeros(dtype, {info.block_elements}).bytes()).count, 0);
  }
}

TEST(Quantised, Q80RoundsHalvesAwayFromZero) {
  std::vector<float> from(32);
  from[0] = 127.0F;  // a scale of 1
  for (int i = 1; i < 32; ++i) from[static_cast<std::size_t>(i)] = static_cast<float>(i - 16) + 0.5F;
  from[2] = 0.49999997F;
  std::vector<std::byte> block(34);
  quantise_q8_0(from, block);
  std::int8_t q[32];
  std::memcpy(q, block.data() + 2, 32);
  EXPECT_EQ(q[0], 127);
  EXPECT_EQ(q[1], -15);
  EXPECT_EQ(q[2], 0);
  EXPECT_EQ(q[15], -1);
  EXPECT_EQ(q[16], 1);
  EXPECT_EQ(q[31], 16);
}

TEST(Quantised, Q80OfWhatItCannotSay) {
  const auto decoded = [](float value) {
    std::vector<float> from(32, 1.0F), to(32);
    from[7] = value;
    std::vector<std::byte> block(34);
    quantise_q8_0(from, block);
    dequantise(DType::kQ80, block, to);
    return to;
  };
  for (const float bad : {NAN, std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()})
    for (const float value : decoded(bad)) EXPECT_TRUE(std::isnan(value));
  EXPECT_EQ(decoded(1e30F)[7], std::numeric_limits<float>::infinity());  // the scale overflows as a half
  // The reciprocal of the scale overflows: integers that the scale, 0 as a half, makes 0 anyway.
  const std::vector<float> tiny(32, 1e-42F);
  std::vector<std::byte> block(34, std::byte{1});
  quantise_q8_0(tiny, block);
  EXPECT_EQ(block, std::vector<std::byte>(34));
}

TEST(Quantised, RefusesWhatDoesNotFit) {
  std::vector<std::byte> blocks(36);
  std::vector<float> numbers(64);
  EXPECT_NO_THROW(dequantise(DType::kQ40, blocks, numbers));
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { dequantise(DType::kQ41, blocks, numbers); }),
            "36 bytes of Q4_1 for 64 numbers");
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { dequantise(DType::kF32, blocks, numbers); }),
            "F32 is not a quantised type");
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { quantise_q8_0(numbers, blocks); }), "64 numbers for 36 bytes of Q8_0");
}

TEST(Quantised, WeightsAreCutBetweenBlocks) {
  std::vector<std::byte> memory(6 * 2 * 18);
  WeightView w;
  w.data = memory.data();
  w.dtype = DType::kQ40;
  w.rows = 6;
  w.cols = w.row_stride = 64;
  EXPECT_NO_THROW(w.check());
  EXPECT_FALSE(w.is_matrix());
  const WeightView part = w.slice_rows(2, 3).slice_cols(32, 20);
  EXPECT_EQ(part.data - w.data, 2 * 36 + 18);
  EXPECT_EQ(part.cols, 20);
  EXPECT_NO_THROW(part.check());
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { w.slice_cols(16, 16); }),
            "a part of a weight of Q4_0 begins within a block");
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { w.transposed(); }), "a weight of Q4_0 cannot be transposed");
  WeightView bad = w;
  bad.row_stride = 48;
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { bad.check(); }),
            "a weight of Q4_0 with strides 48 and 1, expected rows of whole blocks");
  bad = w;
  bad.scales.data = memory.data();
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { bad.check(); }),
            "a weight of Q4_0, which has its own scales, with scales beside it");
}

}  // namespace
}  // namespace switchyard
