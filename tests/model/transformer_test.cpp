// Whole tiny transformers against the oracle in double.

#include "switchyard/model/transformer.hpp"

#include <gmock/gmock.h>

#include "model/small_models.hpp"
#include "oracle/finite_difference.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/cross_entropy.hpp"

namespace switchyard::model {
namespace {

using autograd::Parameter;
using autograd::Tape;
using autograd::Value;
using oracle::close;
using oracle::same_bits;

constexpr Index kBatch = 2, kSequence = 7;

std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }

// Counts what observers are told.
class CountingObserver final : public moe::RoutingObserver {
 public:
  void on_routing(const moe::RoutingEvent& event) override {
    layers.push_back(event.layer);
    tokens.push_back(event.assignments.tokens);
  }
  std::vector<Index> layers, tokens;
};

oracle::TransformerInput input_of(const ModelConfig& config) {
  oracle::TransformerInput input;
  input.batch = kBatch;
  input.sequence = kSequence;
  input.id_T = random_ids(kBatch * kSequence, config.vocab, 1);
  input.target_T = random_ids(kBatch * kSequence, config.vocab, 2);
  input.target_T[3] = kernels::kIgnoreTarget;
  input.training = true;
  return input;
}

ForwardCall call_of(const oracle::TransformerInput& input, Tape* tape = nullptr) {
  ForwardCall call;
  call.tape = tape;
  call.batch = input.batch;
  call.sequence = input.sequence;
  call.training = input.training;
  call.valid_T = input.valid_T;
  return call;
}

// The loss that training minimises, recorded.
Value loss_of(Transformer& transformer, const oracle::TransformerInput& input, const ForwardCall& call) {
  const ForwardResult result = transformer.forward(input.id_T, call);
  std::vector<Value> terms{transformer.loss(call.tape, result.hidden_TD, input.target_T)};
  terms.insert(terms.end(), result.router_losses.begin(), result.router_losses.end());
  return autograd::sum_scalars(call.tape, terms);
}

class SmallModelTest : public testing::TestWithParam<NamedModel> {};

TEST_P(SmallModelTest, ForwardIsTheOracles) {
  const ModelConfig& config = GetParam().config;
  Transformer transformer(config);
  randomize(transformer, 100);
  oracle::TransformerInput input = input_of(config);
  for (const bool training : {true, false}) {
    input.training = training;
    const oracle::TransformerResult expected = oracle::transformer(config, parameters_in_double(transformer), input);
    const ForwardResult result = transformer.forward(input.id_T, call_of(input));
    const double tolerance = model_tolerance(config);
    EXPECT_TRUE(close(result.hidden_TD.tensor().f32(), expected.hidden_TD, tolerance));
    const Tensor logits = transformer.logits(result.hidden_TD.matrix());
    EXPECT_EQ(logits.shape(), Shape({kBatch * kSequence, config.vocab}));
    EXPECT_TRUE(close(logits.f32(), expected.logits_TV, tolerance));
    const Value loss = transformer.loss(nullptr, result.hidden_TD, input.target_T);
    EXPECT_TRUE(close(loss.tensor().f32(), std::vector<double>{expected.cross_entropy}, tolerance));
    ASSERT_EQ(result.router_losses.size(), expected.router_losses.size());
    for (std::size_t i = 0; training && i < expected.router_losses.size(); ++i)
      EXPECT_NEAR(result.router_losses[i].scalar(), expected.router_losses[i],
                  tolerance * std::max(1.0, expected.router_losses[i]));
  }
}

// A few dozen elements of every parameter, by central differences of the oracle with its routing held fixed.
TEST_P(SmallModelTest, GradientIsTheOracles) {
  const ModelConfig& config = GetParam().config;
  Transformer transformer(config);
  randomize(transformer, 100);
  const oracle::TransformerInput input = input_of(config);
  oracle::Parameters parameters = parameters_in_double(transformer);
  const oracle::Routing routing = oracle::transformer(config, parameters, input).routing;
  Tape tape;
  const Value loss = loss_of(transformer, input, call_of(input, &tape));
  tape.backward(loss);
  EXPECT_TRUE(tape.empty());
  constexpr std::uint64_t kSamples = 24;
  for (const Parameter* parameter : transformer.parameters()) {
    if (!parameter->wants_grad()) {
      EXPECT_FALSE(parameter->grad.defined()) << parameter->name;
      continue;
    }
    ASSERT_TRUE(parameter->grad.defined()) << parameter->name;
    std::vector<double>& values = parameters[parameter->name];
    const std::span<const float> gradient = parameter->grad.f32();
    const RandomStream stream(3, RandomPurpose::kTest);
    std::vector<float> sampled;
    std::vector<double> expected;
    for (std::uint64_t i = 0; i < std::min<std::uint64_t>(kSamples, values.size()); ++i) {
      const std::size_t at = values.size() <= kSamples ? i : stream.below(i, values.size());
      const double centre = values[at], h = 4.8e-6 * std::max(1.0, std::abs(centre));
      values[at] = centre + h;
      const double above = oracle::transformer(config, parameters, input, &routing).loss();
      values[at] = centre - h;
      const double below = oracle::transformer(config, parameters, input, &routing).loss();
      values[at] = centre;
      sampled.push_back(gradient[at]);
      expected.push_back((above - below) / (2.0 * h));
    }
    // Errors are relative to the tensor's largest gradient, whether it was sampled or not; differences of a loss of
    // about 3 are exact to about 1e-9 (see finite_difference).
    const double largest = oracle::max_abs(gradient);
    EXPECT_TRUE(close(sampled, expected, 0.0, model_tolerance(config, 3) * largest + 3e-9)) << parameter->name;
  }
}

// Forward, gradients and all, with dropout on.
std::vector<std::vector<float>> train_once(const ModelConfig& config, int threads, bool recompute) {
  std::vector<std::vector<float>> arrays;
  ThreadArena arena(threads);
  arena.run([&] {
    Transformer transformer(config);
    transformer.initialize({.std = 0.3F, .truncate = 2.0F}, 5);
    const oracle::TransformerInput input = input_of(config);
    Tape tape;
    CountingObserver observer;
    ForwardCall call = call_of(input, &tape);
    call.recompute = recompute;
    call.seed = 9;
    call.step = 4;
    call.observer = &observer;
    const Value loss = loss_of(transformer, input, call);
    arrays.push_back({loss.scalar()});
    tape.backward(loss, 0.5F);
    for (const Parameter* parameter : transformer.parameters()) {
      arrays.push_back(copy(parameter->value.f32()));
      if (parameter->grad.defined()) arrays.push_back(copy(parameter->grad.f32()));
    }
    std::size_t moe_layers = 0;
    for (const LayerConfig& layer : config.layers) moe_layers += layer.moe ? 1 : 0;
    EXPECT_EQ(observer.layers.size(), moe_layers) << "an observer must hear of each layer once";
  });
  return arrays;
}

TEST_P(SmallModelTest, SameBitsAtAnyThreadCountAndRecomputed) {
  ModelConfig config = GetParam().config;
  config.dropout = 0.2F;
  const auto expected = train_once(config, 1, false);
  for (int threads = 1; threads <= 4; ++threads) {
    for (const bool recompute : {false, true}) {
      if (threads == 1 && !recompute) continue;
      const auto actual = train_once(config, threads, recompute);
      ASSERT_EQ(actual.size(), expected.size());
      for (std::size_t i = 0; i < actual.size(); ++i)
        EXPECT_TRUE(same_bits(actual[i], expected[i]))
            << threads << " threads, " << (recompute ? "recomputed" : "kept") << ", array " << i;
    }
  }
}

TEST_P(SmallModelTest, CachedForwardIsTheWholeForward) {
  const ModelConfig& config = GetParam().config;
  Transformer transformer(config);
  randomize(transformer, 100);
  const std::vector<std::int32_t> ids = random_ids(11, config.vocab, 6);
  ForwardCall call;
  call.sequence = 11;
  const ForwardResult whole = transformer.forward(ids, call);
  const std::vector<double> expected = oracle::to_double(whole.hidden_TD.tensor().f32());
  // A prefill, single tokens, and chunks after them.
  for (const std::vector<Index>& chunks :
       {std::vector<Index>{11}, {5, 1, 1, 1, 1, 1, 1}, {1, 4, 6}, std::vector<Index>(11, 1)}) {
    KvCache cache(config, 11);
    std::vector<float> hidden;
    for (const Index count : chunks) {
      const Index begin = cache.length();
      ForwardCall part;
      part.sequence = count;
      part.cache = &cache;
      const ForwardResult result = transformer.forward(
          std::span(ids).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)), part);
      const std::span<const float> rows = result.hidden_TD.tensor().f32();
      hidden.insert(hidden.end(), rows.begin(), rows.end());
      EXPECT_EQ(cache.length(), begin + count);
    }
    EXPECT_TRUE(close(hidden, expected, model_tolerance(config, 2))) << chunks.size() << " chunks";
  }
}

