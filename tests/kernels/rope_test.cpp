#include "switchyard/kernels/rope.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/each_target.hpp"
#include "oracle/compare.hpp"
#include "oracle/finite_difference.hpp"
#include "oracle/rope.hpp"
#include "support/error_of.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::kernels {
namespace {

using oracle::GuardedMatrix;
using testing::HasSubstr;

constexpr RopePairing kPairings[] = {RopePairing::kHalfSplit, RopePairing::kInterleaved};
// A rotation rounds the cosine and the sine once each, and two products and a sum.
constexpr double kTolerance = 6.0 * oracle::kUnitRoundoff;

RopeTable plain(Index rotary_dim, double theta = 10000.0) { return rope_table(rotary_dim, theta, {}); }

RopeScaling yarn(double factor, double beta_fast = 32.0, bool truncate = true) {
  RopeScaling scaling;
  scaling.kind = "yarn";
  scaling.factor = factor;
  scaling.original_positions = 4096.0;
  scaling.beta_fast = beta_fast;
  scaling.truncate = truncate;
  return scaling;
}

TEST(RopeTable, FrequenciesFollowTheFormula) {
  const RopeTable table = plain(8);
  ASSERT_EQ(table.frequencies.size(), 4U);
  EXPECT_EQ(table.frequencies[0], 1.0F);
  EXPECT_EQ(table.frequencies[1], 0.1F);
  EXPECT_EQ(table.frequencies[2], 0.01F);
  EXPECT_EQ(table.frequencies[3], 0.001F);
  EXPECT_EQ(table.magnitude, 1.0F);
  EXPECT_TRUE(plain(0).frequencies.empty());
}

TEST(RopeTable, EveryKindMatchesItsFormula) {
  RopeScaling linear;
  linear.kind = "linear";
  linear.factor = 4.0;
  RopeScaling llama3;
  llama3.kind = "llama3";
  llama3.factor = 8.0;
  llama3.original_positions = 8192.0;
  RopeScaling scout = llama3;  // Llama-4-Scout: nothing between the two lengths
  scout.factor = 16.0;
  scout.high_frequency_factor = 1.0;
  std::vector<RopeScaling> all = {{}, linear, llama3, scout, yarn(40.0), yarn(32.0, 32.0, false), yarn(4.0, 1.0)};
  for (const Index rotary_dim : {2, 6, 64, 128})
    for (const double theta : {100.0, 10000.0, 150000.0, 500000.0}) {
      RopeScaling longrope;
      longrope.kind = "longrope";
      for (Index i = 0; i < rotary_dim / 2; ++i) {
        longrope.short_factors.push_back(1.0 + 0.01 * static_cast<double>(i));
        longrope.long_factors.push_back(1.5 + 3.0 * static_cast<double>(i));
      }
      std::vector<RopeScaling> kinds = all;
      kinds.push_back(longrope);
      for (const RopeScaling& scaling : kinds)
        for (const bool long_text : {false, true}) {
          const auto expected = oracle::rope_frequencies(rotary_dim, theta, scaling, long_text);
          const RopeTable table = rope_table(rotary_dim, theta, scaling, long_text);
          ASSERT_EQ(table.frequencies.size(), expected.size());
          for (std::size_t i = 0; i < expected.size(); ++i)
            EXPECT_NEAR(table.frequencies[i], expected[i], expected[i] * (1e-12 + oracle::kUnitRoundoff))
                << scaling.kind << " " << rotary_dim << " " << theta << " pair " << i;
        }
    }
}

// The pairs between which YaRN interpolates, read off the frequencies of published models: `low` is the last pair
// that is kept, `high` the first that is divided by the factor.
struct YarnModel {
  const char* name;
  double theta;
  RopeScaling scaling;
  double low, high;
};

TEST(RopeTable, YarnOfPublishedModels) {
  for (const YarnModel& m : {YarnModel{"DeepSeek-V2, V3", 10000.0, yarn(40.0), 10.0, 23.0},
                             YarnModel{"Kimi-K2", 50000.0, yarn(32.0, 1.0), 19.0, 20.0},
                             YarnModel{"Kimi-K2.5", 50000.0, yarn(64.0), 8.0, 20.0},
                             YarnModel{"gpt-oss", 150000.0, yarn(32.0, 32.0, false), 8.09278, 17.39802}}) {
    SCOPED_TRACE(m.name);
    const RopeTable kept = plain(64, m.theta), table = rope_table(64, m.theta, m.scaling);
    for (std::size_t i = 0; i < 32; ++i) {
      const auto f = static_cast<double>(kept.frequencies[i]), found = static_cast<double>(table.frequencies[i]);
      const double ramp = std::clamp((static_cast<double>(i) - m.low) / (m.high - m.low), 0.0, 1.0);
      // low and high of the last one are given to five decimals.
      EXPECT_NEAR((f - found) / (f - f / m.scaling.factor), ramp, 2e-6) << "pair " << i;
    }
  }
}

TEST(RopeTable, MagnitudesOfTheKindsThatHaveOne) {
  RopeScaling scaling = yarn(32.0);
  scaling.magnitude = 1.346573590;
  EXPECT_EQ(rope_table(2, 100.0, scaling).magnitude, 1.346573590F);
  scaling.kind = "linear";
  EXPECT_EQ(rope_table(2, 100.0, scaling).magnitude, 1.0F);
  scaling.kind = "longrope";
  scaling.short_factors = scaling.long_factors = {2.0};
  scaling.magnitude = 1.19;
  scaling.long_magnitude = 1.25;
  EXPECT_EQ(rope_table(2, 100.0, scaling, false).magnitude, 1.19F);
  EXPECT_EQ(rope_table(2, 100.0, scaling, true).magnitude, 1.25F);
}

TEST(RopeTable, WhatDoesNotFitIsBadInput) {
  const auto message = [](Index rotary_dim, double theta, void (*change)(RopeScaling&)) {
    RopeScaling scaling = yarn(4.0);
    change(scaling);
    return error_of(ErrorKind::kBadInput, [&] { rope_table(rotary_dim, theta, scaling); });
  };
  const auto nothing = [](RopeScaling&) {};
  EXPECT_EQ(message(8, 100.0, [](RopeScaling& s) { s.kind = "dynamic"; }),
            "rope: unknown kind of scaling 'dynamic', expected none, linear, yarn, llama3 or longrope");
  EXPECT_THAT(message(7, 100.0, nothing), HasSubstr("7 elements"));
  EXPECT_THAT(message(-2, 100.0, nothing), HasSubstr("-2 elements"));
  for (const double theta : {0.0, -1.0, HUGE_VAL, static_cast<double>(NAN)})
    EXPECT_THAT(message(8, theta, nothing), HasSubstr("theta"));
  EXPECT_THAT(message(8, 1.0, nothing), HasSubstr("theta is 1, yarn expects a number above 1"));
  EXPECT_THAT(message(8, 100.0, [](RopeScaling& s) { s.factor = 0.0; }), HasSubstr("factor is 0"));
  EXPECT_THAT(message(8, 100.0, [](RopeScaling& s) { s.original_positions = -1.0; }), HasSubstr("original_positions"));
  EXPECT_THAT(message(8, 100.0, [](RopeScaling& s) { s.beta_slow = 0.0; }), HasSubstr("beta_slow"));
  EXPECT_THAT(message(8, 100.0, [](RopeScaling& s) { s.magnitude = HUGE_VAL; }), HasSubstr("magnitude"));
  const auto llama3 = [](RopeScaling& s) {
    s.kind = "llama3";
    s.low_frequency_factor = 5.0;
  };
  EXPECT_THAT(message(8, 100.0, llama3), HasSubstr("low_frequency_factor 5 is above high_frequency_factor 4"));
  const auto longrope = [](RopeScaling& s) {
    s.kind = "longrope";
    s.short_factors = {1.0, 2.0, 3.0};
  };
  EXPECT_THAT(message(8, 100.0, longrope), HasSubstr("short_factors has 3 numbers, expected one a pair, 4"));
  const auto linear = [](RopeScaling& s) {
    s.kind = "linear";
    s.factor = 1e-9;
  };
  EXPECT_THAT(message(8, 100.0, linear), HasSubstr("at most 1000"));
}

void expect_matches_oracle(Index heads, Index head_dim, Index rotary_dim, const std::vector<std::int32_t>& positions,
                           Index first = 0) {
  for (const RopePairing pairing : kPairings) {
    SCOPED_TRACE(testing::Message() << heads << " heads of " << head_dim << ", rotary " << rotary_dim << ", pairing "
                                    << static_cast<int>(pairing));
    const auto rows = static_cast<Index>(positions.size());
    const auto values = oracle::random_values(rows * heads * head_dim, 1);
    RopeTable table = plain(rotary_dim);
    GuardedMatrix x(rows, heads * head_dim, 3, values);
    rope(x.view(), head_dim, first, positions, table, pairing);
    EXPECT_TRUE(oracle::close(
        x.values(), oracle::rope(oracle::to_double(values), head_dim, first, positions, table, pairing), kTolerance));
    EXPECT_TRUE(x.untouched());
    rope(x.view(), head_dim, first, positions, table, pairing, true);
    EXPECT_TRUE(oracle::close(x.values(), oracle::to_double(values), 2.0 * kTolerance));
    table.magnitude = 1.25F;
    GuardedMatrix stretched(rows, heads * head_dim, 0, values);
    rope(stretched.view(), head_dim, first, positions, table, pairing);
    EXPECT_TRUE(oracle::close(stretched.values(),
                              oracle::rope(oracle::to_double(values), head_dim, first, positions, table, pairing),
                              kTolerance));
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
    expect_matches_oracle(2, 33, 20, repeated, 13);
    expect_matches_oracle(3, 24, 8, repeated, 16);
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
  RopeTable table = plain(6, 500.0);
  table.magnitude = 1.5F;
  for (const RopePairing pairing : kPairings) {
    const auto x = oracle::random_values(3 * 2 * 7, 2), d_y = oracle::random_values(3 * 2 * 7, 3);
    std::vector<float> d_x = d_y;
    rope({d_x.data(), 3, 14}, 7, 1, positions, table, pairing, true);
    const auto loss = [&](const std::vector<double>& at) {
      return oracle::dot(oracle::rope(at, 7, 1, positions, table, pairing), d_y);
    };
    EXPECT_TRUE(oracle::is_gradient(d_x, loss, x, 2));
  }
}

TEST(Rope, SameBitsAtAnyThreadCountAndInAnyBatch) {
  const Index rows = 300;
  const auto values = oracle::random_values(rows * 64, 4);
  const RopeTable table = plain(32);
  std::vector<std::int32_t> positions;
  for (Index t = 0; t < rows; ++t) positions.push_back(static_cast<std::int32_t>(t % 50 * 7));
  const auto run = [&](int threads) {
    std::vector<float> x = values;
    ThreadArena(threads).run([&] { rope({x.data(), rows, 64}, 32, 0, positions, table, RopePairing::kHalfSplit); });
    return x;
  };
  const auto one = run(1);
  for (const int threads : {2, 3, 4}) EXPECT_TRUE(oracle::same_bits(one, run(threads))) << threads << " threads";
  for (const Index t : {0, 51, 299}) {
    std::vector<float> row(values.begin() + t * 64, values.begin() + (t + 1) * 64);
    rope({row.data(), 1, 64}, 32, 0, std::span(positions).subspan(static_cast<std::size_t>(t), 1), table,
         RopePairing::kHalfSplit);
    EXPECT_TRUE(oracle::same_bits(row, std::span(one).subspan(static_cast<std::size_t>(t * 64), 64)));
  }
}

TEST(Rope, WrongShapesAreRefused) {
  std::vector<float> x(24);
  const RopeTable table = plain(8, 100.0);
  const std::vector<std::int32_t> positions = {0, 1};
  EXPECT_THROW(rope({x.data(), 2, 12}, 6, 0, positions, table, RopePairing::kHalfSplit), Error);
  EXPECT_THROW(rope({x.data(), 3, 8}, 8, 0, positions, table, RopePairing::kHalfSplit), Error);
  EXPECT_THROW(rope({x.data(), 2, 12}, 8, 0, positions, table, RopePairing::kHalfSplit), Error);
  EXPECT_THROW(rope({x.data(), 2, 12}, 12, 5, positions, table, RopePairing::kHalfSplit), Error);
  EXPECT_THROW(rope({x.data(), 2, 12}, 12, -1, positions, table, RopePairing::kHalfSplit), Error);
  rope({x.data(), 0, 8}, 8, 0, {}, table, RopePairing::kHalfSplit);
}

}  // namespace
}  // namespace switchyard::kernels
