#include "switchyard/kernels/relative_attention.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "oracle/compare.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::kernels {
namespace {

using oracle::GuardedMatrix;

// In double, one query and head after the other. bias_of(head, relative position).
template <class BiasOf>
std::vector<double> expected(const RelativeAttentionShape& s, const std::vector<float>& q, const std::vector<float>& k,
                             const std::vector<float>& v, const BiasOf& bias_of) {
  const Index width = s.heads * s.head_dim;
  const auto at = [&](const std::vector<float>& m, Index row, Index column) {
    return static_cast<double>(m[static_cast<std::size_t>(row * width + column)]);
  };
  std::vector<double> out(static_cast<std::size_t>(s.queries * width));
  for (Index i = 0; i < s.queries; ++i) {
    for (Index h = 0; h < s.heads; ++h) {
      const Index seen = s.causal ? s.first_query + i + 1 : s.keys;
      std::vector<double> p;
      double largest = -1e300, sum = 0.0;
      for (Index j = 0; j < seen; ++j) {
        double score = bias_of(h, j - s.first_query - i);
        for (Index c = 0; c < s.head_dim; ++c) score += at(q, i, h * s.head_dim + c) * at(k, j, h * s.head_dim + c);
        p.push_back(score);
        largest = std::max(largest, score);
      }
      for (double& x : p) sum += x = std::exp(x - largest);
      for (Index j = 0; j < seen; ++j)
        for (Index c = 0; c < s.head_dim; ++c)
          out[static_cast<std::size_t>(i * width + h * s.head_dim + c)] +=
              p[static_cast<std::size_t>(j)] / sum * at(v, j, h * s.head_dim + c);
    }
  }
  return out;
}

std::vector<float> random(Index rows, Index cols, std::uint32_t seed, float scale = 1.0F) {
  return oracle::random_values(rows * cols, seed, scale);
}

TEST(RelativeAttention, AgreesWithTheDefinition) {
  const RelativeBuckets buckets{8, 20};
  for (const auto& [queries, keys, heads, head_dim, first] : std::vector<std::array<Index, 5>>{{1, 1, 1, 1, 0},
                                                                                               {1, 7, 3, 5, 6},
                                                                                               {5, 5, 2, 4, 0},
                                                                                               {65, 65, 3, 5, 0},
                                                                                               {130, 130, 1, 64, 0},
                                                                                               {3, 200, 2, 9, 197}})
    for (const bool causal : {false, true}) {
      SCOPED_TRACE(testing::Message() << queries << " queries, " << keys << " keys, causal " << causal);
      const Index width = heads * head_dim;
      const RelativeAttentionShape shape{queries, keys, heads, head_dim, first, causal};
      const auto q = random(queries, width, 1, 0.7F), k = random(keys, width, 2, 0.7F), v = random(keys, width, 3);
      const auto table = random(buckets.buckets, heads, 4);
      const ConstMatrix table_BH(table.data(), buckets.buckets, heads);
      const RelativeBias bias =
          relative_bias(buckets, !causal, table_BH, first + queries - 1, causal ? 0 : keys - 1 - first);
      const GuardedMatrix qs(queries, width, 3, q), ks(keys, width, 1, k), vs(keys, width, 2, v);
      GuardedMatrix out(queries, width, 5);
      const double tolerance = oracle::sum_tolerance(head_dim + keys, 3);
      relative_attention(shape, qs.view(), ks.view(), vs.view(), &bias, out.view());
      EXPECT_TRUE(out.untouched());
      const auto bias_of = [&](Index h, Index relative) {
        return static_cast<double>(table_BH(relative_bucket(buckets, !causal, relative), h));
      };
      EXPECT_TRUE(oracle::close(out.values(), expected(shape, q, k, v, bias_of), tolerance));
      relative_attention(shape, qs.view(), ks.view(), vs.view(), nullptr, out.view());
      EXPECT_TRUE(oracle::close(out.values(), expected(shape, q, k, v, [](Index, Index) { return 0.0; }), tolerance));
    }
}

TEST(RelativeAttention, TheSameBitsOneByOneAndAtAnyThreadCount) {
  const RelativeBuckets buckets;
  constexpr Index kTokens = 150, kHeads = 3, kWidth = kHeads * 7;
  const auto q = random(kTokens, kWidth, 1), k = random(kTokens, kWidth, 2), v = random(kTokens, kWidth, 3);
  const auto table = random(32, kHeads, 4);
  const ConstMatrix qs(q.data(), kTokens, kWidth), ks(k.data(), kTokens, kWidth), vs(v.data(), kTokens, kWidth);
  const RelativeBias bias = relative_bias(buckets, false, ConstMatrix(table.data(), 32, kHeads), kTokens - 1, 0);
  std::vector<float> whole(q.size()), threads(q.size()), single(q.size());
  const RelativeAttentionShape shape{kTokens, kTokens, kHeads, 7, 0, true};
  ThreadArena(1).run([&] { relative_attention(shape, qs, ks, vs, &bias, Matrix(whole.data(), kTokens, kWidth)); });
  ThreadArena(4).run([&] { relative_attention(shape, qs, ks, vs, &bias, Matrix(threads.data(), kTokens, kWidth)); });
  for (Index t = 0; t < kTokens; ++t)
    relative_attention({1, t + 1, kHeads, 7, t, true}, qs.slice_rows(t, 1), ks.slice_rows(0, t + 1),
                       vs.slice_rows(0, t + 1), &bias, Matrix(single.data(), kTokens, kWidth).slice_rows(t, 1));
  EXPECT_TRUE(oracle::same_bits(whole, threads));
  EXPECT_TRUE(oracle::same_bits(whole, single));
}

// 32 buckets up to 128 are those of every published model: exact up to 7 (15 one way), the last from 91 (113) on.
TEST(RelativeBucketTest, PublishedBuckets) {
  const RelativeBuckets b;
  EXPECT_EQ(relative_bucket(b, true, 0), 0);
  EXPECT_EQ(relative_bucket(b, true, -7), 7);
  EXPECT_EQ(relative_bucket(b, true, 7), 23);
  EXPECT_EQ(relative_bucket(b, true, -8), 8);
  EXPECT_EQ(relative_bucket(b, true, -16), 10);
  EXPECT_EQ(relative_bucket(b, true, -32), 12);
  EXPECT_EQ(relative_bucket(b, true, 64), 30);
  EXPECT_EQ(relative_bucket(b, true, 1000000), 31);
  EXPECT_EQ(relative_bucket(b, false, 5), 0);
  EXPECT_EQ(relative_bucket(b, false, -15), 15);
  EXPECT_EQ(relative_bucket(b, false, -16), 16);
  EXPECT_EQ(relative_bucket(b, false, -128), 31);
}

TEST(RelativeAttention, BrokenPromises) {
  const auto values = random(4, 6, 1);
  std::vector<float> to(24);
  const ConstMatrix m(values.data(), 4, 6);
  const Matrix out(to.data(), 4, 6);
  const RelativeAttentionShape shape{4, 4, 2, 3, 0, false};
  const RelativeBias bias = relative_bias({}, true, ConstMatrix(values.data(), 32, 0), 3, 3);
  EXPECT_THROW(relative_attention(shape, m, m.slice_rows(0, 3), m, nullptr, out), Error);
  EXPECT_THROW(relative_attention(shape, m, m, m, &bias, out), Error);  // of no heads
  EXPECT_THROW(relative_attention({4, 4, 2, 3, 1, true}, m, m, m, nullptr, out), Error);
  EXPECT_THROW(relative_bias({}, true, m, 3, 3), Error);
  EXPECT_THROW(relative_bucket({3, 128}, true, 1), Error);
  EXPECT_THROW(relative_bucket({32, 16}, true, 1), Error);
}

}  // namespace
}  // namespace switchyard::kernels