TEST_P(SmallModelTest, GradientDescentLowersTheLoss) {
  const ModelConfig& config = GetParam().config;
  Transformer transformer(config);
  transformer.initialize({.std = 0.15F}, 3);
  const oracle::TransformerInput input = input_of(config);
  std::vector<float> losses;
  for (int step = 0; step < 20; ++step) {
    Tape tape;
    const Value loss = loss_of(transformer, input, call_of(input, &tape));
    losses.push_back(loss.scalar());
    tape.backward(loss);
    for (Parameter* parameter : transformer.parameters()) {
      if (!parameter->wants_grad()) continue;
      const std::span<float> values = parameter->value.f32();
      for (std::size_t i = 0; i < values.size(); ++i) values[i] -= 0.2F * std::as_const(parameter->grad).f32()[i];
      parameter->zero_grad();
    }
  }
  EXPECT_NEAR(losses.front(), std::log(static_cast<double>(config.vocab)), 0.6);
  EXPECT_LT(losses.back(), losses.front() - 0.2F) << testing::PrintToString(losses);
}

INSTANTIATE_TEST_SUITE_P(Models, SmallModelTest, testing::ValuesIn(small_models()),
                         [](const auto& named) { return named.param.name; });

TEST(Transformer, PaddingDoesNotReachAnExpert) {
  ModelConfig config = model_of(12, 8, {moe_layer(2, 1, 4, 5, 2, 6)});
  Transformer transformer(config);
  randomize(transformer, 100);
  oracle::TransformerInput input = input_of(config);
  input.valid_T.assign(input.id_T.size(), 1);
  input.valid_T[12] = input.valid_T[13] = 0;
  input.target_T[12] = input.target_T[13] = kernels::kIgnoreTarget;
  const oracle::TransformerResult expected = oracle::transformer(config, parameters_in_double(transformer), input);
  const ForwardResult result = transformer.forward(input.id_T, call_of(input));
  EXPECT_TRUE(close(result.hidden_TD.tensor().f32(), expected.hidden_TD, model_tolerance(config)));
}

