#include "switchyard/tensor/tensor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

namespace switchyard {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr Index kMax = std::numeric_limits<Index>::max();

template <class F>
void expect_error(ErrorKind kind, const std::string& part, F&& f) {
  try {
    f();
    ADD_FAILURE() << "no error; expected one with '" << part << "'";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

TEST(DType, NamesAndSizesMatch) {
  const std::vector<std::pair<std::string, Index>> expected = {
      {"F32", 4}, {"F64", 8}, {"F16", 2}, {"BF16", 2}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}, {"I8", 1},
      {"U8", 1},  {"I16", 2}, {"U16", 2}, {"I32", 4},  {"U32", 4},     {"I64", 8},     {"U64", 8},     {"BOOL", 1},
  };
  for (const auto& [name, bytes] : expected) {
    const DTypeInfo* info = find_dtype(name);
    ASSERT_NE(info, nullptr) << name;
    EXPECT_EQ(&dtype_info(info->dtype), info);
    EXPECT_EQ(dtype_bytes(info->dtype, 3), 3 * bytes) << name;
    EXPECT_EQ(info->is_float, name.find('F') != std::string::npos) << name;
  }
  const DTypeInfo* f4 = find_dtype("F4");
  ASSERT_NE(f4, nullptr);
  EXPECT_EQ(f4->dtype, DType::kF4);
  EXPECT_TRUE(f4->is_float);
  EXPECT_EQ(dtype_bytes(DType::kF4, 6), 3);
  expect_error(ErrorKind::kInternal, "3 elements are not whole blocks of F4", [] { dtype_bytes(DType::kF4, 3); });
  EXPECT_EQ(find_dtype("f32"), nullptr);
  EXPECT_EQ(find_dtype(""), nullptr);
  expect_error(ErrorKind::kInternal, "overflow", [] { dtype_bytes(DType::kF64, kMax / 4); });
  expect_error(ErrorKind::kInternal, "-1", [] { dtype_bytes(DType::kU8, -1); });
}

TEST(Shape, CountsAndPrints) {
  EXPECT_EQ(Shape().numel(), 1);
  EXPECT_EQ(Shape().to_string(), "[]");
  EXPECT_EQ(Shape({0}).numel(), 0);
  EXPECT_EQ(Shape({2, 3, 4}).numel(), 24);
  EXPECT_EQ(Shape({2, 3}).to_string(), "[2, 3]");
  EXPECT_EQ(Shape({2, 3}), Shape({2, 3}));
  EXPECT_NE(Shape({2, 3}), Shape({3, 2}));
  EXPECT_NE(Shape({2}), Shape({2, 1}));
  EXPECT_NE(Shape(), Shape({0}));
}

TEST(Shape, RefusesWhatIsNoShape) {
  expect_error(ErrorKind::kBadInput, "negative", [] { Shape({2, -1}); });
  expect_error(ErrorKind::kBadInput, "overflow", [] { Shape({kMax, 2}); });
  expect_error(ErrorKind::kBadInput, "overflow", [] { Shape({Index{1} << 32, Index{1} << 32}); });
  // A zero must not hide it: strides of such a shape would still overflow.
  expect_error(ErrorKind::kBadInput, "overflow", [] { Shape({0, kMax, kMax}); });
  expect_error(ErrorKind::kBadInput, "overflow", [] { Shape({kMax, kMax, 0}); });
  expect_error(ErrorKind::kBadInput, "rank 9", [] { Shape({1, 1, 1, 1, 1, 1, 1, 1, 1}); });
  EXPECT_EQ(Shape({kMax, 1}).numel(), kMax);
}

TEST(Tensor, ZerosAreAlignedWritableAndZero) {
  for (const Index n : {0, 1, 3, 64, 1000}) {
    Tensor t = Tensor::zeros(DType::kF32, {n});
    EXPECT_TRUE(t.defined());
    EXPECT_TRUE(t.writable());
    EXPECT_EQ(t.bytes().size(), static_cast<std::size_t>(n) * 4);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(t.bytes().data()) % 64, 0U);
    EXPECT_THAT(t.f32(), Each(0.0F));
  }
  // Memory that was used before is zeroed again.
  for (int round = 0; round < 3; ++round) {
    Tensor t = Tensor::zeros(DType::kI32, {100000});
    EXPECT_THAT(t.values<std::int32_t>(), Each(0));
    for (auto& x : t.mutable_values<std::int32_t>()) x = -1;
  }
  EXPECT_EQ(Tensor::zeros(DType::kF32, Shape()).numel(), 1);
}

TEST(Tensor, OutOfMemoryIsAnError) {
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SWITCHYARD_CHECKED_MALLOC
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SWITCHYARD_CHECKED_MALLOC
#endif
#ifdef SWITCHYARD_CHECKED_MALLOC
  GTEST_SKIP() << "the sanitizer's malloc ends the program instead of returning null";
#endif
  expect_error(ErrorKind::kResource, "memory", [] { Tensor::zeros(DType::kU8, {kMax / 2}); });
  expect_error(ErrorKind::kResource, "memory", [] { Tensor::uninitialized(DType::kU8, {kMax / 2}); });
}

TEST(Tensor, RefusesTheWrongType) {
  Tensor t = Tensor::zeros(DType::kF32, {4});
  expect_error(ErrorKind::kInternal, "F32 was read as F64", [&] { t.values<double>(); });
  expect_error(ErrorKind::kInternal, "F32 was read as I32", [&] { t.mutable_values<std::int32_t>(); });
  Tensor half = Tensor::zeros(DType::kBF16, {4});
  expect_error(ErrorKind::kInternal, "BF16 was read as F16", [&] { half.values<Float16>(); });
  expect_error(ErrorKind::kInternal, "BF16 was read as F32", [&] { half.matrix(); });
  expect_error(ErrorKind::kInternal, "undefined", [] { Tensor().values<float>(); });
}

TEST(Tensor, BorrowedKeepsItsOwnerAliveAndIsReadOnly) {
  auto owner = std::make_shared<std::vector<float>>(std::vector<float>{1, 2, 3, 4, 5, 6});
  const std::weak_ptr<std::vector<float>> watch = owner;
  const auto bytes = std::as_bytes(std::span(*owner));
  {
    Tensor t = Tensor::borrowed(DType::kF32, {2, 3}, bytes, owner);
    owner.reset();
    EXPECT_FALSE(watch.expired());
    EXPECT_FALSE(t.writable());
    EXPECT_EQ(t.bytes().data(), bytes.data());
    EXPECT_THAT(std::as_const(t).f32(), ElementsAre(1, 2, 3, 4, 5, 6));
    EXPECT_EQ(std::as_const(t).matrix()(1, 2), 6.0F);
    expect_error(ErrorKind::kInternal, "borrowed", [&] { t.f32(); });
    expect_error(ErrorKind::kInternal, "borrowed", [&] { t.matrix(); });
    expect_error(ErrorKind::kInternal, "borrowed", [&] { t.mutable_bytes(); });

    Tensor copy = t.clone();
    EXPECT_TRUE(copy.writable());
    copy.f32()[0] = 9;
    EXPECT_EQ(std::as_const(t).f32()[0], 1.0F);
  }
  EXPECT_TRUE(watch.expired());
}

TEST(Tensor, BorrowedChecksSizeAndOwner) {
  const auto owner = std::make_shared<std::array<std::byte, 64>>();
  const std::span<const std::byte> bytes(*owner);
  expect_error(ErrorKind::kInternal, "12 bytes",
               [&] { Tensor::borrowed(DType::kF32, {4}, bytes.subspan(0, 12), owner); });
  expect_error(ErrorKind::kInternal, "keep alive",
               [&] { Tensor::borrowed(DType::kF32, {4}, bytes.subspan(0, 16), nullptr); });
}

TEST(Tensor, UnalignedBorrowedIsReadByCopyOnly) {
  const auto owner = std::make_shared<std::vector<std::byte>>(64);
  const std::vector<float> expected = {1.5F, -2.0F, 3.25F};
  const auto address = reinterpret_cast<std::uintptr_t>(owner->data());
  const std::size_t offset = 1 + (4 - address % 4) % 4;
  std::memcpy(owner->data() + offset, expected.data(), 12);
  const Tensor t = Tensor::borrowed(DType::kF32, {3}, std::span(*owner).subspan(offset, 12), owner);
  expect_error(ErrorKind::kInternal, "unaligned", [&] { t.values<float>(); });
  EXPECT_THAT(t.to_f32().f32(), ::testing::ElementsAreArray(expected));
  EXPECT_THAT(t.clone().f32(), ::testing::ElementsAreArray(expected));
}

TEST(Tensor, ConvertsEveryFloatTypeToFloat32) {
  Tensor f64 = Tensor::zeros(DType::kF64, {2});
  f64.mutable_values<double>()[1] = 1.0 / 3.0;
  EXPECT_THAT(f64.to_f32().f32(), ElementsAre(0.0F, 1.0F / 3.0F));
  Tensor bf16 = Tensor::zeros(DType::kBF16, {2});
  bf16.mutable_values<BFloat16>()[1] = to_bfloat16(-2.5F);
  EXPECT_THAT(bf16.to_f32().f32(), ElementsAre(0.0F, -2.5F));
  Tensor f16 = Tensor::zeros(DType::kF16, {2});
  f16.mutable_values<Float16>()[1] = to_float16(0.125F);
  EXPECT_THAT(f16.to_f32().f32(), ElementsAre(0.0F, 0.125F));
  Tensor e4m3 = Tensor::zeros(DType::kF8E4M3, {2});
  e4m3.mutable_bytes()[1] = std::byte{0x7E};
  EXPECT_THAT(e4m3.to_f32().f32(), ElementsAre(0.0F, 448.0F));
  Tensor e5m2 = Tensor::zeros(DType::kF8E5M2, {2});
  e5m2.mutable_bytes()[1] = std::byte{0xBC};
  EXPECT_THAT(e5m2.to_f32().f32(), ElementsAre(0.0F, -1.0F));
  Tensor e8m0 = Tensor::zeros(DType::kF8E8M0, {2});
  e8m0.mutable_bytes()[1] = std::byte{129};
  EXPECT_THAT(e8m0.to_f32().f32(), ElementsAre(0x1.0p-127F, 4.0F));
  Tensor f4 = Tensor::zeros(DType::kF4, {2, 2});
  f4.mutable_bytes()[0] = std::byte{0xF1};
  f4.mutable_bytes()[1] = std::byte{0x26};
  EXPECT_THAT(f4.to_f32().f32(), ElementsAre(0.5F, -6.0F, 4.0F, 1.0F));
  expect_error(ErrorKind::kUnsupported, "I32", [] { Tensor::zeros(DType::kI32, {2}).to_f32(); });
}

TEST(Tensor, ReshapeAndMatricesShareTheMemory) {
  Tensor t = Tensor::zeros(DType::kF32, {2, 3, 4});
  std::iota(t.f32().begin(), t.f32().end(), 0.0F);
  EXPECT_EQ(t.matrix().rows, 6);
  EXPECT_EQ(t.matrix().cols, 4);
  EXPECT_EQ(t.matrix()(5, 3), 23.0F);
  EXPECT_EQ(t.matrix(1).rows, 3);
  EXPECT_EQ(t.matrix(1)(0, 0), 12.0F);
  expect_error(ErrorKind::kInternal, "no matrix 2", [&] { t.matrix(2); });
  expect_error(ErrorKind::kInternal, "no matrix -1", [&] { std::as_const(t).matrix(-1); });
  const void* before = t.bytes().data();
  t.reshape({4, 6});
  EXPECT_EQ(t.bytes().data(), before);
  EXPECT_EQ(t.matrix()(3, 5), 23.0F);
  expect_error(ErrorKind::kInternal, "[5, 5]", [&] { t.reshape({5, 5}); });
  expect_error(ErrorKind::kInternal, "no matrix 0", [&] { t.matrix(0); });

  EXPECT_EQ(Tensor::zeros(DType::kF32, {5}).matrix().rows, 1);
  EXPECT_EQ(Tensor::zeros(DType::kF32, Shape()).matrix().cols, 1);
  EXPECT_TRUE(Tensor::zeros(DType::kF32, {3, 0}).matrix().empty());
  EXPECT_TRUE(Tensor::zeros(DType::kF32, {0, 3}).matrix().empty());
}

TEST(View, SlicesKeepTheStride) {
  std::vector<float> data(20);
  std::iota(data.begin(), data.end(), 0.0F);
  const Matrix all(data.data(), 4, 5);
  const ConstMatrix part = all.slice_rows(1, 2).slice_cols(2, 3);
  EXPECT_EQ(part.rows, 2);
  EXPECT_EQ(part.cols, 3);
  EXPECT_EQ(part.stride, 5);
  EXPECT_THAT(part.row_span(1), ElementsAre(12, 13, 14));
  EXPECT_EQ(part(0, 2), 9.0F);
}

TEST(TensorMemory, CountsWhatIsOwned) {
  const Index before = tensor_memory().current_bytes;
  reset_tensor_memory_peak();
  {
    Tensor a = Tensor::zeros(DType::kF32, {1000});
    EXPECT_EQ(tensor_memory().current_bytes, before + 4000);
    {
      const Tensor b = a.clone();
      EXPECT_EQ(tensor_memory().current_bytes, before + 8000);
      const Tensor moved = std::move(a);
      EXPECT_EQ(tensor_memory().current_bytes, before + 8000);
      const auto owner = std::make_shared<std::array<std::byte, 64>>();
      const Tensor c = Tensor::borrowed(DType::kU8, {64}, *owner, owner);
      EXPECT_EQ(tensor_memory().current_bytes, before + 8000);
    }
  }
  EXPECT_EQ(tensor_memory().current_bytes, before);
  EXPECT_EQ(tensor_memory().peak_bytes, before + 8000);
  reset_tensor_memory_peak();
  EXPECT_EQ(tensor_memory().peak_bytes, before);
}

}  // namespace
}  // namespace switchyard
