#include "switchyard/kernels/heads.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "oracle/compare.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::kernels {
namespace {

using oracle::GuardedMatrix;

TEST(Clamp, CutsAtTheLimitAndKeepsNan) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {0.0F, 3.0F, -3.0F, 3.5F, -4.0F, inf, -inf, NAN, -1.0F};
  const std::vector<float> expected = {0.0F, 3.0F, -3.0F, 3.0F, -3.0F, 3.0F, -3.0F, NAN, -1.0F};
  std::vector<float> y = x;
  clamp(3.0F, y, y);
  const std::vector<float> d_y = oracle::random_values(9, 1);
  std::vector<float> d_x = d_y;
  clamp_backward(3.0F, x, d_x, d_x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(std::isnan(y[i]), std::isnan(expected[i]));
    if (!std::isnan(expected[i])) {
      EXPECT_EQ(y[i], expected[i]);
    }
    EXPECT_EQ(d_x[i], x[i] == expected[i] ? d_y[i] : 0.0F);
  }
}

TEST(Clamp, LongSpansAndWrongSizes) {
  const auto x = oracle::random_values(70001, 2);
  std::vector<float> one(x.size()), four(x.size());
  ThreadArena(1).run([&] { clamp(0.5F, x, one); });
  ThreadArena(4).run([&] { clamp(0.5F, x, four); });
  EXPECT_TRUE(oracle::same_bits(one, four));
  EXPECT_EQ(oracle::max_abs(one), 0.5);
  EXPECT_THROW(clamp(0.5F, x, std::span(one).first(3)), Error);
  EXPECT_THROW(clamp(-0.5F, x, one), Error);
  EXPECT_THROW(clamp_backward(0.5F, x, std::span(x).first(3), one), Error);
}

TEST(CopyMatrix, KeepsBothStrides) {
  const auto values = oracle::random_values(7 * 5, 3);
  const GuardedMatrix from(7, 5, 3, values);
  GuardedMatrix to(7, 5, 2);
  copy_matrix(from.view(), to.view());
  EXPECT_EQ(to.values(), values);
  EXPECT_TRUE(to.untouched());
  EXPECT_THROW(copy_matrix(from.view(), to.view().slice_cols(0, 4)), Error);
}

TEST(LatentKeysValues, PartsLieWhereTheyShould) {
  for (const auto& [tokens, heads, key_dim, value_dim, turned] :
       std::vector<std::array<Index, 5>>{{1, 1, 1, 1, 1}, {5, 3, 4, 7, 2}, {300, 16, 5, 3, 4}, {4, 2, 0, 3, 5}}) {
    const Index width = key_dim + value_dim, key_width = key_dim + turned;
    const auto kv_values = oracle::random_values(tokens * heads * width, 4);
    const auto rope_values = oracle::random_values(tokens * turned, 5);
    const GuardedMatrix kv(tokens, heads * width, 2, kv_values), rope(tokens, turned, 3, rope_values);
    GuardedMatrix k(tokens, heads * key_width, 1, NAN), v(tokens, heads * value_dim, 4, NAN);
    latent_keys_values(heads, value_dim, kv.view(), rope.view(), k.view(), v.view());
    for (Index t = 0; t < tokens; ++t)
      for (Index h = 0; h < heads; ++h) {
        for (Index c = 0; c < key_width; ++c)
          ASSERT_EQ(k.view()(t, h * key_width + c),
                    c < key_dim ? kv.view()(t, h * width + c) : rope.view()(t, c - key_dim));
        for (Index c = 0; c < value_dim; ++c)
          ASSERT_EQ(v.view()(t, h * value_dim + c), kv.view()(t, h * width + key_dim + c));
      }
    EXPECT_TRUE(k.untouched() && v.untouched());

    GuardedMatrix d_kv(tokens, heads * width, 1, NAN), d_rope(tokens, turned, 2, NAN);
    latent_keys_values_backward(heads, value_dim, std::as_const(k).view(), std::as_const(v).view(), d_kv.view(),
                                d_rope.view());
    EXPECT_EQ(d_kv.values(), kv_values);
    std::vector<double> sums = oracle::to_double(rope_values);
    for (double& sum : sums) sum *= static_cast<double>(heads);
    EXPECT_TRUE(oracle::close(d_rope.values(), sums, oracle::sum_tolerance(heads)));
    EXPECT_TRUE(d_kv.untouched() && d_rope.untouched());
  }
  const std::vector<float> x(60);
  std::vector<float> y(60);
  EXPECT_THROW(latent_keys_values(2, 3, {x.data(), 2, 10}, {x.data(), 2, 2}, {y.data(), 2, 8}, {y.data(), 2, 5}),
               Error);
  EXPECT_THROW(latent_keys_values(2, 3, {x.data(), 2, 10}, {x.data(), 1, 2}, {y.data(), 2, 8}, {y.data(), 2, 6}),
               Error);
}

}  // namespace
}  // namespace switchyard::kernels