TEST(Transformer, DropoutDependsOnSeedAndStepAndIsOffOutsideTraining) {
  ModelConfig config = model_of(12, 8, {dense_layer(2, 1, 4, 6)});
  config.dropout = 0.5F;
  Transformer transformer(config);
  randomize(transformer, 100);
  const oracle::TransformerInput input = input_of(config);
  const auto run = [&](bool training, std::uint64_t seed, std::uint32_t step) {
    ForwardCall call = call_of(input);
    call.training = training;
    call.seed = seed;
    call.step = step;
    return copy(transformer.forward(input.id_T, call).hidden_TD.tensor().f32());
  };
  EXPECT_EQ(run(true, 1, 2), run(true, 1, 2));
  EXPECT_NE(run(true, 1, 2), run(true, 1, 3));
  EXPECT_NE(run(true, 1, 2), run(true, 2, 2));
  EXPECT_EQ(run(false, 1, 2), run(false, 7, 8));
}

TEST(Transformer, ParametersFollowTheForwardPassAndCanBeFound) {
  ModelConfig config = small_models().back().config;
  Transformer transformer(config);
  std::vector<std::string> names;
  for (const Parameter* parameter : transformer.parameters()) names.push_back(parameter->name);
  EXPECT_EQ(names.front(), "embedding");
  EXPECT_EQ(names.back(), "final_norm") << "the output is tied";
  for (const char* name :
       {"layers.0.attention_norm", "layers.0.attention.q", "layers.0.ffn.gate", "layers.1.moe.router",
        "layers.1.moe.experts.down", "layers.1.moe.shared_gate", "layers.2.attention.q_norm", "layers.2.ffn_norm"}) {
    EXPECT_THAT(names, testing::Contains(name));
    ASSERT_NE(transformer.find(name), nullptr) << name;
    EXPECT_EQ(transformer.find(name)->name, name);
  }
  EXPECT_EQ(transformer.find("layers.2.moe.experts.gate")->value.shape(), Shape({7, 4, 12}));
  EXPECT_EQ(transformer.find("layers.2.moe.experts.down")->value.shape(), Shape({7, 12, 4}));
  EXPECT_EQ(transformer.find("output"), nullptr);
}

