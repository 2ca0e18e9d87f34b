#include "switchyard/runtime/sampler.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "switchyard/base/error.hpp"

namespace switchyard::runtime {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Every filter off.
SamplingConfig plain() {
  SamplingConfig config;
  config.top_k = 0;
  config.top_p = 1.0F;
  config.min_p = 0.0F;
  config.temperature = 1.0F;
  config.seed = 5;
  return config;
}

// Logits whose probabilities are these.
std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

std::map<std::int32_t, int> count(const SamplingConfig& config, const std::vector<float>& logits, int draws = 20000,
                                  const std::vector<std::int32_t>& history = {}) {
  Sampler sampler(config);
  std::map<std::int32_t, int> counts;
  for (int i = 0; i < draws; ++i) ++counts[sampler.sample(logits, history)];
  return counts;
}

std::vector<std::int32_t> drawn(const SamplingConfig& config, const std::vector<float>& logits,
                                const std::vector<std::int32_t>& history = {}) {
  std::vector<std::int32_t> ids;
  for (const auto& [id, n] : count(config, logits, 2000, history)) ids.push_back(id);
  return ids;
}

// Every share within five standard deviations of what it should be, and no id but the expected ones.
void expect_shares(const std::map<std::int32_t, int>& counts, const std::map<std::int32_t, double>& shares) {
  int total = 0;
  for (const auto& [id, n] : counts) total += n;
  for (const auto& [id, n] : counts) EXPECT_EQ(shares.count(id), 1U) << "id " << id << " was drawn";
  for (const auto& [id, share] : shares) {
    const double n = counts.count(id) == 0 ? 0.0 : counts.at(id);
    EXPECT_NEAR(n / total, share, 5.0 * std::sqrt(share * (1.0 - share) / total)) << "id " << id;
  }
}

TEST(Sampler, DrawsWithTheProbabilitiesOfTheLogits) {
  expect_shares(count(plain(), logits_of({0.1, 0.2, 0.3, 0.4})), {{0, 0.1}, {1, 0.2}, {2, 0.3}, {3, 0.4}});
}

TEST(Sampler, TemperatureSharpensAndFlattens) {
  SamplingConfig config = plain();
  config.temperature = 0.5F;  // squares: 1, 4, 9, 16 of 30
  expect_shares(count(config, logits_of({0.1, 0.2, 0.3, 0.4})),
                {{0, 1.0 / 30.0}, {1, 4.0 / 30.0}, {2, 9.0 / 30.0}, {3, 16.0 / 30.0}});
  config.temperature = 2.0F;  // roots: 1 and 2 of 3
  expect_shares(count(config, logits_of({0.2, 0.8})), {{0, 1.0 / 3.0}, {1, 2.0 / 3.0}});
}

TEST(Sampler, TemperatureZeroTakesTheLikeliestAndTheLowestIdOfATie) {
  SamplingConfig config = plain();
  config.temperature = 0.0F;
  Sampler sampler(config);
  EXPECT_EQ(sampler.sample(std::vector<float>{1.0F, 3.0F, 3.0F, 2.0F}, {}), 1);
  EXPECT_EQ(sampler.sample(std::vector<float>{0.0F, -0.0F}, {}), 0);
  EXPECT_EQ(sampler.sample(std::vector<float>(5, -kInfinity), {}), 0);
  config.repeat_penalty = 2.0F;
  EXPECT_EQ(Sampler(config).sample(std::vector<float>{1.0F, 3.0F, 3.0F, 2.0F}, std::vector<std::int32_t>{1}), 2);
}

TEST(Sampler, TopKKeepsTheLikeliestAndTheLowestIdsOfATie) {
  SamplingConfig config = plain();
  config.top_k = 2;
  expect_shares(count(config, logits_of({0.1, 0.2, 0.3, 0.4})), {{2, 3.0 / 7.0}, {3, 4.0 / 7.0}});
  EXPECT_THAT(drawn(config, {1.0F, 2.0F, 1.0F, 1.0F}), ElementsAre(0, 1));
  EXPECT_THAT(drawn(config, {7.0F}), ElementsAre(0));
  config.top_k = 1;
  EXPECT_THAT(drawn(config, {1.0F, 2.0F, 2.0F}), ElementsAre(1));
  config.top_k = 99;
  EXPECT_THAT(drawn(config, {1.0F, 2.0F, 2.0F}), ElementsAre(0, 1, 2));
}

TEST(Sampler, TopPKeepsTheFewestThatReachP) {
  SamplingConfig config = plain();
  const std::vector<float> logits = logits_of({0.05, 0.15, 0.3, 0.5});
  for (const auto& [p, ids] : std::map<float, std::vector<std::int32_t>>{
           {1e-6F, {3}}, {0.49F, {3}}, {0.51F, {2, 3}}, {0.79F, {2, 3}}, {0.81F, {1, 2, 3}}, {0.96F, {0, 1, 2, 3}}}) {
    config.top_p = p;
    EXPECT_EQ(drawn(config, logits), ids) << p;
  }
  config.top_p = 0.75F;
  expect_shares(count(config, logits), {{2, 0.375}, {3, 0.625}});
}

TEST(Sampler, MinPKeepsWhatIsLikelyAgainstTheLikeliest) {
  SamplingConfig config = plain();
  const std::vector<float> logits = logits_of({0.05, 0.15, 0.3, 0.5});
  for (const auto& [p, ids] : std::map<float, std::vector<std::int32_t>>{
           {0.09F, {0, 1, 2, 3}}, {0.11F, {1, 2, 3}}, {0.31F, {2, 3}}, {0.59F, {2, 3}}, {0.61F, {3}}, {1.0F, {3}}}) {
    config.min_p = p;
    EXPECT_EQ(drawn(config, logits), ids) << p;
  }
}

// Each filter works on what the one before has left: of {0.4, 0.3, 0.2, 0.1}, top-k 3 leaves ninths 4, 3 and 2; top-p
// 0.7 of those needs two, where of all four it would need two as well but 0.75 would need three.
TEST(Sampler, FiltersApplyInOrder) {
  SamplingConfig config = plain();
  const std::vector<float> logits = logits_of({0.4, 0.3, 0.2, 0.1});
  config.top_p = 0.75F;
  EXPECT_THAT(drawn(config, logits), ElementsAre(0, 1, 2));
  config.top_k = 3;
  EXPECT_THAT(drawn(config, logits), ElementsAre(0, 1));  // 7/9 reaches 0.75
  config.min_p = 0.76F;
  EXPECT_THAT(drawn(config, logits), ElementsAre(0));
  // The filters see the probabilities before the temperature.
  config = plain();
  config.top_p = 0.65F;
  config.temperature = 100.0F;
  EXPECT_THAT(drawn(config, logits), ElementsAre(0, 1));
  // The penalty comes first: what was likeliest is so no more.
  config.repeat_penalty = 1000.0F;
  config.top_k = 1;
  EXPECT_THAT(drawn(config, {2.0F, 1.0F, 0.5F}, {0}), ElementsAre(1));
}

TEST(Sampler, RepeatPenaltyDividesPositiveAndMultipliesNegativeLogits) {
  SamplingConfig config = plain();
  config.repeat_penalty = 2.0F;
  const double e1 = std::exp(1.0), e2 = std::exp(-2.0), e0 = 1.0;
  // 2 -> 1, -1 -> -2, 0 stays.
  expect_shares(count(config, {2.0F, -1.0F, 0.0F}, 20000, {0, 1, 0, 0}),
                {{0, e1 / (e0 + e1 + e2)}, {1, e2 / (e0 + e1 + e2)}, {2, e0 / (e0 + e1 + e2)}});
}

TEST(Sampler, RepeatPenaltyLooksBackOnlySoFar) {
  SamplingConfig config = plain();
  config.temperature = 0.0F;
  config.repeat_penalty = 10.0F;
  const std::vector<float> logits = {3.0F, 2.0F, 1.0F};
  const std::vector<std::int32_t> history = {0, 1, 2};
  const auto with = [&](Index last) {
    config.repeat_last = last;
    return Sampler(config).sample(logits, history);
  };
  EXPECT_EQ(with(0), 0);
  EXPECT_EQ(with(1), 0);
  EXPECT_EQ(with(2), 0);
  EXPECT_EQ(with(3), 0);  // all are divided alike
  config.repeat_penalty = 0.1F;
  EXPECT_EQ(with(1), 2);
  EXPECT_EQ(with(2), 1);
  EXPECT_EQ(with(100), 0);
}

TEST(Sampler, InfiniteLogits) {
  EXPECT_THAT(drawn(plain(), {kInfinity, 5.0F, kInfinity, -kInfinity}), ElementsAre(0, 2));
  EXPECT_THAT(drawn(plain(), {-kInfinity, 5.0F, -kInfinity, 5.0F}), ElementsAre(1, 3));
  EXPECT_THAT(drawn(plain(), std::vector<float>(3, -kInfinity)), ElementsAre(0, 1, 2));
  SamplingConfig config;  // with the default filters
  EXPECT_THAT(drawn(config, {kInfinity, 5.0F, kInfinity}), ElementsAre(0, 2));
  // Far apart, and beyond what an exponential can hold.
  EXPECT_THAT(drawn(plain(), {3e38F, -3e38F, 3e38F}), ElementsAre(0, 2));
  config = plain();
  config.temperature = 1e-30F;
  EXPECT_THAT(drawn(config, {1.0F, 2.0F}), ElementsAre(1));
}

TEST(Sampler, NanIsAnErrorThatNamesTheToken) {
  for (const float temperature : {0.0F, 1.0F}) {
    SamplingConfig config = plain();
    config.temperature = temperature;
    try {
      Sampler(config).sample(std::vector<float>{1.0F, 2.0F, std::nanf("")}, {});
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
      EXPECT_THAT(error.what(), HasSubstr("token 2 is NaN"));
    }
  }
}

TEST(Sampler, BrokenPromisesAreErrors) {
  SamplingConfig config = plain();
  EXPECT_THROW(Sampler(config).sample({}, {}), Error);
  config.repeat_penalty = 2.0F;
  EXPECT_THROW(Sampler(config).sample(std::vector<float>{1.0F}, std::vector<std::int32_t>{1}), Error);
  EXPECT_THROW(Sampler(config).sample(std::vector<float>{1.0F}, std::vector<std::int32_t>{-1}), Error);
}

TEST(Sampler, SameSeedSameBitsAndAnotherSeedOthers) {
  const std::vector<float> logits(50, 0.0F);
  const auto sequence = [&](std::uint64_t seed) {
    SamplingConfig config = plain();
    config.seed = seed;
    Sampler sampler(config);
    std::vector<std::int32_t> ids;
    for (int i = 0; i < 40; ++i) ids.push_back(sampler.sample(logits, ids));
    return ids;
  };
  EXPECT_EQ(sequence(1), sequence(1));
  EXPECT_NE(sequence(1), sequence(2));
}

TEST(Sampler, ForeseesItsDrawsAndChangesNothing) {
  SamplingConfig config;
  config.temperature = 1.5F;
  config.top_k = 0;
  config.seed = 9;
  config.repeat_penalty = 1.4F;
  const std::vector<float> logits = {0.3F, 1.0F, -0.2F, 0.9F, 0.1F, 0.4F, 0.0F};
  Sampler sampler(config), other(config);
  std::vector<std::int32_t> history = {1};
  for (int round = 0; round < 20; ++round) {
    std::vector<std::int32_t> foreseen = history;
    for (std::uint64_t ahead = 0; ahead < 3; ++ahead) foreseen.push_back(other.foresee(logits, foreseen, ahead));
    for (std::size_t i = 0; i < 3; ++i) {
      const std::int32_t id = sampler.sample(logits, history);
      EXPECT_EQ(id, foreseen[history.size()]);
      EXPECT_EQ(other.sample(logits, history), id);
      history.push_back(id);
    }
  }
}

TEST(SamplingConfig, EveryValueIsChecked) {
  const auto refused = [](auto&& change, const std::string& name) {
    SamplingConfig config;
    change(config);
    try {
      Sampler{config};
      ADD_FAILURE() << name << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      EXPECT_THAT(error.what(), HasSubstr(name + ": "));
      EXPECT_THAT(error.what(), HasSubstr("expected"));
    }
  };
  const float nan = std::nanf("");
  for (const float bad : {0.0F, -1.0F, nan, kInfinity})
    refused([&](SamplingConfig& c) { c.repeat_penalty = bad; }, "repeat penalty");
  refused([](SamplingConfig& c) { c.repeat_last = -1; }, "repeat last");
  refused([](SamplingConfig& c) { c.top_k = -1; }, "top-k");
  for (const float bad : {0.0F, -0.5F, 1.5F, nan}) refused([&](SamplingConfig& c) { c.top_p = bad; }, "top-p");
  for (const float bad : {-0.5F, 1.5F, nan}) refused([&](SamplingConfig& c) { c.min_p = bad; }, "min-p");
  for (const float bad : {-0.5F, nan, kInfinity})
    refused([&](SamplingConfig& c) { c.temperature = bad; }, "temperature");
  EXPECT_NO_THROW(SamplingConfig().validate());
}

}  // namespace
}  // namespace switchyard::runtime
