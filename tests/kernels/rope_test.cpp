#include "switchyard/kernels/rope.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/each_target.hpp"
#include "oracle/compare.hpp"
#include "oracle/finite_difference.hpp"
#include "oracle/rope.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::kernels {
namespace {

using oracle::GuardedMatrix;

constexpr RopePairing kPairings[] = {RopePairing::kHalfSplit, RopePairing::kInterleaved};
// A rotation rounds the cosine and the sine once each, and two products and a sum.
constexpr double kTolerance = 6.0 * oracle::kUnitRoundoff;

TEST(Rope, FrequenciesFollowTheFormula) {
  const auto f = rope_frequencies(8, 10000.0);
  ASSERT_EQ(f.size(), 4U);
  EXPECT_EQ(f[0], 1.0F);
  EXPECT_EQ(f[1], 0.1F);
  EXPECT_EQ(f[2], 0.01F);
  EXPECT_EQ(f[3], 0.001F);
  EXPECT_THROW(rope_frequencies(7, 10000.0), Error);
  EXPECT_THROW(rope_frequencies(8, 0.0), Error);
}

void expect_matches_oracle(Index heads, Index head_dim, Index rotary_dim, const std::vector<std::int32_t>& positions) {
  for (const RopePairing pairing : kPairings) {
    SCOPED_TRACE(testing::Message() << heads << " heads of " << head_dim << ", rotary " << rotary_dim << ", pairing "
                                    << static_cast<int>(pairing));
    const auto rows = static_cast<Index>(positions.size());
    const auto values = oracle::random_values(rows * heads * head_dim, 1);
    const auto frequencies = rope_frequencies(rotary_dim, 10000.0);
    GuardedMatrix x(rows, heads * head_dim, 3, values);
    rope(x.view(), head_dim, positions, frequencies, pairing);
    EXPECT_TRUE(oracle::close(
        x.values(), oracle::rope(oracle::to_double(values), head_dim, positions, frequencies, pairing), kTolerance));
    EXPECT_TRUE(x.untouched());
    rope(x.view(), head_dim, positions, frequencies, pairing, true);
    EXPECT_TRUE(oracle::close(x.values(), oracle::to_double(values), 2.0 * kTolerance));
  }
}

TEST(Rope, MatchesOracleAndTurnsBack) {
  on_each_target([] {
    std::vector<std::int32_t> repeated;  // two sequences: the table is by position
    for (int i = 0; i < 40; ++i) repeated.push_back(3 + i % 20);
    for (const Index head_dim : {2, 4, 6, 10, 16, 18, 34, 64, 66, 128}) {
      expect_matches_oracle(1, head_dim, head_dim, repeated);
      expect_matches_oracle(3, head_dim, head_dim, {5});
    }
    expect_matches_oracle(2, 33, 20, repeated);
    expect_matches_oracle(2, 5, 4, {0, 1, 7, 3});
    expect_matches_oracle(1, 4, 0, {1, 2});
  });
}

TEST(Rope, FarPositionsAreAsExactAsNearOnes) {
  on_each_target([] {
    expect_matches_oracle(2, 64, 64, {1000000, 123456789, 17, 999999, 131071, 1048575});
    expect_matches_oracle(1, 32, 32, {std::numeric_limits<std::int32_t>::max(), 0, 2000000000});
  });
}

TEST(Rope, InverseIsTheGradient) {
  const std::vector<std::int32_t> positions = {4, 0, 11};
  const auto frequencies = rope_frequencies(6, 500.0);
  for (const RopePairing pairing : kPairings) {
    const auto x = oracle::random_values(3 * 2 * 7, 2), d_y = oracle::random_values(3 * 2 * 7, 3);
    std::vector<float> d_x = d_y;
    rope({d_x.data(), 3, 14}, 7, positions, frequencies, pairing, true);
    const auto loss = [&](const std::vector<double>& at) {
      return oracle::dot(oracle::rope(at, 7, positions, frequencies, pairing), d_y);
    };
    EXPECT_TRUE(oracle::is_gradient(d_x, loss, x, 2));
  }
}

TEST(Rope, SameBitsAtAnyThreadCountAndInAnyBatch) {
  const Index rows = 300;
  const auto values = oracle::random_values(rows * 64, 4);
  const auto frequencies = rope_frequencies(32, 10000.0);
  std::vector<std::int32_t> positions;
  for (Index t = 0; t < rows; ++t) positions.push_back(static_cast<std::int32_t>(t % 50 * 7));
  const auto run = [&](int threads) {
    std::vector<float> x = values;
    ThreadArena(threads).run([&] { rope({x.data(), rows, 64}, 32, positions, frequencies, RopePairing::kHalfSplit); });
    return x;
  };
  const auto one = run(1);
  for (const int threads : {2, 3, 4}) EXPECT_TRUE(oracle::same_bits(one, run(threads))) << threads << " threads";
  for (const Index t : {0, 51, 299}) {
    std::vector<float> row(values.begin() + t * 64, values.begin() + (t + 1) * 64);
    rope({row.data(), 1, 64}, 32, std::span(positions).subspan(static_cast<std::size_t>(t), 1), frequencies,
         RopePairing::kHalfSplit);
    EXPECT_TRUE(oracle::same_bits(row, std::span(one).subspan(static_cast<std::size_t>(t * 64), 64)));
  }
}

TEST(Rope, WrongShapesAreRefused) {
  std::vector<float> x(24);
  const auto frequencies = rope_frequencies(8, 100.0);
  const std::vector<std::int32_t> positions = {0, 1};
  EXPECT_THROW(rope({x.data(), 2, 12}, 6, positions, frequencies, RopePairing::kHalfSplit), Error);
  EXPECT_THROW(rope({x.data(), 3, 8}, 8, positions, frequencies, RopePairing::kHalfSplit), Error);
  EXPECT_THROW(rope({x.data(), 2, 12}, 8, positions, frequencies, RopePairing::kHalfSplit), Error);
  rope({x.data(), 0, 8}, 8, {}, frequencies, RopePairing::kHalfSplit);
}

}  // namespace
}  // namespace switchyard::kernels