TEST(Transformer, AMovedModelComputesTheSame) {
  const ModelConfig config = small_models().back().config;
  Transformer first(config);
  randomize(first, 100);
  const oracle::TransformerInput input = input_of(config);
  const std::vector<float> before = copy(first.forward(input.id_T, call_of(input)).hidden_TD.tensor().f32());
  Transformer second(std::move(first));
  Transformer third(model_of(5, 4, {dense_layer(1, 1, 2, 3)}));
  third = std::move(second);
  EXPECT_TRUE(same_bits(third.forward(input.id_T, call_of(input)).hidden_TD.tensor().f32(), before));
}

TEST(Transformer, ExpertsAreReadFromTheParametersAsTheyAreNow) {
  const ModelConfig config = model_of(12, 8, {moe_layer(2, 1, 4, 3, 3, 6)});
  Transformer transformer(config);
  randomize(transformer, 100);
  const oracle::TransformerInput input = input_of(config);
  const std::vector<float> before = copy(transformer.forward(input.id_T, call_of(input)).hidden_TD.tensor().f32());
  Parameter& down = *transformer.find("layers.0.moe.experts.down");
  down.value = Tensor::zeros(DType::kF32, down.value.shape());  // another tensor, as a loader would put there
  const std::vector<float> after = copy(transformer.forward(input.id_T, call_of(input)).hidden_TD.tensor().f32());
  EXPECT_NE(before, after);
}

TEST(Transformer, AnExpertStoreTakesTheParametersPlace) {
  const ModelConfig config = model_of(12, 8, {dense_layer(2, 1, 4, 6), moe_layer(2, 1, 4, 3, 2, 6)});
  Transformer transformer(config), other(config);
  randomize(transformer, 100);
  randomize(other, 100);
  const oracle::TransformerInput input = input_of(config);
  const std::vector<float> expected = copy(transformer.forward(input.id_T, call_of(input)).hidden_TD.tensor().f32());
  transformer.set_expert_store(
      1, std::make_unique<moe::ResidentExpertStore>(other.find("layers.1.moe.experts.gate")->value,
                                                    other.find("layers.1.moe.experts.up")->value,
                                                    other.find("layers.1.moe.experts.down")->value));
  for (const char* name : {"gate", "up", "down"}) {
    Parameter& parameter = *transformer.find(fmt::format("layers.1.moe.experts.{}", name));
    parameter.value = Tensor::zeros(DType::kF32, parameter.value.shape());
  }
  EXPECT_TRUE(same_bits(transformer.forward(input.id_T, call_of(input)).hidden_TD.tensor().f32(), expected));
  EXPECT_THROW(transformer.set_expert_store(0, nullptr), Error);
}

