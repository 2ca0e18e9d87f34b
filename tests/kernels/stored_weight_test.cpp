// Weights as files hold them: every op must give the bits that it gives for their float32 expansion.

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/each_target.hpp"
#include "oracle/compare.hpp"
#include "oracle/weight.hpp"
#include "support/error_of.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/cross_entropy.hpp"
#include "switchyard/kernels/decode.hpp"
#include "switchyard/kernels/elementwise.hpp"
#include "switchyard/kernels/grouped_ffn.hpp"
#include "switchyard/kernels/matmul.hpp"

namespace switchyard::kernels {
namespace {

using oracle::GuardedMatrix;
using oracle::StoredWeight;
using oracle::WeightKind;

constexpr DType kQuantised[] = {DType::kQ80,   DType::kQ40,   DType::kQ41,  DType::kQ50, DType::kQ51,
                                DType::kQ2K,   DType::kQ3K,   DType::kQ4K,  DType::kQ5K, DType::kQ6K,
                                DType::kIQ4NL, DType::kIQ4XS, DType::kMXFP4};

// Every type in every layout without scales and with scales of the published and of awkward kinds.
const std::vector<WeightKind>& kinds() {
  static const std::vector<WeightKind> all = [] {
    std::vector<WeightKind> kinds;
    for (const DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2,
                              DType::kF8E8M0, DType::kF4}) {
      WeightKind plain, gap, apart, columns, columns_gap, columns_apart;
      gap.row_gap = 6;
      apart.apart = 2;
      columns.column_major = columns_gap.column_major = columns_apart.column_major = true;
      columns_gap.row_gap = 3;
      columns_apart.apart = 2;
      for (WeightKind kind : {plain, gap, apart, columns, columns_gap, columns_apart}) {
        kind.dtype = dtype;
        if (dtype == DType::kF4 && (kind.apart > 1 || kind.column_major)) continue;
        kinds.push_back(kind);
        const auto scaled = [&](DType type, Index rows, Index columns_, Index first_row, Index first_column) {
          WeightKind s = kind;
          s.scale_dtype = type;
          s.row_block = rows;
          s.column_block = columns_;
          s.first_row = first_row;
          s.first_column = first_column;
          kinds.push_back(s);
        };
        scaled(DType::kF32, 128, 128, 0, 0);
        scaled(DType::kF8E8M0, 1, 32, 0, 64);
        scaled(DType::kBF16, 128, 128, 100, 38);
        scaled(DType::kF16, 3, 5, 2, 4);
        scaled(DType::kF64, 20, 33, 7, 1);
        scaled(DType::kF8E4M3, 1, 1, 1, 1);
      }
    }
    for (const DType dtype : kQuantised) {
      WeightKind plain, gap;
      plain.dtype = gap.dtype = dtype;
      gap.row_gap = 300;
      kinds.push_back(plain);
      kinds.push_back(gap);
    }
    return kinds;
  }();
  return all;
}

std::string name_of(const WeightKind& kind) {
  std::string name(dtype_info(kind.dtype).name);
  if (kind.column_major) name += ", column-major";
  name += ", gap " + std::to_string(kind.row_gap) + ", apart " + std::to_string(kind.apart);
  if (kind.row_block > 0)
    name += ", scales of " + std::string(dtype_info(kind.scale_dtype).name) + " " + std::to_string(kind.row_block) +
            " x " + std::to_string(kind.column_block);
  return name;
}

// The same bits, but for which NaN it is.
testing::AssertionResult same_numbers(std::vector<float> a, std::vector<float> b) {
  for (std::vector<float>* values : {&a, &b})
    for (float& v : *values)
      if (std::isnan(v)) v = std::numeric_limits<float>::quiet_NaN();
  return oracle::same_bits(a, b);
}

TEST(Decode, EveryPartOfEveryKindIsWhatTheOracleSays) {
  on_each_target([] {
    const RandomStream stream(1, RandomPurpose::kTest, 3);
    std::uint64_t draw = 0;
    const auto below = [&](Index count) {
      return static_cast<Index>(stream.below(draw++, static_cast<std::uint64_t>(count)));
    };
    for (const WeightKind& kind : kinds()) {
      SCOPED_TRACE(name_of(kind));
      const Index rows = 1 + below(150), cols = 1 + below(300);
      const StoredWeight weight(kind, rows, cols, static_cast<std::uint32_t>(below(1000)), true);
      const std::vector<float> all = oracle::expand(weight.view());
      for (int part = 0; part < 3; ++part) {
        const Index row = part == 0 ? 0 : below(rows), begin = part == 0 ? 0 : below(cols);
        const Index column = kind.dtype == DType::kF4 ? begin / 2 * 2 : begin;
        const Index m = part == 0 ? rows : 1 + below(rows - row), k = part == 0 ? cols : 1 + below(cols - column);
        GuardedMatrix to(m, k, part);
        decode(weight.view(), row, column, to.view());
        std::vector<float> expected;
        for (Index i = 0; i < m; ++i)
          for (Index j = 0; j < k; ++j)
            expected.push_back(all[static_cast<std::size_t>((row + i) * cols + column + j)]);
        ASSERT_TRUE(same_numbers(to.values(), expected)) << m << " x " << k << " from " << row << ", " << column;
        ASSERT_TRUE(to.untouched());
      }
    }
  });
}

TEST(Decode, EveryBitPatternOfTheSmallTypes) {
  on_each_target([] {
    std::vector<std::byte> bytes(1 + 2 * 65536);
    for (std::size_t i = 0; i < 65536; ++i) {
      bytes[1 + 2 * i] = static_cast<std::byte>(i & 0xFFU);
      bytes[2 + 2 * i] = static_cast<std::byte>(i >> 8U);
    }
    for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2, DType::kF8E8M0, DType::kF4}) {
      WeightView all;
      all.data = bytes.data() + 1;
      all.dtype = dtype;
      all.rows = 1;
      all.cols = all.row_stride = 65536;
      std::vector<float> values(65536);
      decode(all, 0, 0, {values.data(), 1, 65536});
      EXPECT_TRUE(same_numbers(values, oracle::expand(all))) << dtype_info(dtype).name;
    }
  });
}

