#include "switchyard/train/optimizer.hpp"

#include <deque>

#include "oracle/compare.hpp"
#include "support.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::train {
namespace {

using autograd::Parameter;
using autograd::ParameterRole;

// AdamW as algorithm 2 of Loshchilov and Hutter writes it, in double, one element after another.
struct OracleAdamW {
  std::vector<double> value, first, second;
  double decay, factor;

  void step(const OptimizerConfig& c, const std::vector<float>& grad, double rate, double scale, Index t) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      const double g = static_cast<double>(grad[i]) * scale;
      first[i] = c.beta1 * first[i] + (1.0 - c.beta1) * g;
      second[i] = c.beta2 * second[i] + (1.0 - c.beta2) * g * g;
      const double m = first[i] / (1.0 - std::pow(c.beta1, static_cast<double>(t)));
      const double v = second[i] / (1.0 - std::pow(c.beta2, static_cast<double>(t)));
      value[i] -= rate * factor * (m / (std::sqrt(v) + c.epsilon) + decay * value[i]);
    }
  }
};

Parameter make(ParameterRole role, Index count, std::uint32_t seed) {
  Parameter parameter;
  parameter.name = "parameter";
  parameter.role = role;
  parameter.value = Tensor::zeros(DType::kF32, Shape{count});
  const auto values = oracle::random_values(count, seed);
  std::copy(values.begin(), values.end(), parameter.value.f32().begin());
  return parameter;
}

void set_grad(Parameter& parameter, const std::vector<float>& grad) {
  std::copy(grad.begin(), grad.end(), parameter.ensure_grad().f32().begin());
}

OptimizerConfig test_config() {
  OptimizerConfig config;
  config.weight_decay = 0.3;
  config.router_lr_factor = 0.25;
  config.beta2 = 0.98;
  config.epsilon = 1e-6;
  return config;
}

TEST(AdamW, FollowsTheFormulaInEveryGroup) {
  const OptimizerConfig config = test_config();
  const std::vector<ParameterRole> roles = {ParameterRole::kEmbedding, ParameterRole::kOutput, ParameterRole::kMatrix,
                                            ParameterRole::kExpert,    ParameterRole::kRouter, ParameterRole::kNorm,
                                            ParameterRole::kBias};
  std::deque<Parameter> storage;
  std::vector<Parameter*> parameters;
  std::vector<OracleAdamW> expected;
  for (std::size_t i = 0; i < roles.size(); ++i) {
    const Index count = 1 + 13 * static_cast<Index>(i);
    storage.push_back(make(roles[i], count, static_cast<std::uint32_t>(i) + 1));
    parameters.push_back(&storage.back());
    const bool decays = roles[i] != ParameterRole::kNorm && roles[i] != ParameterRole::kBias;
    const std::vector<double> none(static_cast<std::size_t>(count));
    expected.push_back({oracle::to_double(storage.back().value.f32()), none, none, decays ? 0.3 : 0.0,
                        roles[i] == ParameterRole::kRouter ? 0.25 : 1.0});
  }
  AdamW optimizer(config, parameters);
  ASSERT_EQ(optimizer.moments().size(), roles.size());
  constexpr Index kSteps = 9;
  for (Index step = 0; step < kSteps; ++step) {
    const double rate = 0.05 / static_cast<double>(step + 1), scale = step % 2 == 0 ? 1.0 : 0.125;
    for (std::size_t i = 0; i < roles.size(); ++i) {
      // Every fourth gradient is zero, as that of an expert without tokens.
      const auto seed = static_cast<std::uint32_t>(100 + 10 * step) + static_cast<std::uint32_t>(i);
      auto grad = oracle::random_values(parameters[i]->value.numel(), seed, 0.1F);
      if (step % 4 == 3) std::fill(grad.begin(), grad.end(), 0.0F);
      set_grad(*parameters[i], grad);
      expected[i].step(config, grad, rate, scale, step + 1);
    }
    optimizer.step(rate, scale, step);
  }
  for (std::size_t i = 0; i < roles.size(); ++i) {
    // About ten roundings a step.
    EXPECT_TRUE(
        oracle::close(std::as_const(parameters[i]->value).f32(), expected[i].value, oracle::sum_tolerance(10 * kSteps)))
        << "role " << i;
    EXPECT_EQ(oracle::max_abs(std::as_const(parameters[i]->grad).f32()), 0.0) << "gradients are cleared";
  }
}

TEST(AdamW, LeavesFrozenParametersAndBuffersAlone) {
  Parameter buffer = make(ParameterRole::kBuffer, 5, 1), frozen = make(ParameterRole::kMatrix, 5, 2);
  frozen.trainable = false;
  Parameter trained = make(ParameterRole::kMatrix, 5, 3);
  const auto before_buffer = buffer.value.clone(), before_frozen = frozen.value.clone();
  const std::vector<Parameter*> parameters = {&buffer, &frozen, &trained};
  AdamW optimizer(test_config(), parameters);
  ASSERT_EQ(optimizer.moments().size(), 1U);
  EXPECT_EQ(optimizer.moments()[0].parameter, &trained);
  optimizer.step(0.1, 1.0, 0);
  EXPECT_TRUE(oracle::same_bits(std::as_const(buffer.value).f32(), before_buffer.f32()));
  EXPECT_TRUE(oracle::same_bits(std::as_const(frozen.value).f32(), before_frozen.f32()));
}

