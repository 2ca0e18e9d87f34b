// Gradients of whole models for routers of every kind, against differences of the model's own loss: what the oracle of
// the plain layer cannot say. In float32, so only to a percent; the parts are checked exactly in tests/moe.

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "model/small_models.hpp"
#include "oracle/finite_difference.hpp"

namespace switchyard::model {
namespace {

using autograd::Parameter;
using autograd::Tape;
using autograd::Value;

constexpr Index kBatch = 2, kSequence = 8;

struct RoutedModel {
  std::string name;
  std::function<void(moe::MoeConfig&)> change;
};
void PrintTo(const RoutedModel& model, std::ostream* out) { *out << model.name; }

class RoutedModelTest : public testing::TestWithParam<RoutedModel> {
 protected:
  // Every expert is chosen, unless a router says otherwise: differences across a change of choice are no gradient.
  ModelConfig config() const {
    ModelConfig config = model_of(13, 8, {moe_layer(2, 2, 4, 6, 6, 5), moe_layer(2, 2, 4, 6, 6, 5)});
    for (LayerConfig& layer : config.layers) {
      layer.moe->balance.load_balance = 0.1F;
      GetParam().change(*layer.moe);
    }
    config.validate();
    return config;
  }
};

double loss_of(Transformer& transformer, Tape* tape, bool recompute = false) {
  ForwardCall call;
  call.tape = tape;
  call.batch = kBatch;
  call.sequence = kSequence;
  call.training = true;
  call.seed = 5;
  call.recompute = recompute;
  const ForwardResult result = transformer.forward(random_ids(kBatch * kSequence, 13, 1), call);
  const std::vector<std::int32_t> targets = random_ids(kBatch * kSequence, 13, 2);
  std::vector<Value> terms{transformer.loss(tape, result.hidden_TD, targets)};
  terms.insert(terms.end(), result.router_losses.begin(), result.router_losses.end());
  const Value loss = autograd::sum_scalars(tape, terms);
  if (tape != nullptr) tape->backward(loss);
  return static_cast<double>(loss.scalar());
}

// Parameters that start at zero would hide an error in what they multiply.
void fill(Transformer& transformer) {
  transformer.initialize({.std = 0.3F}, 3);
  std::uint32_t seed = 100;
  for (Parameter* parameter : transformer.parameters()) {
    ++seed;
    if (parameter->role != autograd::ParameterRole::kBias && parameter->role != autograd::ParameterRole::kBuffer)
      continue;
    const std::vector<float> values = oracle::random_values(parameter->value.numel(), seed, 0.2F);
    std::copy(values.begin(), values.end(), parameter->value.f32().begin());
  }
}

// Along random directions of length 1 through each parameter, with a step that keeps rounding of the loss (some 2^-21
// of it) and the step's square apart.
TEST_P(RoutedModelTest, GradientIsThatOfTheLoss) {
  Transformer transformer(config());
  fill(transformer);
  Tape tape;
  loss_of(transformer, &tape);
  constexpr double kStep = 4e-3;
  std::uint32_t seed = 1000;
  for (Parameter* parameter : transformer.parameters()) {
    if (!parameter->wants_grad() || !parameter->grad.defined()) continue;
    const std::vector<double> gradient = oracle::to_double(std::as_const(parameter->grad).f32());
    const std::vector<float> start(parameter->value.f32().begin(), parameter->value.f32().end());
    double size = 0.0;
    for (const double g : gradient) size += g * g;
    std::vector<double> direction = oracle::to_double(oracle::random_values(parameter->value.numel(), ++seed));
    // Half along the gradient, so that what is compared is not a small remainder.
    double length = 0.0;
    for (std::size_t i = 0; i < direction.size(); ++i) {
      direction[i] = direction[i] / std::sqrt(static_cast<double>(direction.size())) +
                     (size > 0.0 ? gradient[i] / std::sqrt(size) : 0.0);
      length += direction[i] * direction[i];
    }
    double expected = 0.0;
    for (std::size_t i = 0; i < direction.size(); ++i) {
      direction[i] /= std::sqrt(length);
      expected += direction[i] * gradient[i];
    }
    const auto loss_at = [&](double step) {
      for (std::size_t i = 0; i < start.size(); ++i)
        parameter->value.f32()[i] = static_cast<float>(static_cast<double>(start[i]) + step * direction[i]);
      return loss_of(transformer, nullptr);
    };
    const double found = (loss_at(kStep) - loss_at(-kStep)) / (2.0 * kStep);
    std::copy(start.begin(), start.end(), parameter->value.f32().begin());
    const double rounding = 0x1.0p-21 * 3.0 / kStep;
    EXPECT_NEAR(found, expected, 0.01 * std::sqrt(size) + rounding) << parameter->name;
  }
}

TEST_P(RoutedModelTest, SameGradientWhenRecomputed) {
  std::vector<std::vector<float>> gradients[2];
  for (const bool recompute : {false, true}) {
    Transformer transformer(config());
    fill(transformer);
    Tape tape;
    loss_of(transformer, &tape, recompute);
    for (const Parameter* parameter : transformer.parameters())
      if (parameter->grad.defined())
        gradients[recompute ? 1 : 0].emplace_back(parameter->grad.f32().begin(), parameter->grad.f32().end());
  }
  ASSERT_EQ(gradients[0].size(), gradients[1].size());
  for (std::size_t i = 0; i < gradients[0].size(); ++i)
    EXPECT_TRUE(oracle::same_bits(gradients[0][i], gradients[1][i])) << "parameter " << i;
}

INSTANTIATE_TEST_SUITE_P(
    Routers, RoutedModelTest,
    testing::Values(RoutedModel{"plain", [](moe::MoeConfig&) {}},
                    RoutedModel{"residual", [](moe::MoeConfig& c) { c.router.residual = true; }},
                    RoutedModel{"cosine",
                                [](moe::MoeConfig& c) {
                                  c.router.logits = "cosine";
                                  c.router.cosine_width = 4;
                                }},
                    RoutedModel{"temperature_and_bias",
                                [](moe::MoeConfig& c) {
                                  c.router.temperature = 0.7F;
                                  c.router.logits_bias = true;
                                }},
                    RoutedModel{"shazeer_noise",
                                [](moe::MoeConfig& c) {
                                  c.router.noise = "shazeer";
                                  c.router.score = "logits";
                                  c.router.normalise = "softmax";
                                }},
                    RoutedModel{"gumbel_on_selection",
                                [](moe::MoeConfig& c) {
                                  c.router.noise = "gumbel";
                                  c.router.noise_on = "selection";
                                }},
                    RoutedModel{"jitter_on_router", [](moe::MoeConfig& c) { c.router.jitter = 0.2F; }},
                    RoutedModel{"jitter_on_layer",
                                [](moe::MoeConfig& c) {
                                  c.router.jitter = 0.2F;
                                  c.router.jitter_on = "layer";
                                }},
                    RoutedModel{"p_norm",
                                [](moe::MoeConfig& c) {
                                  c.router.normalise = "p-norm";
                                  c.router.norm_p = 2.0F;
                                }},
                    RoutedModel{"soft",
                                [](moe::MoeConfig& c) {
                                  c.router.select = "soft";
                                  c.router.slots = 2;
                                  c.balance.load_balance = 0.0F;
                                }},
                    RoutedModel{"soft_with_shared_expert",
                                [](moe::MoeConfig& c) {
                                  c.router.select = "soft";
                                  c.shared.hidden = 3;
                                  c.shared.gated = true;
                                  c.balance.load_balance = 0.0F;
                                }},
                    RoutedModel{"dense_gradient_of_all", [](moe::MoeConfig& c) { c.router.dense_gradient = true; }},
                    RoutedModel{"tree",
                                [](moe::MoeConfig& c) {
                                  c.router.score = "tree";
                                  c.router.select = "tree";
                                  c.router.levels = {2, 3};
                                  c.router.level_top_k = {2, 3};
                                }},
                    RoutedModel{"warm_up", [](moe::MoeConfig& c) { c.router.uniform_warmup = 10; }},
                    RoutedModel{"expert_dropout_renormalised",
                                [](moe::MoeConfig& c) {
                                  c.router.expert_dropout = 0.3F;
                                  c.router.normalise = "sum";
                                  c.capacity.renormalise = true;
                                }},
                    RoutedModel{"experts_without_matrices",
                                [](moe::MoeConfig& c) {
                                  c.router.zero_experts = 1;
                                  c.router.copy_experts = 2;
                                  c.router.constant_experts = 2;
                                  c.router.top_k = 11;
                                }},
                    RoutedModel{"capacity_renormalised",
                                [](moe::MoeConfig& c) {
                                  c.router.normalise = "sum";
                                  c.capacity.factor = 0.7F;
                                  c.capacity.drop = "position";
                                  c.capacity.renormalise = true;
                                }}),
    [](const auto& named) { return named.param.name; });

}  // namespace
}  // namespace switchyard::model