// Every value of the integers, alone at its place, with scales that are ones, odd, subnormal, infinite and NaN.
TEST(Decode, EveryBytePatternOfTheQuantisedTypes) {
  on_each_target([] {
    for (const DType dtype : kQuantised) {
      const DTypeInfo& info = dtype_info(dtype);
      WeightView all;
      all.dtype = dtype;
      all.rows = 256;
      all.cols = all.row_stride = info.block_elements;
      for (const int scale : {0x00, 0x3C, 0xB5, 0x7C, 0xFF}) {
        std::vector<std::byte> bytes(static_cast<std::size_t>(256 * info.block_bytes));
        for (std::size_t i = 0; i < bytes.size(); ++i) {
          const std::size_t value = i / static_cast<std::size_t>(info.block_bytes);
          // Bytes that are halves of some type's scales.
          const std::size_t at = i % static_cast<std::size_t>(info.block_bytes);
          const bool is_scale = at < 4 || at == 80 || at == 81 || at == 82 || at == 83 || at >= 108;
          bytes[i] = static_cast<std::byte>(is_scale && value % 2 == 0 ? static_cast<std::size_t>(scale) : value);
        }
        all.data = bytes.data();
        std::vector<float> values(static_cast<std::size_t>(256 * info.block_elements));
        decode(all, 0, 0, {values.data(), 256, info.block_elements});
        ASSERT_TRUE(same_numbers(values, oracle::expand(all))) << info.name << ", scale " << scale;
      }
    }
  });
}

TEST(Decode, PartsOfBlocksAtEveryColumn) {
  for (const DType dtype : {DType::kQ40, DType::kQ4K}) {
    WeightKind kind;
    kind.dtype = dtype;
    const Index block = dtype_info(dtype).block_elements, cols = 3 * block;
    const StoredWeight weight(kind, 2, cols, 1);
    const std::vector<float> all = oracle::expand(weight.view());
    for (Index column = 0; column < cols; column += 1 + block / 32)
      for (Index k = 1; column + k <= cols; k += 1 + block / 16) {
        GuardedMatrix to(2, k, 1);
        decode(weight.view(), 0, column, to.view());
        for (Index i = 0; i < 2; ++i)
          for (Index j = 0; j < k; ++j)
            ASSERT_EQ(to.view()(i, j), all[static_cast<std::size_t>(i * cols + column + j)]) << column << " " << k;
        ASSERT_TRUE(to.untouched());
      }
    const WeightView part = weight.view().slice_rows(1, 1).slice_cols(block, block + 5);
    EXPECT_EQ(oracle::expand(part), std::vector<float>(all.begin() + cols + block, all.begin() + cols + 2 * block + 5));
  }
}