TEST(Transformer, InspectSeesEverySubLayerOnceInOrder) {
  const ModelConfig config = model_of(12, 8, {dense_layer(2, 1, 4, 6), moe_layer(2, 1, 4, 3, 2, 6)});
  Transformer transformer(config);
  randomize(transformer, 100);
  const oracle::TransformerInput input = input_of(config);
  std::vector<std::string> names;
  const std::function<void(std::string_view, std::span<const float>)> inspect = [&](std::string_view name,
                                                                                    std::span<const float> values) {
    names.emplace_back(name);
    EXPECT_EQ(values.size(), input.id_T.size() * 8);
  };
  Tape tape;
  ForwardCall call = call_of(input, &tape);
  call.inspect = &inspect;
  call.recompute = true;
  const Value loss = loss_of(transformer, input, call);
  tape.backward(loss);
  EXPECT_THAT(names, testing::ElementsAre("embedding", "layers.0.attention", "layers.0.ffn", "layers.1.attention",
                                          "layers.1.ffn", "final_norm"));
}

TEST(Transformer, RefusesAnIdOutsideTheVocabulary) {
  Transformer transformer(model_of(12, 8, {dense_layer(2, 1, 4, 6)}));
  KvCache cache(transformer.config(), 4);
  ForwardCall call;
  call.sequence = 2;
  call.cache = &cache;
  for (const std::int32_t id : {-1, 12}) {
    try {
      transformer.forward(std::vector<std::int32_t>{0, id}, call);
      FAIL() << "id " << id << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
      EXPECT_THAT(error.what(), testing::HasSubstr(std::to_string(id)));
    }
    EXPECT_EQ(cache.length(), 0);
  }
}

TEST(Transformer, RecomputationHoldsLessMemory) {
  const ModelConfig config = model_of(12, 32, std::vector<LayerConfig>(6, dense_layer(4, 4, 8, 128)));
  Transformer transformer(config);
  transformer.initialize({}, 1);
  const std::vector<std::int32_t> ids = random_ids(256, 12, 1);
  const auto held_after_forward = [&](bool recompute) {
    const Index before = tensor_memory().current_bytes;
    Tape tape;
    ForwardCall call;
    call.tape = &tape;
    call.sequence = 256;
    call.training = true;
    call.recompute = recompute;
    const ForwardResult result = transformer.forward(ids, call);
    return tensor_memory().current_bytes - before;
  };
  const Index stream = 256 * 32 * 4;  // bytes of one residual stream
  // The input of each layer and of the final norm, its output, and a number a token of the norm.
  EXPECT_LE(held_after_forward(true), 8 * stream + 4096);
  // In a layer: two norms' inputs and outputs, q, k, v, the mixed values (six streams and the residual's two), eight
  // of the two products before the activation, and small change (log-sum-exp, norms). "Nothing is held twice."
  EXPECT_LE(held_after_forward(false), 6 * (8 + 8 + 1) * stream + 2 * stream);
}

// Initialisation.

double standard_deviation(std::span<const float> values) {
  double squares = 0.0;
  for (const float v : values) squares += static_cast<double>(v) * static_cast<double>(v);
  return std::sqrt(squares / static_cast<double>(values.size()));
}