TEST(AdamW, SameBitsAtAnyNumberOfThreads) {
  constexpr Index kCount = 100'003;
  std::vector<Tensor> results;
  double norm = 0.0;
  for (const int threads : {1, 2, 3, 4}) {
    ThreadArena(threads).run([&] {
      Parameter parameter = make(ParameterRole::kMatrix, kCount, 5);
      Parameter* const pointer = &parameter;
      AdamW optimizer(test_config(), std::span(&pointer, 1));
      for (Index step = 0; step < 3; ++step) {
        set_grad(parameter, oracle::random_values(kCount, 6 + static_cast<std::uint32_t>(step)));
        const double now = gradient_norm(std::span(&pointer, 1));
        if (step == 2 && threads == 1) norm = now;
        if (step == 2) {
          EXPECT_EQ(now, norm) << threads << " threads";
        }
        optimizer.step(0.01, 0.5, step);
      }
      results.push_back(std::move(parameter.value));
    });
    EXPECT_TRUE(oracle::same_bits(results.back().f32(), std::as_const(results.front()).f32())) << threads << " threads";
  }
}

TEST(GradientNorm, IsTheRootOfAllSquares) {
  std::deque<Parameter> storage;
  std::vector<Parameter*> parameters;
  double sum = 0.0;
  for (std::uint32_t i = 0; i < 4; ++i) {
    storage.push_back(make(i == 3 ? ParameterRole::kBuffer : ParameterRole::kMatrix, 1000 + i, i));
    parameters.push_back(&storage.back());
    if (i == 2) continue;  // one without a gradient
    const auto grad = oracle::random_values(1000 + i, 50 + i);
    set_grad(storage.back(), grad);
    if (i == 3) continue;  // a buffer's does not count
    for (const float g : grad) sum += static_cast<double>(g) * static_cast<double>(g);
  }
  // Both sums are in double.
  EXPECT_NEAR(gradient_norm(parameters), std::sqrt(sum), 1e-12 * std::sqrt(sum));
  storage[0].grad.f32()[17] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(gradient_norm(parameters), std::numeric_limits<double>::infinity());
  EXPECT_EQ(gradient_norm({}), 0.0);
}

OptimizerConfig schedule(const std::string& name, Index warmup) {
  OptimizerConfig config;
  config.learning_rate = 2.0;
  config.min_lr_ratio = 0.1;
  config.decay_fraction = 0.25;
  config.schedule = name;
  config.warmup_steps = warmup;
  return config;
}

TEST(LearningRate, WarmsUpLinearly) {
  for (const char* name : {"cosine", "wsd", "constant"}) {
    const auto config = schedule(name, 4);
    EXPECT_DOUBLE_EQ(learning_rate(config, 0, 100), 0.5) << name;
    EXPECT_DOUBLE_EQ(learning_rate(config, 1, 100), 1.0) << name;
    EXPECT_DOUBLE_EQ(learning_rate(config, 3, 100), 2.0) << name;
    EXPECT_DOUBLE_EQ(learning_rate(config, 4, 100), 2.0) << name;
    EXPECT_DOUBLE_EQ(learning_rate(schedule(name, 0), 0, 100), 2.0) << name;
  }
}

TEST(LearningRate, CosineFallsToItsMinimumAtTheLastStep) {
  const auto config = schedule("cosine", 10);  // from step 10 to step 110, the last of 111
  EXPECT_DOUBLE_EQ(learning_rate(config, 35, 111), 0.2 + 0.9 * (1.0 + std::sqrt(0.5)));
  EXPECT_DOUBLE_EQ(learning_rate(config, 60, 111), 1.1);
  EXPECT_DOUBLE_EQ(learning_rate(config, 110, 111), 0.2);
  double before = learning_rate(config, 10, 111);
  for (Index step = 11; step <= 110; ++step) {
    EXPECT_LT(learning_rate(config, step, 111), before);
    before = learning_rate(config, step, 111);
  }
}

TEST(LearningRate, WsdStaysThenFallsLinearly) {
  const auto config = schedule("wsd", 10);  // of 100 steps the last 25 fall
  EXPECT_DOUBLE_EQ(learning_rate(config, 50, 100), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate(config, 74, 100), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate(config, 75, 100), 2.0 - 1.8 / 25.0);
  EXPECT_DOUBLE_EQ(learning_rate(config, 79, 100), 2.0 - 1.8 / 5.0);
  EXPECT_DOUBLE_EQ(learning_rate(config, 99, 100), 0.2);
}

TEST(LearningRate, ConstantStaysAndShortRunsAreFinite) {
  EXPECT_DOUBLE_EQ(learning_rate(schedule("constant", 2), 99, 100), 2.0);
  for (const char* name : {"cosine", "wsd", "constant"}) {
    for (const Index warmup : {0, 1, 5}) {
      for (Index steps = 1; steps <= 4; ++steps) {
        for (Index step = 0; step < steps; ++step) {
          const double rate = learning_rate(schedule(name, warmup), step, steps);
          EXPECT_TRUE(rate > 0.0 && rate <= 2.0)
              << name << " " << warmup << " " << step << "/" << steps << ": " << rate;
        }
      }
    }
  }
}

}  // namespace
}  // namespace switchyard::train
