#include "switchyard/base/random.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>
#include <vector>

namespace switchyard {
namespace {

using Counter = std::array<std::uint32_t, 4>;

// The known answers that the authors of Random123 publish (tests/kat_vectors, "philox4x32 10").
TEST(Philox, GivesThePublishedAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomStream, DependsOnEveryPartOfItsAddress) {
  std::set<std::uint32_t> seen;
  const std::uint64_t high = std::uint64_t{1} << 32;
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, high}) {
    for (const auto purpose : {RandomPurpose::kInit, RandomPurpose::kDropout}) {
      for (const std::uint32_t a : {0U, 1U}) {
        for (const std::uint32_t b : {0U, 1U}) {
          for (const std::uint64_t index : {std::uint64_t{0}, std::uint64_t{1}, high}) {
            seen.insert(RandomStream(seed, purpose, a, b).bits(index));
          }
        }
      }
    }
  }
  EXPECT_EQ(seen.size(), 3U * 2 * 2 * 2 * 3);
}

TEST(RandomStream, RepeatsInAnyOrder) {
  const RandomStream stream(7, RandomPurpose::kTest, 3, 4);
  std::vector<float> forward;
  for (std::uint64_t i = 0; i < 100; ++i) forward.push_back(stream.normal(i));
  const RandomStream again(7, RandomPurpose::kTest, 3, 4);
  for (std::uint64_t i = 100; i-- > 0;) EXPECT_EQ(again.normal(i), forward[i]);
}

// The bounds are five standard errors of each statistic for n independent draws.
TEST(RandomStream, UniformIsUniform) {
  const RandomStream stream(1, RandomPurpose::kTest);
  constexpr int kDraws = 100000, kBins = 50;
  double sum = 0.0, squares = 0.0;
  std::array<int, kBins> histogram{};
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    const float x = stream.uniform(i);
    ASSERT_GE(x, 0.0F);
    ASSERT_LT(x, 1.0F);
    sum += x;
    squares += double{x} * x;
    ++histogram[static_cast<std::size_t>(x * kBins)];
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 5.0 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(squares / kDraws, 1.0 / 3, 5.0 * std::sqrt(4.0 / 45 / kDraws));
  double chi_squared = 0.0;
  constexpr double kExpected = double{kDraws} / kBins;
  for (const int count : histogram) chi_squared += (count - kExpected) * (count - kExpected) / kExpected;
  EXPECT_NEAR(chi_squared, kBins - 1, 5.0 * std::sqrt(2.0 * (kBins - 1)));
}

TEST(RandomStream, NormalHasTheMomentsOfANormal) {
  const RandomStream stream(2, RandomPurpose::kTest);
  constexpr int kDraws = 100000;
  std::array<double, 5> moment{};
  int within_one = 0;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    const double x = stream.normal(i);
    ASSERT_TRUE(std::isfinite(x));
    double power = 1.0;
    for (double& m : moment) {
      m += power / kDraws;
      power *= x;
    }
    within_one += std::abs(x) < 1.0 ? 1 : 0;
  }
  // Variances of x, x^2, x^3, x^4 under the normal distribution: 1, 2, 15, 96.
  const double five = 5.0 / std::sqrt(double{kDraws});
  EXPECT_NEAR(moment[1], 0.0, five);
  EXPECT_NEAR(moment[2], 1.0, five * std::sqrt(2.0));
  EXPECT_NEAR(moment[3], 0.0, five * std::sqrt(15.0));
  EXPECT_NEAR(moment[4], 3.0, five * std::sqrt(96.0));
  const double p = std::erf(std::sqrt(0.5));
  EXPECT_NEAR(static_cast<double>(within_one) / kDraws, p, five * std::sqrt(p * (1 - p)));
}

TEST(RandomStream, BelowCoversItsRangeEvenly) {
  const RandomStream stream(3, RandomPurpose::kTest);
  for (std::uint64_t i = 0; i < 100; ++i) EXPECT_EQ(stream.below(i, 1), 0U);
  constexpr int kDraws = 60000;
  std::array<int, 6> count{};
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    const std::uint64_t x = stream.below(i, count.size());
    ASSERT_LT(x, count.size());
    ++count[x];
  }
  const double p = 1.0 / 6;
  for (const int c : count) EXPECT_NEAR(c, kDraws * p, 5.0 * std::sqrt(kDraws * p * (1 - p)));
  // More than 32 bits are reached.
  const std::uint64_t huge = ~std::uint64_t{0};
  std::uint64_t all = 0;
  for (std::uint64_t i = 0; i < 200; ++i) all |= stream.below(i, huge);
  EXPECT_EQ(all, huge);
}

}  // namespace
}  // namespace switchyard