TEST(Decode, RefusesWhatItCannotRead) {
  const StoredWeight weight({}, 4, 6, 1);
  WeightKind four_bits;
  four_bits.dtype = DType::kF4;
  const StoredWeight packed(four_bits, 4, 6, 1);
  GuardedMatrix to(2, 3);
  EXPECT_NO_THROW(decode(weight.view(), 2, 3, to.view()));
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { decode(weight.view(), 3, 3, to.view()); }),
            "decode: [2, 3] with stride 3 from 3, 3 of [4, 6]");
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { decode(weight.view(), 2, 4, to.view()); }),
            "decode: [2, 3] with stride 3 from 2, 4 of [4, 6]");
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { decode(packed.view(), 0, 1, to.view()); }),
            "decode: column 1 of F4 begins within a byte");
  WeightView integers = weight.view();
  integers.dtype = DType::kI32;
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { decode(integers, 0, 0, to.view()); }),
            "a weight of type I32, expected a float type");
}

struct Case {
  Index m, n, k;
};

void check_matmul(const WeightKind& kind, const Case& shape, Store store, int threads, bool special) {
  SCOPED_TRACE(testing::Message() << name_of(kind) << " M=" << shape.m << " N=" << shape.n << " K=" << shape.k
                                  << " threads=" << threads);
  const StoredWeight stored(kind, shape.n, shape.k, 5, special);
  const std::vector<float> expansion = oracle::expand(stored.view());
  const GuardedMatrix a(shape.m, shape.k, 1, oracle::random_values(shape.m * shape.k, 6));
  GuardedMatrix expected(shape.m, shape.n, 2, 0.75F), actual(shape.m, shape.n, 2, 0.75F);
  ThreadArena(threads).run([&] {
    matmul_nt(a.view(), ConstMatrix(expansion.data(), shape.n, shape.k), expected.view(), store);
    matmul_nt(a.view(), stored.view(), actual.view(), store);
  });
  ASSERT_TRUE(same_numbers(actual.values(), expected.values()));
  ASSERT_TRUE(actual.untouched());
}

TEST(StoredWeight, MatmulGivesTheBitsOfTheExpansion) {
  const std::array<Index, 8> ms = {1, 2, 3, 4, 5, 6, 17, 40}, ns = {1, 7, 15, 16, 17, 33, 130, 200},
                             ks = {1, 2, 31, 64, 255, 256, 257, 600};
  const RandomStream stream(2, RandomPurpose::kTest, 4);
  std::uint64_t draw = 0;
  const auto pick = [&](const std::array<Index, 8>& sizes) { return sizes[stream.below(draw++, 8)]; };
  for (const WeightKind& kind : kinds())
    for (const Index m : {Index{1}, pick(ms), pick(ms), pick(ms), Index{9}}) {
      const Case shape{m, pick(ns), pick(ks)};
      check_matmul(kind, shape, draw % 2 == 0 ? Store::kAdd : Store::kOverwrite, draw % 3 == 0 ? 2 : 1, draw % 4 == 0);
      if (HasFatalFailure()) return;
    }
}

TEST(StoredWeight, MatmulOnEveryInstructionSetAndSize) {
  on_each_target([] {
    for (const DType dtype : {DType::kBF16, DType::kF8E4M3, DType::kF4, DType::kQ80, DType::kQ3K, DType::kQ4K})
      for (const bool columns : {false, true}) {
        const bool quantised = dtype_info(dtype).is_quantised;
        if (columns && (quantised || dtype == DType::kF4)) continue;
        WeightKind kind;
        kind.dtype = dtype;
        kind.column_major = columns;
        if (dtype != DType::kBF16 && !quantised) {
          kind.row_block = dtype == DType::kF4 ? 1 : 128;
          kind.column_block = dtype == DType::kF4 ? 32 : 128;
        }
        for (const Index n : {1, 31, 32, 131})
          for (const Index m : {1, 2, 3, 4, 5, 33})
            for (const Index k : {7, 300}) check_matmul(kind, {m, n, k}, Store::kAdd, 1, false);
        check_matmul(kind, {1, 600, 800}, Store::kOverwrite, 3, false);
        check_matmul(kind, {150, 400, 520}, Store::kOverwrite, 3, false);
      }
  });
}

