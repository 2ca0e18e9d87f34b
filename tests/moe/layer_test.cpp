#include "switchyard/moe/layer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "layer_fixture.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/moe/statistics.hpp"

namespace switchyard::moe {
namespace {

MoeConfig config_of(Index experts, Index top_k, Index hidden) {
  MoeConfig config;
  config.router.experts = experts;
  config.router.top_k = top_k;
  config.expert.hidden = hidden;
  return config;
}

// A configuration that uses every part of the layer.
MoeConfig full_config(Index experts, Index top_k, Index hidden) {
  MoeConfig config = config_of(experts, top_k, hidden);
  config.router.score = "sigmoid";
  config.router.normalise = "sum";
  config.router.scale = 1.5F;
  config.router.logits_bias = true;
  config.router.selection_bias = true;
  config.capacity.factor = 1.0F;
  config.balance.load_balance = 0.1F;
  config.balance.z_loss = 0.01F;
  config.shared.hidden = hidden + 1;
  config.shared.gated = true;
  return config;
}

void expect_oracle(const TestLayer& layer, bool training = true) {
  const TestLayer::Forward f = layer.forward(layer.call(training));
  const oracle::MoeResult expected = oracle::moe_layer(layer.problem(training));
  const std::vector<oracle::MoeChoice> found = choices_of(f.saved.assignments);
  ASSERT_EQ(found.size(), expected.choices.size());
  for (std::size_t a = 0; a < found.size(); ++a) {
    ASSERT_EQ(found[a].token, expected.choices[a].token);
    ASSERT_EQ(found[a].expert, expected.choices[a].expert);
    ASSERT_EQ(found[a].dropped, expected.choices[a].dropped);
  }
  // Router, softmax, two products: four stages of sums.
  const double tolerance = oracle::sum_tolerance(layer.terms(), 4);
  EXPECT_TRUE(oracle::close(f.saved.logits_TR.f32(), expected.logits_TE, tolerance));
  EXPECT_TRUE(oracle::close(f.saved.scores_TE.f32(), expected.scores_TE, tolerance));
  EXPECT_TRUE(oracle::close(f.y_TD, expected.y_TD, tolerance));
  if (!training) return;
  EXPECT_NEAR(f.losses.load_balance, expected.load_balance, tolerance * expected.load_balance);
  EXPECT_NEAR(f.losses.z_loss, expected.z_loss, tolerance * (1.0 + expected.z_loss));
  EXPECT_NEAR(f.losses.total, expected.total, tolerance * (1.0 + expected.total));
}

TEST(MoeLayer, AgreesWithTheOracleOnOddSizes) {
  for (const Index tokens : {0, 1, 2, 7, 33, 130})
    for (const auto& [experts, k] :
         std::vector<std::pair<Index, Index>>{{1, 1}, {2, 1}, {2, 2}, {3, 2}, {8, 2}, {8, 8}, {17, 5}, {64, 6}}) {
      SCOPED_TRACE(testing::Message() << "T=" << tokens << " E=" << experts << " K=" << k);
      expect_oracle(TestLayer(config_of(experts, k, 19), tokens, 23));
    }
}

TEST(MoeLayer, AgreesWithTheOracleInEveryConfiguration) {
  for (const char* score : {"softmax", "sigmoid"})
    for (const char* normalise : {"none", "sum"})
      for (const char* drop : {"", "probs", "position"})
        for (const int shared : {0, 1, 2})
          for (const auto activation :
               {kernels::Activation::kSwiGLU, kernels::Activation::kGELU, kernels::Activation::kReLU}) {
            SCOPED_TRACE(testing::Message() << score << " " << normalise << " drop '" << drop << "' shared " << shared
                                            << " " << kernels::activation_name(activation));
            MoeConfig config = full_config(5, 2, 9);
            config.router.score = score;
            config.router.normalise = normalise;
            config.capacity.factor = *drop == '\0' ? 0.0F : 0.75F;
            if (*drop != '\0') config.capacity.drop = drop;
            config.shared.hidden = shared == 0 ? 0 : 6;
            config.shared.gated = shared == 2;
            config.expert.activation = activation;
            TestLayer layer(config, 33, 7);
            layer.valid_T = some_padding(33, 5);
            expect_oracle(layer);
          }
}

TEST(MoeLayer, ExpertsWithBiasesAgreeWithTheOracle) {
  for (const Index tokens : {1, 7, 130})
    for (const auto activation :
         {kernels::Activation::kSwiGLU, kernels::Activation::kClampedSwiGLU, kernels::Activation::kGELU}) {
      SCOPED_TRACE(testing::Message() << tokens << " " << kernels::activation_name(activation));
      MoeConfig config = full_config(5, 2, 9);
      config.expert.activation = activation;
      config.expert.bias = true;
      TestLayer layer(config, tokens, 7);
      expect_oracle(layer);
      layer.valid_T = some_padding(tokens, 5);
      expect_oracle(layer);
      expect_oracle(layer, false);
    }
}

TEST(MoeLayer, InferenceIsDroplessAndAddsNoLoss) {
  MoeConfig config = full_config(8, 2, 9);
  config.capacity.factor = 0.5F;
  const TestLayer layer(config, 33, 7);
  expect_oracle(layer, false);
  const TestLayer::Forward f = layer.forward(layer.call(false));
  EXPECT_EQ(f.saved.plan.slots(), 66);
  EXPECT_EQ(f.losses.total, 0.0F);
  EXPECT_LT(layer.forward(layer.call(true)).saved.plan.slots(), 66);
}

TEST(MoeLayer, AllTokensToOneExpert) {
  MoeConfig config = config_of(8, 1, 9);
  config.router.logits_bias = true;
  TestLayer layer(config, 130, 7);
  layer.router_bias_E.assign(8, 0.0F);
  layer.router_bias_E[5] = 100.0F;
  expect_oracle(layer);
  EXPECT_EQ(layer.forward(layer.call()).saved.plan.load(5), 130);
}

TEST(MoeLayer, PaddingGetsZeros) {
  TestLayer layer(full_config(8, 2, 9), 33, 7);
  layer.valid_T.assign(33, 0);
  EXPECT_THAT(layer.forward(layer.call()).y_TD, testing::Each(0.0F));
  layer.valid_T[4] = 1;
  // What stands in the padding is nobody's business.
  for (std::size_t i = 0; i < layer.x_TD.size(); ++i)
    if (i / 7 != 4) layer.x_TD[i] = 1e3F;
  const TestLayer::Forward f = layer.forward(layer.call());
  for (std::size_t i = 0; i < f.y_TD.size(); ++i) EXPECT_EQ(f.y_TD[i] != 0.0F, i / 7 == 4);
}

TEST(MoeLayer, NanStaysWithItsToken) {
  MoeConfig config = full_config(8, 2, 9);
  TestLayer layer(config, 33, 7);
  layer.x_TD[4 * 7 + 2] = std::numeric_limits<float>::quiet_NaN();
  const TestLayer::Forward f = layer.forward(layer.call(false));
  for (std::size_t i = 0; i < f.y_TD.size(); ++i) EXPECT_EQ(std::isnan(f.y_TD[i]), i / 7 == 4) << i;
}

// Training on many tokens and generating one by one are the same function.
TEST(MoeLayer, ATokensResultDoesNotDependOnItsBatch) {
  const TestLayer layer(full_config(17, 3, 19), 33, 23);
  const TestLayer::Forward all = layer.forward(layer.call(false));
  for (Index t = 0; t < 33; ++t) {
    std::vector<float> y_D(23);
    moe_forward(layer.config, layer.weights(), layer.call(false), matrix_of(layer.x_TD, 23).slice_rows(t, 1),
                matrix_of(y_D, 23), nullptr);
    EXPECT_TRUE(oracle::same_bits(y_D, std::span(all.y_TD).subspan(static_cast<std::size_t>(t) * 23, 23))) << t;
  }
}

TEST(MoeLayer, SameBitsForAnyNumberOfThreads) {
  TestLayer layer(full_config(17, 3, 19), 130, 33);
  layer.valid_T = some_padding(130, 9);
  std::vector<float> first;
  for (int threads = 1; threads <= 4; ++threads) {
    ThreadArena arena(threads);
    arena.run([&] {
      TestLayer::Forward f = layer.forward(layer.call());
      TestGradients gradients(layer);
      gradients.run(layer, f.saved);
      std::vector<float> all = f.y_TD;
      for (const float value : {f.losses.load_balance, f.losses.z_loss, f.losses.total}) all.push_back(value);
      for (const float value : gradients.all()) all.push_back(value);
      if (threads == 1) first = all;
      EXPECT_TRUE(oracle::same_bits(all, first)) << threads << " threads";
    });
  }
}

// Keeps what it was asked for, and hands out only that.
class StrictStore final : public ExpertStore {
 public:
  explicit StrictStore(ExpertStore& inner) : inner_(inner) {}
  Index experts() const override { return inner_.experts(); }
  ExpertLease acquire(std::span<const std::int32_t> load_E) override {
    asked_E.assign(load_E.begin(), load_E.end());
    auto views = std::make_shared<std::vector<kernels::FfnWeights>>(load_E.size());
    const ExpertLease all = inner_.acquire(load_E);
    for (std::size_t e = 0; e < load_E.size(); ++e)
      if (load_E[e] > 0) (*views)[e] = all.weights_E[e];
    return {*views, views};
  }
  std::vector<std::int32_t> asked_E;

