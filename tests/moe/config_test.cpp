#include "switchyard/moe/config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "support.hpp"
#include "switchyard/moe/losses.hpp"

namespace switchyard::moe {
namespace {

MoeConfig good() {
  MoeConfig config;
  config.expert.hidden = 16;
  return config;
}

std::string message(const std::function<void(MoeConfig&)>& spoil) {
  MoeConfig config = good();
  spoil(config);
  return error_of(ErrorKind::kBadInput, [&] { config.validate("model.layers[3]"); });
}

TEST(MoeConfig, GoodOnesPass) {
  EXPECT_NO_THROW(good().validate("here"));
  EXPECT_EQ(message([](MoeConfig& c) { c.router.top_k = 8; }), "");
  EXPECT_EQ(message([](MoeConfig& c) {
              c.router.selection_bias = true;
              c.router.score = "sigmoid";
              c.router.normalise = "sum";
              c.balance.bias_update_rate = 0.001F;
              c.shared.hidden = 4;
              c.shared.gated = true;
              c.capacity.factor = 1.25F;
              c.capacity.drop = "position";
            }),
            "");
}

TEST(MoeConfig, NamesTheKeyTheFoundAndTheExpected) {
  EXPECT_EQ(message([](MoeConfig& c) { c.router.top_k = 9; }),
            "model.layers[3].router.top_k: 9, expected 1 to experts (8)");
  EXPECT_EQ(message([](MoeConfig& c) { c.router.top_k = 0; }),
            "model.layers[3].router.top_k: 0, expected 1 to experts (8)");
  EXPECT_EQ(message([](MoeConfig& c) { c.router.experts = 0; }),
            "model.layers[3].router.experts: 0, expected 1 to 65536");
  EXPECT_THAT(message([](MoeConfig& c) { c.router.score = "softmix"; }),
              testing::StartsWith("model.layers[3].router.score: 'softmix', expected one of softmax, sigmoid"));
  EXPECT_THAT(message([](MoeConfig& c) { c.router.select = "best"; }),
              testing::StartsWith("model.layers[3].router.select: 'best', expected one of top-k"));
  EXPECT_THAT(message([](MoeConfig& c) { c.router.normalise = ""; }),
              testing::StartsWith("model.layers[3].router.normalise: '', expected one of none, sum"));
  EXPECT_EQ(message([](MoeConfig& c) { c.router.scale = 0.0F; }),
            "model.layers[3].router.scale: 0, expected a finite number above 0");
  EXPECT_EQ(message([](MoeConfig& c) { c.capacity.factor = -1.5F; }),
            "model.layers[3].capacity.factor: -1.5, expected a finite number of at least 0");
  EXPECT_EQ(message([](MoeConfig& c) { c.capacity.minimum = -1; }),
            "model.layers[3].capacity.minimum: -1, expected at least 0");
  EXPECT_THAT(message([](MoeConfig& c) { c.capacity.drop = "dice"; }),
              testing::StartsWith("model.layers[3].capacity.drop: 'dice', expected one of probs, weights, position"));
  EXPECT_EQ(message([](MoeConfig& c) { c.balance.load_balance = std::numeric_limits<float>::quiet_NaN(); }),
            "model.layers[3].balance.load_balance: nan, expected a finite number of at least 0");
  EXPECT_EQ(message([](MoeConfig& c) { c.balance.z_loss = std::numeric_limits<float>::infinity(); }),
            "model.layers[3].balance.z_loss: inf, expected a finite number of at least 0");
  EXPECT_EQ(message([](MoeConfig& c) { c.balance.bias_update_rate = 0.5F; }),
            "model.layers[3].balance.bias_update_rate: 0.5, expected 0 without router.selection_bias");
  EXPECT_EQ(message([](MoeConfig& c) { c.expert.hidden = 0; }),
            "model.layers[3].expert.hidden: 0, expected at least 1");
  EXPECT_EQ(message([](MoeConfig& c) { c.shared.hidden = -2; }),
            "model.layers[3].shared.hidden: -2, expected at least 0");
  EXPECT_EQ(message([](MoeConfig& c) { c.shared.gated = true; }),
            "model.layers[3].shared.gated: true, expected false without a shared expert (shared.hidden is 0)");
}

TEST(MoeConfig, RefusesOverflowAndLossesThatMakeNoSense) {
  const auto fallback = [](MoeConfig& c) {
    c.capacity.overflow = "fallback";
    c.shared.hidden = 4;
  };
  EXPECT_EQ(message(fallback), "");
  EXPECT_THAT(message([&](MoeConfig& c) {
                fallback(c);
                c.shared.hidden = 0;
              }),
              testing::HasSubstr("capacity.overflow: fallback, expected capacity.fallback_expert set, or a shared"));
  EXPECT_THAT(message([&](MoeConfig& c) {
                fallback(c);
                c.capacity.renormalise = true;
              }),
              testing::HasSubstr("capacity.renormalise: true, expected false where overflow falls back"));
  EXPECT_THAT(message([](MoeConfig& c) { c.capacity.fallback_expert = 8; }),
              testing::HasSubstr("capacity.fallback_expert: 8, expected -1 (the shared expert) or 0 to 7"));
  EXPECT_THAT(message([](MoeConfig& c) { c.balance.load_cv = 0.1F; }),
              testing::HasSubstr("balance.load_cv: 0.1, expected 0 unless the scores have normal noise"));
  EXPECT_EQ(message([](MoeConfig& c) {
              c.balance.load_cv = 0.1F;
              c.router.noise = "gaussian";
            }),
            "");
  EXPECT_THAT(message([](MoeConfig& c) { c.balance.devices = 3; }),
              testing::HasSubstr("balance.devices: 3, expected a divisor of the experts (8)"));
  EXPECT_THAT(message([](MoeConfig& c) { c.balance.bias_update = "signal"; }),
              testing::HasSubstr("balance.bias_update: 'signal', expected one of sign, quantile"));
  EXPECT_THAT(message([](MoeConfig& c) {
                c.router.selection_bias = true;
                c.balance.bias_update = "quantile";
                c.balance.bias_update_rate = 1.5F;
              }),
              testing::HasSubstr("balance.bias_update_rate: 1.5, expected at most 1"));
  for (const RouterLoss& loss : router_losses())
    EXPECT_THAT(message([&](MoeConfig& c) { c.balance.*loss.coefficient = -1.0F; }),
                testing::HasSubstr("expected a finite number of at least 0"));
}

}  // namespace
}  // namespace switchyard::moe