TEST(StoredWeight, MatmulOfNothing) {
  WeightKind kind;
  kind.dtype = DType::kBF16;
  check_matmul(kind, {3, 5, 0}, Store::kOverwrite, 1, false);
  check_matmul(kind, {3, 5, 0}, Store::kAdd, 1, false);
  check_matmul(kind, {0, 5, 8}, Store::kOverwrite, 1, false);
  check_matmul(kind, {3, 0, 8}, Store::kOverwrite, 1, false);
}

TEST(StoredWeight, MatmulRefusesWhatDoesNotFit) {
  WeightKind kind;
  kind.dtype = DType::kBF16;
  const StoredWeight w(kind, 3, 4, 1);
  GuardedMatrix a(2, 4), c(2, 3), wide(2, 4);
  EXPECT_NO_THROW(matmul_nt(a.view(), w.view(), c.view()));
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { matmul_nt(a.view(), w.view(), wide.view()); }),
            "matmul_nt: [2, 4] and [3, 4] of BF16 to [2, 4], strides 4 and 4");
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { matmul_nt(c.view(), w.view(), c.view()); }),
            "matmul_nt: [2, 3] and [3, 4] of BF16 to [2, 3], strides 3 and 3");
}

// Experts of one kind and the same as float32.
struct Experts {
  std::vector<StoredWeight> weights;
  std::vector<std::vector<float>> expansions;
  std::vector<std::vector<float>> biases;
  std::vector<FfnWeights> stored, expanded;

  Experts(const std::vector<WeightKind>& kinds_of_parts, bool gated, Index d, const std::vector<Index>& f, float bias) {
    for (std::size_t e = 0; e < f.size(); ++e) {
      FfnWeights s, x;
      const auto part = [&](Index rows, Index cols, WeightView FfnWeights::*to,
                            std::span<const float> FfnWeights::*to_bias) {
        const auto seed = static_cast<std::uint32_t>(weights.size());
        weights.emplace_back(kinds_of_parts[weights.size() % kinds_of_parts.size()], rows, cols, seed);
        expansions.push_back(oracle::expand(weights.back().view()));
        biases.push_back(oracle::random_values(bias == 0.0F ? 0 : rows, seed, bias));
        s.*to = weights.back().view();
        x.*to = ConstMatrix(expansions.back().data(), rows, cols);
        s.*to_bias = x.*to_bias = biases.back();
      };
      if (gated) part(f[e], d, &FfnWeights::gate_FD, &FfnWeights::gate_bias_F);
      part(f[e], d, &FfnWeights::up_FD, &FfnWeights::up_bias_F);
      part(d, f[e], &FfnWeights::down_DF, &FfnWeights::down_bias_D);
      stored.push_back(s);
      expanded.push_back(x);
    }
  }
};

void check_grouped(const std::vector<WeightKind>& kind, Activation activation, Index d, const std::vector<Index>& f,
                   const std::vector<Index>& counts, float bias) {
  SCOPED_TRACE(name_of(kind[0]));
  const Experts experts(kind, is_gated(activation), d, f, bias);
  const Index tokens = 50;
  std::vector<std::int32_t> offset = {0}, token;
  for (const Index count : counts) {
    for (Index i = 0; i < count; ++i) token.push_back(static_cast<std::int32_t>((7 * i + count) % tokens));
    offset.push_back(static_cast<std::int32_t>(token.size()));
  }
  const std::vector<float> weight = oracle::random_values(std::ssize(token), 8);
  const GuardedMatrix x(tokens, d, 0, oracle::random_values(tokens * d, 9, 0.1F));
  const GroupedRows rows{offset, token, weight};
  for (const int threads : {1, 2})
    for (const bool saving : {false, true}) {
      GuardedMatrix expected(std::ssize(token), d, 0, NAN), actual(std::ssize(token), d, 1, NAN);
      GroupedFfnSaved saved_expected, saved;
      ThreadArena(threads).run([&] {
        grouped_ffn_forward(activation, x.view(), rows, experts.expanded, expected.view(),
                            saving ? &saved_expected : nullptr);
        grouped_ffn_forward(activation, x.view(), rows, experts.stored, actual.view(), saving ? &saved : nullptr);
      });
      ASSERT_TRUE(same_numbers(actual.values(), expected.values())) << threads << " threads, saving " << saving;
      ASSERT_TRUE(actual.untouched());
    }
}