TEST(Initialize, EveryKindGetsItsOwnSpread) {
  ModelConfig config = model_of(500, 64, {moe_layer(4, 4, 16, 64, 2, 32), dense_layer(4, 4, 16, 128)});
  config.layers[0].moe->router.selection_bias = true;
  config.layers[0].attention.qkv_bias = true;
  Transformer transformer(config);
  transformer.initialize({.std = 0.05F, .router_std = 0.01F, .embedding_std = 0.5F}, 1);
  const auto spread = [&](const char* name) { return standard_deviation(transformer.find(name)->value.f32()); };
  // n draws know their standard deviation to 1/sqrt(2n); four times that.
  const auto near = [](double expected, Index n) {
    return testing::DoubleNear(expected, 4.0 * expected / std::sqrt(2.0 * static_cast<double>(n)));
  };
  EXPECT_THAT(spread("embedding"), near(0.5, 500 * 64));
  EXPECT_THAT(spread("output"), near(0.05, 500 * 64));
  EXPECT_THAT(spread("layers.0.moe.router"), near(0.01, 64 * 64));
  EXPECT_THAT(spread("layers.0.moe.experts.up"), near(0.05, 64 * 32 * 64));
  EXPECT_THAT(spread("layers.0.moe.experts.down"), near(0.05 / 2.0, 64 * 32 * 64));  // sqrt(2 L) = 2
  EXPECT_THAT(spread("layers.1.ffn.down"), near(0.05 / 2.0, 128 * 64));
  EXPECT_THAT(spread("layers.1.attention.o"), near(0.05 / 2.0, 64 * 64));
  EXPECT_THAT(spread("layers.1.attention.q"), near(0.05, 64 * 64));
  EXPECT_THAT(transformer.find("final_norm")->value.f32(), testing::Each(1.0F));
  EXPECT_THAT(transformer.find("layers.0.attention.q_bias")->value.f32(), testing::Each(0.0F));
  EXPECT_THAT(transformer.find("layers.0.moe.selection_bias")->value.f32(), testing::Each(0.0F));
  transformer.initialize({.std = 0.05F, .scale_residual = false}, 1);
  EXPECT_THAT(spread("layers.1.attention.o"), near(0.05, 64 * 64));
}

TEST(Initialize, TruncationDrawsAgain) {
  Transformer transformer(model_of(500, 64, {dense_layer(4, 4, 16, 128)}));
  transformer.initialize({.std = 0.1F, .truncate = 1.5F}, 1);
  const std::span<const float> values = std::as_const(*transformer.find("embedding")).value.f32();
  EXPECT_LE(oracle::max_abs(values), 0.15 * (1.0 + 1e-6));
  EXPECT_GT(oracle::max_abs(values), 0.149);
  // The variance of a normal cut at 1.5: 1 - 2 * 1.5 * phi(1.5) / (2 Phi(1.5) - 1) = 0.5514.
  EXPECT_NEAR(standard_deviation(values), 0.1 * std::sqrt(0.5514), 0.1 * 0.01);
  const float largest = static_cast<float>(oracle::max_abs(values));
  EXPECT_LE(std::count(values.begin(), values.end(), largest), 1) << "cut, not drawn again";
}

TEST(Initialize, SameSeedSameBitsAtAnyThreadCount) {
  const ModelConfig config = small_models().back().config;
  const auto weights = [&](int threads, std::uint64_t seed) {
    std::vector<float> all;
    ThreadArena(threads).run([&] {
      Transformer transformer(config);
      transformer.initialize({.truncate = 2.0F}, seed);
      for (const Parameter* parameter : std::as_const(transformer).parameters())
        all.insert(all.end(), parameter->value.f32().begin(), parameter->value.f32().end());
    });
    return all;
  };
  EXPECT_EQ(weights(1, 3), weights(4, 3));
  EXPECT_NE(weights(1, 3), weights(1, 4));
}

TEST(Initialize, ParametersOfOneShapeDiffer) {
  Transformer transformer(model_of(16, 16, {dense_layer(4, 4, 4, 16), dense_layer(4, 4, 4, 16)}));
  transformer.initialize({}, 1);
  EXPECT_NE(copy(transformer.find("layers.0.attention.q")->value.f32()),
            copy(transformer.find("layers.0.attention.k")->value.f32()));
  EXPECT_NE(copy(transformer.find("layers.0.attention.q")->value.f32()),
            copy(transformer.find("layers.1.attention.q")->value.f32()));
}

TEST(Initialize, RefusesWhatCannotBeDrawn) {
  Transformer transformer(model_of(16, 16, {dense_layer(4, 4, 4, 16)}));
  for (const InitConfig& bad : {InitConfig{.std = -1.0F}, InitConfig{.truncate = 0.01F},
                                InitConfig{.std = std::numeric_limits<float>::quiet_NaN()}})
    EXPECT_THROW(transformer.initialize(bad, 1), Error);
}

}  // namespace
}  // namespace switchyard::model
