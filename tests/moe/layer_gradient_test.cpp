#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "layer_fixture.hpp"
#include "oracle/finite_difference.hpp"

namespace switchyard::moe {
namespace {

// Compares every gradient of the layer with differences of the oracle, whose choice of experts is held at the layer's.
void expect_gradients(const TestLayer& layer, std::function<double(const oracle::MoeResult&)> more_losses = nullptr) {
  constexpr float kLossScale = 2.0F;
  TestLayer::Forward f = layer.forward(layer.call());
  const std::vector<oracle::MoeChoice> choices = choices_of(f.saved.assignments);
  TestGradients gradients(layer);
  gradients.run(layer, f.saved, kLossScale);

  oracle::MoeProblem problem = layer.problem();
  problem.more_losses = std::move(more_losses);
  problem.renormalise = layer.config.capacity.renormalise;
  const auto loss = [&](const oracle::MoeProblem& p) {
    const oracle::MoeResult result = oracle::moe_layer(p, &choices);
    return oracle::dot(layer.d_y_TD, result.y_TD) + static_cast<double>(kLossScale) * result.total;
  };
  const auto check = [&](const char* what, std::span<const float> gradient, oracle::Values oracle::MoeProblem::*field) {
    SCOPED_TRACE(what);
    ASSERT_EQ(gradient.size(), (problem.*field).size());
    oracle::MoeProblem p = problem;
    const auto of_field = [&](const std::vector<double>& values) {
      p.*field = values;
      return loss(p);
    };
    const oracle::Values expected = oracle::finite_difference(of_field, problem.*field);
    // Forward and backward pass the router, the scores, the weights and two products each: eight stages. Where weights
    // are divided by their sum, a gradient is a difference of terms as large as the other gradients, so a router that
    // hardly matters keeps their rounding.
    const double tolerance = oracle::sum_tolerance(layer.terms(), 8);
    EXPECT_TRUE(oracle::close(gradient, expected, tolerance, tolerance + 1e-9 * (1.0 + std::abs(loss(problem)))));
  };
  check("x", gradients.x_TD, &oracle::MoeProblem::x_TD);
  check("router", gradients.router_ED, &oracle::MoeProblem::router_ED);
  if (layer.config.router.logits_bias)
    check("router bias", gradients.router_bias_E, &oracle::MoeProblem::router_bias_E);
  if (layer.gate_EFD.defined()) check("gate", std::as_const(gradients.gate_EFD).f32(), &oracle::MoeProblem::gate_EFD);
  check("up", std::as_const(gradients.up_EFD).f32(), &oracle::MoeProblem::up_EFD);
  check("down", std::as_const(gradients.down_EDF).f32(), &oracle::MoeProblem::down_EDF);
  if (layer.gate_bias_EF.defined())
    check("gate bias", std::as_const(gradients.gate_bias_EF).f32(), &oracle::MoeProblem::gate_bias_EF);
  if (layer.config.expert.bias) {
    check("up bias", std::as_const(gradients.up_bias_EF).f32(), &oracle::MoeProblem::up_bias_EF);
    check("down bias", std::as_const(gradients.down_bias_ED).f32(), &oracle::MoeProblem::down_bias_ED);
  }
  if (layer.config.shared.hidden == 0) return;
  if (layer.gate_EFD.defined())
    check("shared gate projection", std::as_const(gradients.shared_gate_FD).f32(), &oracle::MoeProblem::shared_gate_FD);
  check("shared up", std::as_const(gradients.shared_up_FD).f32(), &oracle::MoeProblem::shared_up_FD);
  check("shared down", std::as_const(gradients.shared_down_DF).f32(), &oracle::MoeProblem::shared_down_DF);
  if (layer.config.shared.gated) check("shared gate", gradients.shared_gate_D, &oracle::MoeProblem::shared_gate_D);
}

MoeConfig config_of(const char* score, const char* normalise, float capacity, int shared) {
  MoeConfig config;
  config.router.experts = 5;
  config.router.top_k = 2;
  config.router.score = score;
  config.router.normalise = normalise;
  config.router.scale = 1.5F;
  config.router.logits_bias = true;
  config.router.selection_bias = true;
  config.capacity.factor = capacity;
  config.balance.load_balance = 0.5F;
  config.balance.z_loss = 0.25F;
  config.expert.hidden = 3;
  config.shared.hidden = shared == 0 ? 0 : 4;
  config.shared.gated = shared == 2;
  return config;
}

TEST(MoeGradients, AreThoseOfTheOracleInEveryConfiguration) {
  for (const char* score : {"softmax", "sigmoid"})
    for (const char* normalise : {"none", "sum"})
      for (const float capacity : {0.0F, 0.75F})
        for (const int shared : {0, 1, 2}) {
          SCOPED_TRACE(testing::Message()
                       << score << " " << normalise << " capacity " << capacity << " shared " << shared);
          const TestLayer layer(config_of(score, normalise, capacity, shared), 7, 6);
          EXPECT_EQ(layer.forward(layer.call()).saved.plan.slots() < 14, capacity > 0.0F);
          expect_gradients(layer);
        }
}

TEST(MoeGradients, ActivationsWithoutAGate) {
  for (const auto activation : {kernels::Activation::kGELU, kernels::Activation::kReLU}) {
    SCOPED_TRACE(kernels::activation_name(activation));
    MoeConfig config = config_of("softmax", "none", 0.0F, 2);
    config.expert.activation = activation;
    expect_gradients(TestLayer(config, 7, 6));
  }
}

TEST(MoeGradients, ExpertsWithBiases) {
  // Weights that are divided by their sum and those that are not: the bias enters the gradient of the router.
  for (const auto activation :
       {kernels::Activation::kSwiGLU, kernels::Activation::kClampedSwiGLU, kernels::Activation::kGELU})
    for (const char* normalise : {"none", "sum"}) {
      SCOPED_TRACE(testing::Message() << kernels::activation_name(activation) << " " << normalise);
      MoeConfig config = config_of("softmax", normalise, 0.75F, 2);
      config.expert.activation = activation;
      config.expert.bias = true;
      TestLayer layer(config, 9, 6);
      layer.valid_T = {1, 1, 0, 1, 1, 1, 0, 1, 1};
      expect_gradients(layer);
    }
}

// Every way to treat what is over capacity, with weights that depend on one another and weights that do not.
TEST(MoeGradients, OverflowRules) {
  for (const char* overflow : {"scale", "reroute", "fallback"})
    for (const char* normalise : {"none", "sum", "softmax"})
      for (const Index fallback : {-1, 1}) {
        if (fallback >= 0 && overflow != std::string("fallback")) continue;
        SCOPED_TRACE(testing::Message() << overflow << " " << normalise << " to " << fallback);
        MoeConfig config = config_of("softmax", normalise, 0.6F, 2);
        config.capacity.overflow = overflow;
        config.capacity.fallback_expert = fallback;
        TestLayer layer(config, 9, 6);
        layer.valid_T = {1, 1, 0, 1, 1, 1, 1, 1, 1};
        const Assignments list = layer.forward(layer.call()).saved.assignments;
        const bool moved = overflow == std::string("scale") ? !list.factor_A.empty() : list.rerouted > 1;
        EXPECT_TRUE(moved);
        expect_gradients(layer);
      }
}

TEST(MoeGradients, FallbackLeavesWhatExpertDropoutTookAlone) {
  MoeConfig config = config_of("sigmoid", "sum", 0.6F, 1);
  config.capacity.overflow = "fallback";
  config.router.expert_dropout = 0.3F;
  expect_gradients(TestLayer(config, 12, 6));
}

TEST(MoeGradients, WeightsMadeAfterDropping) {
  for (const char* overflow : {"drop", "scale", "reroute"})
    for (const char* normalise : {"none", "sum", "p-norm", "softmax"}) {
      SCOPED_TRACE(testing::Message() << overflow << " " << normalise);
      MoeConfig config = config_of("softmax", normalise, 0.6F, 0);
      config.capacity.renormalise = true;
      config.capacity.overflow = overflow;
      config.balance.load_balance = 0.0F;  // the oracle forgets what was dropped
      expect_gradients(TestLayer(config, 9, 6));
    }
}

// The loss whose gradient takes the way of the weights.
TEST(MoeGradients, ImportanceThroughTheWholeLayer) {
  MoeConfig config = config_of("softmax", "sum", 0.0F, 0);
  config.balance.importance_cv = 0.75F;
  expect_gradients(TestLayer(config, 9, 6), [](const oracle::MoeResult& result) {
    std::vector<double> sum_E(5);
    for (const oracle::MoeChoice& choice : result.choices)
      sum_E[static_cast<std::size_t>(choice.expert)] += choice.weight;
    double mean = 0.0, variance = 0.0;
    for (const double sum : sum_E) mean += sum / 5.0;
    for (const double sum : sum_E) variance += (sum - mean) * (sum - mean) / 5.0;
    return 0.75 * variance / (mean * mean + 1e-10);
  });
}

TEST(MoeGradients, OddSizes) {
  for (const Index tokens : {1, 2, 9})
    for (const auto& [experts, k] : std::vector<std::pair<Index, Index>>{{1, 1}, {2, 1}, {3, 3}, {8, 2}, {9, 4}}) {
      SCOPED_TRACE(testing::Message() << "T=" << tokens << " E=" << experts << " K=" << k);
      MoeConfig config = config_of("softmax", "sum", 0.0F, 0);
      config.router.experts = experts;
      config.router.top_k = k;
      expect_gradients(TestLayer(config, tokens, 5));
    }
}

TEST(MoeGradients, WithPadding) {
  TestLayer layer(config_of("sigmoid", "sum", 0.75F, 2), 9, 6);
  layer.valid_T = {1, 1, 0, 1, 1, 1, 0, 1, 0};
  expect_gradients(layer);
  TestLayer::Forward f = layer.forward(layer.call());
  TestGradients gradients(layer);
  gradients.run(layer, f.saved);
  for (const std::size_t t : {2, 6, 8}) {
    const auto row = std::span(gradients.x_TD).subspan(6 * t, 6);
    EXPECT_THAT(std::vector<float>(row.begin(), row.end()), testing::Each(0.0F));
  }
}

TEST(MoeGradients, OfNoTokensAreNothing) {
  const TestLayer layer(config_of("softmax", "none", 0.0F, 2), 0, 6);
  TestLayer::Forward f = layer.forward(layer.call());
  TestGradients gradients(layer, 3.0F);
  gradients.run(layer, f.saved);
  EXPECT_THAT(gradients.all(), testing::Each(3.0F));
}

TEST(MoeGradients, OfWeightsAreAddedAndThoseOfXOverwritten) {
  const TestLayer layer(config_of("softmax", "none", 0.0F, 2), 7, 6);
  TestLayer::Forward first = layer.forward(layer.call()), second = layer.forward(layer.call());
  TestGradients from_zero(layer), from_one(layer, 1.0F);
  from_zero.run(layer, first.saved);
  from_one.run(layer, second.saved);
  EXPECT_TRUE(oracle::same_bits(from_one.x_TD, from_zero.x_TD));
  std::vector<float> zero = from_zero.all();
  std::vector<double> expected;
  for (std::size_t i = 0; i < zero.size(); ++i)
    expected.push_back(static_cast<double>(zero[i]) + (i < layer.x_TD.size() ? 0.0 : 1.0));
  EXPECT_TRUE(oracle::close(from_one.all(), expected, oracle::sum_tolerance(layer.terms(), 2)));
}

TEST(MoeGradients, OfAnExpertWithoutTokensStayAsTheyWere) {
  MoeConfig config = config_of("softmax", "sum", 0.0F, 0);
  TestLayer layer(config, 7, 6);
  layer.selection_bias_E.assign(5, 0.0F);
  layer.selection_bias_E[3] = -10.0F;
  TestLayer::Forward f = layer.forward(layer.call());
  ASSERT_EQ(f.saved.plan.load(3), 0);
  TestGradients gradients(layer, 2.0F);
  gradients.run(layer, f.saved);
  const auto part = std::as_const(gradients.up_EFD).f32().subspan(3 * 3 * 6, 3 * 6);
  EXPECT_THAT(std::vector<float>(part.begin(), part.end()), testing::Each(2.0F));
}

// Freezing a part changes nothing for the others.
TEST(MoeGradients, FrozenPartsAreSkipped) {
  const TestLayer layer(config_of("sigmoid", "sum", 0.75F, 2), 7, 6);
  TestLayer::Forward whole = layer.forward(layer.call());
  TestGradients all(layer);
  all.run(layer, whole.saved);

  const auto run_with = [&](TestGradients& gradients, const MoeGradients& views) {
    TestLayer::Forward f = layer.forward(layer.call());
    moe_backward(layer.config, layer.weights(), f.saved, matrix_of(layer.x_TD, 6), matrix_of(layer.d_y_TD, 6), 1.0F,
                 matrix_of(gradients.x_TD, 6), views);
    EXPECT_TRUE(oracle::same_bits(gradients.x_TD, all.x_TD));
  };
  TestGradients no_router(layer);
  MoeGradients views = no_router.views();
  views.router.router_ED = {};
  views.router.bias_E = {};
  run_with(no_router, views);
  EXPECT_THAT(no_router.router_ED, testing::Each(0.0F));
  EXPECT_TRUE(oracle::same_bits(std::as_const(no_router.up_EFD).f32(), std::as_const(all.up_EFD).f32()));

  TestGradients no_experts(layer);
  views = no_experts.views();
  views.experts = {};
  run_with(no_experts, views);
  EXPECT_TRUE(oracle::same_bits(no_experts.router_ED, all.router_ED));

  TestGradients no_shared(layer);
  views = no_shared.views();
  views.shared = {};
  views.shared_gate_D = {};
  run_with(no_shared, views);
  EXPECT_TRUE(oracle::same_bits(no_shared.router_ED, all.router_ED));
  EXPECT_THAT(no_shared.shared_gate_D, testing::Each(0.0F));
}

}  // namespace
}  // namespace switchyard::moe