TEST(StoredWeight, GroupedFfnGivesTheBitsOfTheExpansion) {
  for (const WeightKind& kind : kinds())
    check_grouped({kind}, kind.row_block == 1 ? Activation::kGELU : Activation::kSwiGLU, 33, {50, 17, 40}, {3, 0, 21},
                  kind.row_block > 0 ? 0.3F : 0.0F);
  WeightKind f32, bf16, fp8;
  bf16.dtype = DType::kBF16;
  fp8.dtype = DType::kF8E4M3;
  fp8.row_block = fp8.column_block = 128;
  WeightKind turned = bf16;
  turned.column_major = true;
  for (const std::vector<WeightKind>& mixed :
       {std::vector<WeightKind>{bf16}, {fp8}, {turned}, {f32, bf16, fp8, turned}})
    for (const Activation activation : {Activation::kSwiGLU, Activation::kGELU})
      check_grouped(mixed, activation, 300, {130, 270}, {300, 4}, 0.3F);
}

TEST(StoredWeight, GroupedFfnOnEveryInstructionSet) {
  WeightKind kind;
  kind.dtype = DType::kF4;
  kind.row_block = 1;
  kind.column_block = 32;
  kind.scale_dtype = DType::kF8E8M0;
  WeightKind q4, q6;
  q4.dtype = DType::kQ4K;
  q6.dtype = DType::kQ6K;
  on_each_target([&] {
    check_grouped({kind}, Activation::kSwiGLU, 70, {60, 33, 64}, {1, 2, 40}, 0.3F);
    check_grouped({q4, q4, q6}, Activation::kSwiGLU, 512, {256, 33}, {1, 40}, 0.3F);
  });
}

TEST(StoredWeight, GradientsNeedFloat32Matrices) {
  WeightKind kind;
  kind.dtype = DType::kBF16;
  const Experts experts({kind}, true, 8, {6}, 0.0F);
  const std::vector<std::int32_t> offset = {0, 1}, token = {0};
  const std::vector<float> weight = {1.0F};
  GuardedMatrix x(1, 8, 0, 1.0F), y(1, 8), d_x(1, 8);
  GroupedFfnSaved saved;
  std::vector<float> d_weight(1);
  grouped_ffn_forward(Activation::kSwiGLU, x.view(), {offset, token, weight}, experts.stored, y.view(), &saved);
  EXPECT_EQ(error_of(ErrorKind::kInternal,
                     [&] {
                       grouped_ffn_backward(Activation::kSwiGLU, x.view(), {offset, token, weight}, experts.stored,
                                            saved, y.view(), d_x.view(), d_weight, {});
                     }),
            "grouped ffn: gradients of expert 0, whose weights are BF16, expected float32 matrices");
}

TEST(StoredWeight, EmbeddingDecodesTheRowsAskedFor) {
  const std::vector<std::int32_t> ids = {3, 0, 11, 3, 7};
  for (const WeightKind& kind : kinds()) {
    SCOPED_TRACE(name_of(kind));
    const StoredWeight table(kind, 12, 37, 3);
    GuardedMatrix y(5, 37, 2);
    embedding_forward(table.view(), ids, y.view());
    for (Index t = 0; t < 5; ++t)
      for (Index j = 0; j < 37; ++j)
        ASSERT_EQ(y.view()(t, j), oracle::element(table.view(), ids[static_cast<std::size_t>(t)], j));
    ASSERT_TRUE(y.untouched());
  }
}

TEST(StoredWeight, CrossEntropyGivesTheBitsOfTheExpansion) {
  const Index tokens = 9, d = 70, vocabulary = 130;
  const GuardedMatrix x(tokens, d, 0, oracle::random_values(tokens * d, 4, 0.1F));
  std::vector<std::int32_t> target;
  for (std::int32_t t = 0; t < tokens; ++t) target.push_back(t * 14);
  target[4] = kIgnoreTarget;
  for (const WeightKind& kind : kinds()) {
    SCOPED_TRACE(name_of(kind));
    const StoredWeight w(kind, vocabulary, d, 3);
    const std::vector<float> expansion = oracle::expand(w.view());
    std::vector<float> expected(static_cast<std::size_t>(tokens)), actual(expected);
    for (const Index chunk : {50, 4096}) {
      cross_entropy_forward(x.view(), ConstMatrix(expansion.data(), vocabulary, d), {}, target, expected, nullptr,
                            chunk);
      cross_entropy_forward(x.view(), w.view(), {}, target, actual, nullptr, chunk);
      ASSERT_TRUE(same_numbers(actual, expected));
    }
  }
}

}  // namespace
}  // namespace switchyard::kernels
