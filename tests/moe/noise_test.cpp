#include "switchyard/moe/noise.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "oracle/finite_difference.hpp"
#include "oracle/router.hpp"
#include "support.hpp"

namespace switchyard::moe {
namespace {

using oracle::random_values;

constexpr Index kExperts = 7, kWidth = 5;

struct Drawn {
  std::vector<float> noisy, std;
};

Drawn draw(const std::string& rule, float noise_std, const std::vector<float>& x, const std::vector<float>& logits,
           const std::vector<float>& noise_ED, std::uint64_t seed = 3) {
  RouterConfig router;
  router.experts = kExperts;
  router.noise = rule;
  router.noise_std = noise_std;
  RouterWeights weights;
  weights.parts[RouterPart::kNoise] = matrix_of(noise_ED, kWidth);
  Drawn out{std::vector<float>(logits.size()), std::vector<float>(logits.size())};
  find_noise_rule(rule).forward(router, weights, matrix_of(x, kWidth), RandomStream(seed, RandomPurpose::kRouterNoise),
                                matrix_of(logits, kExperts), matrix_of(out.noisy, kExperts),
                                matrix_of(out.std, kExperts));
  return out;
}

struct Moments {
  double mean = 0.0, deviation = 0.0;
};
Moments moments_of(const Drawn& drawn) {
  Moments m;
  const auto n = static_cast<double>(drawn.noisy.size());
  for (const float v : drawn.noisy) m.mean += static_cast<double>(v) / n;
  for (const float v : drawn.noisy) m.deviation += std::pow(static_cast<double>(v) - m.mean, 2.0) / n;
  m.deviation = std::sqrt(m.deviation);
  return m;
}

// Mean and deviation within five standard errors of those of the distribution; around logits of 0.
TEST(Noise, HasTheMomentsOfItsDistribution) {
  const Index tokens = 20000;
  const std::vector<float> x(static_cast<std::size_t>(tokens * kWidth), 0.0F);
  const std::vector<float> logits(static_cast<std::size_t>(tokens * kExperts), 0.0F), noise_ED(kExperts * kWidth, 0.0F);
  const double error = 5.0 / std::sqrt(static_cast<double>(logits.size()));
  const Moments none = moments_of(draw("none", 2.0F, x, logits, noise_ED));
  EXPECT_EQ(none.mean, 0.0);
  EXPECT_EQ(none.deviation, 0.0);
  const Moments gaussian = moments_of(draw("gaussian", 2.0F, x, logits, noise_ED));
  EXPECT_NEAR(gaussian.mean, 0.0, 2.0 * error);
  EXPECT_NEAR(gaussian.deviation, 2.0, 2.0 * error);
  const Moments gumbel = moments_of(draw("gumbel", 1.0F, x, logits, noise_ED));
  EXPECT_NEAR(gumbel.mean, 0.5772156649, 1.2825 * error);          // Euler's constant
  EXPECT_NEAR(gumbel.deviation, 1.2825498, 2.0 * 1.2825 * error);  // pi / sqrt(6); its fourth moment is larger
  const Moments shazeer = moments_of(draw("shazeer", 1.0F, x, logits, noise_ED));
  EXPECT_NEAR(shazeer.deviation, std::log(2.0) + 0.01, error);  // softplus(0) + 0.01
}

TEST(Noise, DependsOnTheSeedAlone) {
  const std::vector<float> x = random_values(9 * kWidth, 1), logits = random_values(9 * kExperts, 2),
                           noise_ED = random_values(kExperts * kWidth, 3);
  for (const NoiseRule& rule : noise_rules()) {
    if (rule.name == "none") continue;
    const std::string name(rule.name);
    const Drawn first = draw(name, 1.0F, x, logits, noise_ED, 3);
    EXPECT_TRUE(oracle::same_bits(first.noisy, draw(name, 1.0F, x, logits, noise_ED, 3).noisy)) << name;
    EXPECT_FALSE(oracle::same_bits(first.noisy, draw(name, 1.0F, x, logits, noise_ED, 4).noisy)) << name;
  }
}

TEST(Noise, ShazeerDeviationAgreesWithTheOracle) {
  const std::vector<float> x = random_values(9 * kWidth, 1, 3.0F), logits = random_values(9 * kExperts, 2),
                           noise_ED = random_values(kExperts * kWidth, 3, 3.0F);
  const Drawn drawn = draw("shazeer", 1.0F, x, logits, noise_ED);
  EXPECT_TRUE(oracle::close(
      drawn.std, oracle::shazeer_deviation(oracle::to_double(x), oracle::to_double(noise_ED), kWidth, kExperts),
      oracle::sum_tolerance(kWidth, 2)));
}

TEST(Noise, ShazeerGradientIsThatOfTheOracle) {
  const std::vector<float> x = random_values(4 * kWidth, 1), logits(4 * kExperts, 0.0F),
                           noise_ED = random_values(kExperts * kWidth, 3);
  const std::vector<float> d_noisy = random_values(4 * kExperts, 5), d_std = random_values(4 * kExperts, 6);
  RouterConfig router;
  router.experts = kExperts;
  router.noise_std = 1.0F;
  RouterWeights weights;
  weights.parts[RouterPart::kNoise] = matrix_of(noise_ED, kWidth);
  std::vector<float> d_x(x.size(), 0.0F), d_noise(noise_ED.size(), 0.0F);
  RouterGradients gradients;
  gradients.parts[RouterPart::kNoise] = matrix_of(d_noise, kWidth);
  const RandomStream random(3, RandomPurpose::kRouterNoise);
  find_noise_rule("shazeer").backward(router, weights, matrix_of(x, kWidth), random, matrix_of(d_noisy, kExperts),
                                      matrix_of(d_std, kExperts), matrix_of(d_x, kWidth), gradients);
  const auto loss = [&](const std::vector<double>& at_x, const std::vector<double>& at_noise) {
    const oracle::Values deviation = oracle::shazeer_deviation(at_x, at_noise, kWidth, kExperts);
    double sum = 0.0;
    for (std::size_t i = 0; i < deviation.size(); ++i)
      sum += deviation[i] *
             (static_cast<double>(d_noisy[i]) * static_cast<double>(random.normal(i)) + static_cast<double>(d_std[i]));
    return sum;
  };
  const oracle::Values at_x = oracle::to_double(x), at_noise = oracle::to_double(noise_ED);
  EXPECT_TRUE(oracle::is_gradient(
      d_x, [&](const auto& v) { return loss(v, at_noise); }, x, 16, 3));
  EXPECT_TRUE(oracle::is_gradient(
      d_noise, [&](const auto& v) { return loss(at_x, v); }, noise_ED, 16, 3));
}

}  // namespace
}  // namespace switchyard::moe