 private:
  ExpertStore& inner_;
};

TEST(MoeLayer, TouchesOnlyExpertsThatItAskedFor) {
  TestLayer layer(config_of(17, 2, 19), 2, 23);
  const TestLayer::Forward expected = layer.forward(layer.call());
  StrictStore strict(*layer.store);
  MoeWeights weights = layer.weights();
  weights.experts = &strict;
  std::vector<float> y_TD(layer.x_TD.size());
  MoeSaved saved;
  moe_forward(layer.config, weights, layer.call(), matrix_of(layer.x_TD, 23), matrix_of(y_TD, 23), &saved);
  EXPECT_TRUE(oracle::same_bits(y_TD, expected.y_TD));
  for (Index e = 0; e < 17; ++e) EXPECT_EQ(strict.asked_E[static_cast<std::size_t>(e)], expected.saved.plan.load(e));

  strict.asked_E.clear();
  TestGradients gradients(layer);
  std::vector<float> d_x_TD(layer.x_TD.size());
  moe_backward(layer.config, weights, saved, matrix_of(layer.x_TD, 23), matrix_of(layer.d_y_TD, 23), 0.0F,
               matrix_of(d_x_TD, 23), gradients.views());
  for (Index e = 0; e < 17; ++e) EXPECT_EQ(strict.asked_E[static_cast<std::size_t>(e)], expected.saved.plan.load(e));
}

class CountingObserver final : public RoutingObserver {
 public:
  void on_routing(const RoutingEvent& event) override {
    ++calls;
    layer = event.layer;
    load_balance = event.losses.load_balance;
    slots = event.plan.slots();
    tokens = event.scores_TE.rows;
  }
  int calls = 0;
  Index layer = -1, slots = -1, tokens = -1;
  float load_balance = 0.0F;
};

TEST(MoeLayer, TellsItsObserverOnce) {
  const TestLayer layer(full_config(8, 2, 9), 33, 7);
  CountingObserver observer;
  MoeCall call = layer.call(false);
  call.layer = 3;
  call.observer = &observer;
  TestLayer::Forward f = layer.forward(call);
  EXPECT_EQ(observer.calls, 1);
  EXPECT_EQ(observer.layer, 3);
  EXPECT_EQ(observer.tokens, 33);
  EXPECT_EQ(observer.slots, f.saved.plan.slots());
  EXPECT_GT(observer.load_balance, 0.5F);
  EXPECT_EQ(observer.load_balance, f.losses.load_balance);
  TestGradients(layer).run(layer, f.saved);
  EXPECT_EQ(observer.calls, 1);
}

TEST(MoeLayer, StatisticsOfALayerAddUp) {
  TestLayer layer(full_config(8, 2, 9), 33, 7);
  layer.valid_T = some_padding(33, 5);
  StatisticsRecorder recorder;
  MoeCall call = layer.call();
  call.observer = &recorder;
  const TestLayer::Forward f = layer.forward(call);
  const RoutingStatistics& s = recorder.layers().at(0);
  EXPECT_EQ(s.tokens, std::count(layer.valid_T.begin(), layer.valid_T.end(), 1));
  EXPECT_EQ(s.assignments, 2 * s.tokens);
  Index load = 0;
  for (const Index l : s.load_E) load += l;
  EXPECT_EQ(load, s.assignments - s.dropped);
  EXPECT_GT(s.dropped, 0);
}

TEST(MoeLayer, ShapesThatDoNotBelongTogetherAreRefused) {
  TestLayer layer(full_config(8, 2, 9), 3, 7);
  const auto forward_with = [&](const std::function<void(MoeWeights&, MoeCall&)>& spoil) {
    MoeWeights weights = layer.weights();
    MoeCall call = layer.call();
    spoil(weights, call);
    std::vector<float> y_TD(layer.x_TD.size());
    return error_of(ErrorKind::kInternal, [&] {
      moe_forward(layer.config, weights, call, matrix_of(layer.x_TD, 7), matrix_of(y_TD, 7), nullptr);
    });
  };
  const std::vector<std::uint8_t> two = {1, 1};
  EXPECT_EQ(forward_with([](MoeWeights&, MoeCall&) {}), "");
  EXPECT_EQ(forward_with([](MoeWeights& w, MoeCall&) { w.router.router_ED.rows = 7; }),
            "a router of [7, 7], expected [8, 7]");
  EXPECT_EQ(forward_with([](MoeWeights& w, MoeCall&) { w.selection_bias_E = {}; }),
            "a selection bias of 0 values for 8 experts");
  EXPECT_EQ(forward_with([](MoeWeights& w, MoeCall&) { w.experts = nullptr; }),
            "an expert store of 0 experts, expected 8");
  EXPECT_EQ(forward_with([](MoeWeights& w, MoeCall&) { w.shared_gate_D = {}; }),
            "a shared expert's gate of 0 values, expected 7");
  EXPECT_EQ(forward_with([&](MoeWeights&, MoeCall& c) { c.valid_T = two; }), "2 marks of validity for 3 tokens");
}

}  // namespace
}  // namespace switchyard::moe
