#include "switchyard/tensor/weight.hpp"

#include <gtest/gtest.h>

#include <array>

#include "support/error_of.hpp"
#include "switchyard/tensor/tensor.hpp"

namespace switchyard {
namespace {

TEST(WeightView, AFloat32MatrixIsReadInPlace) {
  Tensor t = Tensor::zeros(DType::kF32, {5, 8});
  const Matrix m = t.matrix().slice_cols(2, 4);
  const WeightView w = m;
  ASSERT_TRUE(w.is_matrix());
  EXPECT_EQ(w.matrix().data, m.data);
  EXPECT_EQ(w.matrix().rows, 5);
  EXPECT_EQ(w.matrix().cols, 4);
  EXPECT_EQ(w.matrix().stride, 8);
  const WeightView part = w.slice_rows(1, 3).slice_cols(1, 2);
  EXPECT_EQ(part.matrix().data, m.row(1) + 1);
  EXPECT_TRUE(w.slice_rows(5, 0).is_matrix());
  EXPECT_TRUE(WeightView().is_matrix());
  EXPECT_TRUE(WeightView(ConstMatrix()).empty());
}

TEST(WeightView, WhatIsNoMatrix) {
  alignas(8) std::array<std::byte, 256> memory{};
  WeightView w;
  w.data = memory.data();
  w.rows = 3;
  w.cols = 4;
  w.row_stride = 4;
  EXPECT_TRUE(w.is_matrix());
  EXPECT_FALSE(w.transposed().is_matrix());
  EXPECT_TRUE(w.slice_rows(0, 1).is_matrix());
  EXPECT_FALSE(w.slice_cols(1, 1).transposed().is_matrix());  // its elements are 4 apart
  WeightView other = w;
  other.data += 2;
  EXPECT_FALSE(other.is_matrix());
  other = w;
  other.row_stride = 0;
  EXPECT_FALSE(other.is_matrix());
  EXPECT_NO_THROW(other.check());
  other = w;
  other.scales.data = memory.data();
  EXPECT_FALSE(other.is_matrix());
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { other.matrix(); }),
            "a weight [3, 4] of F32 with strides 4 and 1 and scales was read in place");
  other = w;
  other.dtype = DType::kBF16;
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { other.matrix(); }),
            "a weight [3, 4] of BF16 with strides 4 and 1 was read in place");
}

TEST(WeightView, PartsKeepTheirPlaceInTheScales) {
  std::array<std::byte, 64> memory{};
  WeightView w;
  w.data = memory.data();
  w.dtype = DType::kF4;
  w.rows = 6;
  w.cols = 8;
  w.row_stride = 16;
  w.scales = {memory.data(), DType::kF8E8M0, 3, 2, 4, 1, 5};
  const WeightView part = w.slice_rows(2, 3).slice_cols(6, 2);
  EXPECT_EQ(part.data - w.data, 2 * 8 + 3);
  EXPECT_EQ(part.scales.first_row, 3);
  EXPECT_EQ(part.scales.first_column, 11);
  EXPECT_EQ(part.rows, 3);
  EXPECT_EQ(part.cols, 2);
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { w.slice_cols(3, 2); }),
            "a part of a weight of F4 begins within a byte");
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { w.transposed(); }), "a weight of F4 cannot be transposed");
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { w.slice_rows(4, 3); }), "rows [4, 7) of a weight of 6");
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { w.slice_cols(-2, 3); }), "columns [-2, 1) of a weight of 8");

  w.dtype = DType::kF8E4M3;
  const WeightView t = w.transposed();
  EXPECT_EQ(t.rows, 8);
  EXPECT_EQ(t.cols, 6);
  EXPECT_EQ(t.row_stride, 1);
  EXPECT_EQ(t.col_stride, 16);
  EXPECT_EQ(t.scales.row_block, 4);
  EXPECT_EQ(t.scales.column_block, 2);
  EXPECT_EQ(t.scales.first_row, 5);
  EXPECT_EQ(t.scales.first_column, 1);
  EXPECT_EQ(t.scales.stride, 1);
  EXPECT_EQ(t.scales.column_stride, 3);
}

TEST(WeightView, RefusesWhatItCannotRead) {
  std::array<std::byte, 64> memory{};
  WeightView good;
  good.data = memory.data();
  good.dtype = DType::kF4;
  good.rows = 3;
  good.cols = 5;
  good.row_stride = 6;
  good.scales = {memory.data(), DType::kBF16, 1, 2, 2};
  EXPECT_NO_THROW(good.check());
  const auto refused = [&](const auto& spoil) {
    WeightView w = good;
    spoil(w);
    return error_of(ErrorKind::kInternal, [&] { w.check(); });
  };
  EXPECT_EQ(refused([](WeightView& w) { w.data = nullptr; }), "a weight [3, 5] without data");
  EXPECT_EQ(refused([](WeightView& w) { w.dtype = DType::kU8; }), "a weight of type U8, expected a float type");
  EXPECT_EQ(refused([](WeightView& w) { w.row_stride = 5; }),
            "a weight of F4 with strides 5 and 1, expected rows of whole bytes");
  EXPECT_EQ(refused([](WeightView& w) { w.col_stride = 2; }),
            "a weight of F4 with strides 6 and 2, expected rows of whole bytes");
  EXPECT_EQ(refused([](WeightView& w) { w.scales.dtype = DType::kI32; }), "a weight with scales of type I32");
  EXPECT_EQ(refused([](WeightView& w) { w.scales.dtype = DType::kF4; }), "a weight with scales of type F4");
  EXPECT_EQ(refused([](WeightView& w) { w.scales.column_block = 0; }),
            "a weight with scales of blocks 2 x 0 from 0, 0 on");
  EXPECT_EQ(refused([](WeightView& w) { w.scales.first_row = -1; }),
            "a weight with scales of blocks 2 x 2 from -1, 0 on");
}

}  // namespace
}  // namespace switchyard
