// Every op's gradient against central differences of its definition in double.

#include "switchyard/autograd/ops.hpp"

#include <gmock/gmock.h>

#include <array>

#include "autograd/graph.hpp"
#include "oracle/layers.hpp"
#include "oracle/moe.hpp"
#include "oracle/norm.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/kernels/cross_entropy.hpp"

namespace switchyard::autograd {
namespace {

using oracle::close;
using oracle::dot;
using oracle::is_gradient;
using oracle::random_values;
using oracle::sum_tolerance;
using Doubles = std::vector<double>;

TEST(Embedding, GradientAddsUpTheRowsOfAnId) {
  const std::vector<std::int32_t> ids{3, 0, 3, 3, 1};
  const std::vector<float> table = random_values(4 * 5, 1), weights = random_values(5 * 5, 2);
  Parameter parameter = parameter_of({4, 5}, table, ParameterRole::kEmbedding);
  Tape tape;
  const Value y = embedding(&tape, parameter, ids);
  backward_from(tape, y, weights);
  const auto f = [&](const Doubles& w) {
    Doubles rows;
    for (const std::int32_t id : ids) rows.insert(rows.end(), w.begin() + id * 5, w.begin() + (id + 1) * 5);
    return dot(weights, rows);
  };
  EXPECT_TRUE(is_gradient(gradient_of(parameter), f, table, 3));
}

TEST(Embedding, RefusesAnIdOutsideTheTable) {
  Parameter parameter = parameter_of({4, 2}, random_values(8, 1));
  for (const std::int32_t id : {-1, 4}) {
    try {
      embedding(nullptr, parameter, std::vector<std::int32_t>{id});
      FAIL() << "id " << id << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    }
  }
}

struct LinearSize {
  Index tokens, width, outputs;
  bool bias;
};
class LinearTest : public testing::TestWithParam<LinearSize> {};

TEST_P(LinearTest, ForwardAndGradients) {
  const auto [tokens, width, outputs, with_bias] = GetParam();
  const std::vector<float> x = random_values(tokens * width, 1), w = random_values(outputs * width, 2),
                           b = random_values(with_bias ? outputs : 0, 3), weights = random_values(tokens * outputs, 4);
  Parameter weight = parameter_of({outputs, width}, w), bias = parameter_of({outputs}, random_values(outputs, 3));
  Tape tape;
  const Value input(tensor_of({tokens, width}, x), true);
  const Value y = linear(&tape, input, weight, with_bias ? &bias : nullptr);
  const auto oracle_at = [&](const Doubles& xs, const Doubles& ws, const Doubles& bs) {
    return oracle::linear(xs, ws, bs, width);
  };
  const Doubles xd = as_double(x), wd = as_double(w), bd = as_double(b);
  EXPECT_TRUE(close(values_of(y), oracle_at(xd, wd, bd), sum_tolerance(width + 1)));
  backward_from(tape, y, weights);
  EXPECT_TRUE(is_gradient(
      gradient_of(input), [&](const Doubles& v) { return dot(weights, oracle_at(v, wd, bd)); }, x, outputs));
  EXPECT_TRUE(is_gradient(
      gradient_of(weight), [&](const Doubles& v) { return dot(weights, oracle_at(xd, v, bd)); }, w, tokens));
  if (with_bias) {
    EXPECT_TRUE(is_gradient(
        gradient_of(bias), [&](const Doubles& v) { return dot(weights, oracle_at(xd, wd, v)); }, b, tokens));
  } else {
    EXPECT_FALSE(bias.grad.defined());
  }
}
INSTANTIATE_TEST_SUITE_P(Sizes, LinearTest,
                         testing::Values(LinearSize{1, 1, 1, true}, LinearSize{1, 17, 5, false},
                                         LinearSize{7, 3, 19, true}, LinearSize{33, 8, 9, false}));

TEST(Linear, ThreeUsersOfOneInputAddTheirGradients) {
  const std::vector<float> x = random_values(6 * 4, 1);
  Parameter a = parameter_of({3, 4}, random_values(12, 2)), b = parameter_of({3, 4}, random_values(12, 3)),
            c = parameter_of({3, 4}, random_values(12, 4));
  const std::vector<float> weights = random_values(18, 5);
  Tape tape;
  const Value input(tensor_of({6, 4}, x), true);
  const Value y = add(&tape, add(&tape, linear(&tape, input, a), linear(&tape, input, b)), linear(&tape, input, c));
  backward_from(tape, y, weights);
  Doubles sum = as_double(a.value.f32());
  for (std::size_t i = 0; i < sum.size(); ++i)
    sum[i] +=
        static_cast<double>(std::as_const(b.value).f32()[i]) + static_cast<double>(std::as_const(c.value).f32()[i]);
  EXPECT_TRUE(is_gradient(
      gradient_of(input), [&](const Doubles& v) { return dot(weights, oracle::linear(v, sum, {}, 4)); }, x, 9));
}

TEST(Linear, AFrozenWeightGetsNoGradientAndItsInputIsNotKept) {
  Parameter weight = parameter_of({9, 4}, random_values(9 * 4, 2));
  weight.trainable = false;
  Tape tape;
  const std::vector<float> weights = random_values(9, 3), x = random_values(4, 1);
  const Value source(tensor_of({1, 4}, x), true);
  Value input = add(&tape, source, source);
  const std::weak_ptr<Tensor> watched = input.shared();
  const Value y = linear(&tape, input, weight);
  input = Value();
  EXPECT_TRUE(watched.expired());
  backward_from(tape, y, weights);
  EXPECT_FALSE(weight.grad.defined());
  EXPECT_TRUE(source.grad().defined());
}

TEST(RmsNorm, GradientsOfWholeRowsAndOfHeads) {
  for (const Index group : {6, 3, 2}) {
    const Index rows = 5, width = 6;
    const std::vector<float> x = random_values(rows * width, 1), w = random_values(group, 2),
                             weights = random_values(rows * width, 3);
    Parameter weight = parameter_of({group}, w, ParameterRole::kNorm);
    Tape tape;
    const Value input(tensor_of({rows, width}, x), true);
    const Value y = rms_norm(&tape, input, weight, 1e-5F);
    const auto oracle_at = [&](const Doubles& xs, const Doubles& ws) {
      return oracle::rms_norm(xs, ws, static_cast<double>(1e-5F));
    };
    const Doubles xd = as_double(x), wd = as_double(w);
    // Sum of squares, root and two products.
    EXPECT_TRUE(close(values_of(y), oracle_at(xd, wd), sum_tolerance(group, 2)));
    backward_from(tape, y, weights);
    EXPECT_TRUE(is_gradient(
        gradient_of(input), [&](const Doubles& v) { return dot(weights, oracle_at(v, wd)); }, x, group, 3))
        << "groups of " << group;
    EXPECT_TRUE(is_gradient(
        gradient_of(weight), [&](const Doubles& v) { return dot(weights, oracle_at(xd, v)); }, w, rows * width, 2))
        << "groups of " << group;
  }
}

TEST(LayerNorm, GradientsOfWholeRowsAndOfHeads) {
  for (const Index group : {6, 3})
    for (const bool biased : {false, true}) {
      const Index rows = 5, width = 6;
      const std::vector<float> x = random_values(rows * width, 1), w = random_values(group, 2),
                               b = random_values(biased ? group : 0, 4), weights = random_values(rows * width, 3);
      Parameter weight = parameter_of({group}, w, ParameterRole::kNorm),
                bias = parameter_of({group}, random_values(group, 4), ParameterRole::kBias);
      Tape tape;
      const float eps = 0.1F;
      const Value input(tensor_of({rows, width}, x), true);
      const Value y = layer_norm(&tape, input, weight, biased ? &bias : nullptr, eps);
      const auto value = [&](const Doubles& xs, const Doubles& ws, const Doubles& bs) {
        return dot(weights, oracle::layer_norm(xs, ws, bs, static_cast<double>(eps)));
      };
      const Doubles xd = as_double(x), wd = as_double(w), bd = as_double(b);
      EXPECT_TRUE(close(values_of(y), oracle::layer_norm(xd, wd, bd, static_cast<double>(eps)), sum_tolerance(1)));
      backward_from(tape, y, weights);
      EXPECT_TRUE(is_gradient(
          gradient_of(input), [&](const Doubles& v) { return value(v, wd, bd); }, x, group, 3));
      EXPECT_TRUE(is_gradient(
          gradient_of(weight), [&](const Doubles& v) { return value(xd, v, bd); }, w, rows * width, 2));
      EXPECT_EQ(bias.grad.defined(), biased);
      if (biased) {
        EXPECT_TRUE(is_gradient(
            gradient_of(bias), [&](const Doubles& v) { return value(xd, wd, v); }, b, rows * width, 2));
      }
    }
}

TEST(Scale, MultipliesValueAndGradient) {
  const std::vector<float> x = random_values(12, 1), weights = random_values(12, 2);
  Tape tape;
  const Value input(tensor_of({3, 4}, x), true);
  EXPECT_EQ(scale(&tape, input, 1.0F).shared(), input.shared());
  EXPECT_TRUE(tape.empty());
  const Value y = scale(&tape, input, -2.5F);
  EXPECT_TRUE(oracle::same_bits(values_of(input), x)) << "an input that is still held was overwritten";
  backward_from(tape, y, weights);
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(values_of(y)[i], -2.5F * x[i]);
    EXPECT_EQ(gradient_of(input)[i], -2.5F * weights[i]);
  }
}

TEST(Clamp, CutsAndStopsTheGradientBeyondTheLimit) {
  const std::vector<float> x{0.5F, -2.0F, 2.0F, 2.5F, -7.0F, 0.0F}, weights = random_values(6, 2);
  Tape tape;
  const Value input(tensor_of({2, 3}, x), true);
  const Value y = clamp(&tape, input, 2.0F);
  EXPECT_TRUE(oracle::same_bits(values_of(input), x)) << "an input that is still held was overwritten";
  EXPECT_THAT(values_of(y), testing::ElementsAre(0.5F, -2.0F, 2.0F, 2.0F, -2.0F, 0.0F));
  backward_from(tape, y, weights);
  EXPECT_THAT(gradient_of(input), testing::ElementsAre(weights[0], weights[1], weights[2], 0.0F, 0.0F, weights[5]));
}

TEST(Add, GivesBothInputsTheGradientAndKeepsWhatIsHeld) {
  const std::vector<float> x = random_values(12, 1), weights = random_values(12, 2);
  Tape tape;
  const Value input(tensor_of({3, 4}, x), true);
  const Value twice = add(&tape, input, input);
  const Value y = add(&tape, twice, input);  // 3 x
  EXPECT_TRUE(oracle::same_bits(values_of(input), x));
  backward_from(tape, y, weights);
  Doubles expected;
  for (const float w : weights) expected.push_back(3.0 * static_cast<double>(w));
  EXPECT_TRUE(close(gradient_of(input), expected, sum_tolerance(3)));
}

TEST(Add, WritesOverATensorThatNobodyElseHolds) {
  const Value a(tensor_of({2}, {1.0F, 2.0F}));
  Value b(tensor_of({2}, {10.0F, 20.0F}));
  const Tensor* memory = b.shared().get();
  const Value y = add(nullptr, a, std::move(b));
  EXPECT_EQ(y.shared().get(), memory);
  EXPECT_THAT(values_of(y), testing::ElementsAre(11.0F, 22.0F));
}

TEST(Dropout, MaskIsTheStreamsAndTheGradientHasTheSame) {
  const RandomStream stream(5, RandomPurpose::kDropout, 3, 9);
  const std::vector<float> x = random_values(1000, 1), weights = random_values(1000, 2);
  Tape tape;
  const Value input(tensor_of({10, 100}, x), true);
  const Value y = dropout(&tape, input, 0.25F, stream);
  backward_from(tape, y, weights);
  Index dropped = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float draw = static_cast<float>(stream.block(i / 4)[i % 4] >> 8) * 0x1.0p-24F;
    const float factor = draw >= 0.25F ? 1.0F / 0.75F : 0.0F;
    dropped += factor == 0.0F ? 1 : 0;
    // At most one rounding more or less than x * (1 / (1 - rate)).
    EXPECT_NEAR(values_of(y)[i], x[i] * factor, std::abs(x[i]) * 0x1.0p-22F);
    EXPECT_NEAR(gradient_of(input)[i], weights[i] * factor, std::abs(weights[i]) * 0x1.0p-22F);
  }
  EXPECT_GT(dropped, 180);
  EXPECT_LT(dropped, 320);
}

TEST(Dropout, RateZeroIsTheIdentity) {
  const Value input(tensor_of({2}, {1.0F, 2.0F}), true);
  Tape tape;
  const Value y = dropout(&tape, input, 0.0F, RandomStream(1, RandomPurpose::kDropout));
  EXPECT_EQ(y.shared(), input.shared());
  EXPECT_TRUE(tape.empty());
}

class FfnTest : public testing::TestWithParam<kernels::Activation> {};

TEST_P(FfnTest, Gradients) {
  const Index tokens = 5, width = 6, hidden = 7;
  const bool gated = kernels::is_gated(GetParam());
  const std::vector<float> x = random_values(tokens * width, 1), gate = random_values(hidden * width, 2),
                           up = random_values(hidden * width, 3), down = random_values(width * hidden, 4),
                           weights = random_values(tokens * width, 5);
  Parameter gate_p = parameter_of({hidden, width}, gate), up_p = parameter_of({hidden, width}, up),
            down_p = parameter_of({width, hidden}, down);
  Tape tape;
  const Value input(tensor_of({tokens, width}, x), true);
  const Value y = ffn(&tape, input, GetParam(), {gated ? &gate_p : nullptr, &up_p, &down_p});
  const auto oracle_at = [&](const Doubles& xs, const Doubles& g, const Doubles& u, const Doubles& d) {
    Doubles out;
    for (Index t = 0; t < tokens; ++t) {
      const Doubles row =
          oracle::ffn(GetParam(), xs.data() + t * width, width, hidden, gated ? g.data() : nullptr, u.data(), d.data());
      out.insert(out.end(), row.begin(), row.end());
    }
    return out;
  };
  const Doubles xd = as_double(x), gd = as_double(gate), ud = as_double(up), dd = as_double(down);
  EXPECT_TRUE(close(values_of(y), oracle_at(xd, gd, ud, dd), sum_tolerance(hidden, 3)));
  backward_from(tape, y, weights);
  const auto value = [&](const Doubles& a, const Doubles& b, const Doubles& c, const Doubles& d) {
    return dot(weights, oracle_at(a, b, c, d));
  };
  EXPECT_TRUE(is_gradient(
      gradient_of(input), [&](const Doubles& v) { return value(v, gd, ud, dd); }, x, 2 * hidden, 4));
  if (gated) {
    EXPECT_TRUE(is_gradient(
        gradient_of(gate_p), [&](const Doubles& v) { return value(xd, v, ud, dd); }, gate, width + tokens, 4));
  }
  EXPECT_TRUE(is_gradient(
      gradient_of(up_p), [&](const Doubles& v) { return value(xd, gd, v, dd); }, up, width + tokens, 4));
  EXPECT_TRUE(is_gradient(
      gradient_of(down_p), [&](const Doubles& v) { return value(xd, gd, ud, v); }, down, width + tokens, 4));
}
INSTANTIATE_TEST_SUITE_P(Activations, FfnTest,
                         testing::Values(kernels::Activation::kSwiGLU, kernels::Activation::kClampedSwiGLU,
                                         kernels::Activation::kGatedGeluTanh, kernels::Activation::kGELU,
                                         kernels::Activation::kReLU));

TEST(Ffn, BiasesHaveGradients) {
  const Index tokens = 5, width = 6, hidden = 7;
  const std::vector<float> x = random_values(tokens * width, 1), weights = random_values(tokens * width, 5);
  Parameter gate = parameter_of({hidden, width}, random_values(42, 2)),
            up = parameter_of({hidden, width}, random_values(42, 3)),
            down = parameter_of({width, hidden}, random_values(42, 4)),
            gate_bias = parameter_of({hidden}, random_values(hidden, 6), ParameterRole::kBias),
            up_bias = parameter_of({hidden}, random_values(hidden, 7), ParameterRole::kBias),
            down_bias = parameter_of({width}, random_values(width, 8), ParameterRole::kBias);
  const std::array<Parameter*, 6> all{&gate, &up, &down, &gate_bias, &up_bias, &down_bias};
  std::array<Doubles, 6> values;
  for (std::size_t i = 0; i < all.size(); ++i) values[i] = as_double(std::as_const(all[i]->value).f32());
  const auto oracle_at = [&](const std::array<Doubles, 6>& v) {
    Doubles out;
    const Doubles xs = as_double(x);
    for (Index t = 0; t < tokens; ++t) {
      const Doubles row = oracle::ffn(kernels::Activation::kSwiGLU, xs.data() + t * width, width, hidden, v[0].data(),
                                      v[1].data(), v[2].data(), v[3].data(), v[4].data(), v[5].data());
      out.insert(out.end(), row.begin(), row.end());
    }
    return out;
  };
  const auto run = [&] {
    Tape tape;
    const Value y = ffn(&tape, Value(tensor_of({tokens, width}, x), true), kernels::Activation::kSwiGLU,
                        {&gate, &up, &down, &gate_bias, &up_bias, &down_bias});
    EXPECT_TRUE(close(values_of(y), oracle_at(values), sum_tolerance(hidden, 3)));
    backward_from(tape, y, weights);
  };
  run();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto by_part = [&](const Doubles& part) {
      std::array<Doubles, 6> changed = values;
      changed[i] = part;
      return dot(weights, oracle_at(changed));
    };
    EXPECT_TRUE(is_gradient(gradient_of(*all[i]), by_part, std::as_const(all[i]->value).f32(), width + tokens, 4))
        << "parameter " << i;
  }
  // With everything else frozen a bias still learns the same.
  const std::vector<float> expected(gradient_of(down_bias).begin(), gradient_of(down_bias).end());
  for (Parameter* parameter : all) {
    parameter->grad = Tensor();
    parameter->trainable = parameter == &down_bias;
  }
  run();
  EXPECT_FALSE(gate.grad.defined() || up_bias.grad.defined());
  EXPECT_TRUE(oracle::same_bits(gradient_of(down_bias), expected));
}

TEST(Ffn, WithOneMatrixFrozenTheOthersGetTheSameGradients) {
  const std::vector<float> x = random_values(4 * 6, 1), weights = random_values(4 * 6, 5);
  Parameter gate = parameter_of({7, 6}, random_values(42, 2)), up = parameter_of({7, 6}, random_values(42, 3)),
            down = parameter_of({6, 7}, random_values(42, 4));
  const auto run = [&] {
    Tape tape;
    const Value y = ffn(&tape, Value(tensor_of({4, 6}, x), true), kernels::Activation::kSwiGLU, {&gate, &up, &down});
    backward_from(tape, y, weights);
  };
  run();
  const std::vector<float> expected(gradient_of(down).begin(), gradient_of(down).end());
  for (Parameter* parameter : {&gate, &up, &down}) parameter->grad = Tensor();
  gate.trainable = false;
  run();
  EXPECT_FALSE(gate.grad.defined());
  EXPECT_TRUE(oracle::same_bits(gradient_of(down), expected));
}

TEST(CrossEntropy, ValueCountAndGradients) {
  const Index tokens = 6, width = 5, vocab = 11;
  const std::vector<std::int32_t> targets{0, 10, kernels::kIgnoreTarget, 3, 3, kernels::kIgnoreTarget};
  const std::vector<float> x = random_values(tokens * width, 1), w = random_values(vocab * width, 2);
  for (const bool biased : {false, true}) {
    const std::vector<float> b = random_values(biased ? vocab : 0, 3);
    Parameter weight = parameter_of({vocab, width}, w, ParameterRole::kOutput),
              bias = parameter_of({vocab}, random_values(vocab, 3), ParameterRole::kBias);
    Tape tape;
    const Value input(tensor_of({tokens, width}, x), true);
    Index count = 0;
    const Value loss = cross_entropy(&tape, input, weight, biased ? &bias : nullptr, targets, &count);
    EXPECT_EQ(count, 4);
    const auto oracle_at = [&](const Doubles& xs, const Doubles& ws, const Doubles& bs) {
      return oracle::cross_entropy(oracle::linear(xs, ws, bs, width), targets, vocab);
    };
    const Doubles xd = as_double(x), wd = as_double(w), bd = as_double(b);
    EXPECT_TRUE(close(values_of(loss), Doubles{oracle_at(xd, wd, bd)}, sum_tolerance(width + vocab, 2)));
    tape.backward(loss, 0.5F);
    EXPECT_TRUE(is_gradient(
        gradient_of(input), [&](const Doubles& v) { return 0.5 * oracle_at(v, wd, bd); }, x, width + vocab, 3));
    EXPECT_TRUE(is_gradient(
        gradient_of(weight), [&](const Doubles& v) { return 0.5 * oracle_at(xd, v, bd); }, w, width + vocab + tokens,
        3));
    EXPECT_EQ(bias.grad.defined(), biased);
    if (biased) {
      EXPECT_TRUE(is_gradient(
          gradient_of(bias), [&](const Doubles& v) { return 0.5 * oracle_at(xd, wd, v); }, b, vocab + tokens, 3));
    }
  }
}

TEST(CrossEntropy, WithAFrozenWeightTheOthersGetTheSameGradients) {
  const std::vector<std::int32_t> targets{0, 2, 1};
  const std::vector<float> x = random_values(6, 1);
  Parameter weight = parameter_of({3, 2}, random_values(6, 2)), bias = parameter_of({3}, random_values(3, 3));
  const auto run = [&] {
    bias.grad = Tensor();
    Tape tape;
    const Value input(tensor_of({3, 2}, x), true);
    tape.backward(cross_entropy(&tape, input, weight, &bias, targets));
    std::vector<float> all(gradient_of(input).begin(), gradient_of(input).end());
    all.insert(all.end(), gradient_of(bias).begin(), gradient_of(bias).end());
    return all;
  };
  const std::vector<float> expected = run();
  weight.grad = Tensor();
  weight.trainable = false;
  EXPECT_TRUE(oracle::same_bits(run(), expected));
  EXPECT_FALSE(weight.grad.defined());
}

TEST(CrossEntropy, WithoutTargetsIsZeroAndHasNoGradient) {
  Parameter weight = parameter_of({3, 2}, random_values(6, 1));
  Tape tape;
  Index count = 7;
  const Value input(tensor_of({2, 2}, random_values(4, 2)), true);
  const Value loss =
      cross_entropy(&tape, input, weight, nullptr, std::vector<std::int32_t>(2, kernels::kIgnoreTarget), &count);
  EXPECT_EQ(count, 0);
  EXPECT_EQ(loss.scalar(), 0.0F);
  tape.backward(loss);
  EXPECT_FALSE(input.grad().defined());
}

TEST(SumScalars, AddsAndPassesTheGradientOn) {
  Tape tape;
  const std::vector<Value> terms{Value(tensor_of({1}, {1.5F}), true), Value(tensor_of({1}, {2.0F})),
                                 Value(tensor_of({1}, {4.0F}), true)};
  const Value sum = sum_scalars(&tape, terms);
  EXPECT_EQ(sum.scalar(), 7.5F);
  tape.backward(sum, 3.0F);
  EXPECT_EQ(gradient_of(terms[0])[0], 3.0F);
  EXPECT_FALSE(terms[1].grad().defined());
  EXPECT_EQ(gradient_of(terms[2])[0], 3.0F);
}

// One MoE layer through the tape, its gradients by every tensor against the oracle with routing held fixed.
class MoeFfnTest : public testing::TestWithParam<const char*> {};

TEST_P(MoeFfnTest, GradientsOfOutputAndLossTogether) {
  oracle::MoeProblem p;
  p.tokens = 9;
  p.width = 6;
  p.experts = 5;
  p.hidden = 4;
  p.shared_hidden = 3;
  p.top_k = 2;
  p.score = GetParam();
  p.normalise = p.score == "sigmoid" ? "sum" : "none";
  p.scale = 1.5;
  p.load_balance = 0.3;
  p.z_loss = 0.1;
  moe::MoeConfig config;
  config.router.experts = p.experts;
  config.router.top_k = p.top_k;
  config.router.score = p.score;
  config.router.normalise = p.normalise;
  config.router.scale = 1.5F;
  config.router.logits_bias = true;
  config.balance.load_balance = 0.3F;
  config.balance.z_loss = 0.1F;
  p.load_balance = static_cast<double>(config.balance.load_balance);
  p.z_loss = static_cast<double>(config.balance.z_loss);
  config.expert.hidden = p.hidden;
  config.expert.bias = true;
  config.shared.hidden = p.shared_hidden;
  config.shared.gated = true;

  struct Part {
    oracle::Values oracle::MoeProblem::*values;
    Shape shape;
    ParameterRole role;
    Parameter parameter;
  };
  std::vector<Part> parts;
  const auto part = [&](oracle::Values oracle::MoeProblem::*values, const Shape& shape, ParameterRole role) {
    const std::vector<float> random = random_values(shape.numel(), static_cast<std::uint32_t>(parts.size()) + 10);
    p.*values = as_double(random);
    parts.push_back({values, shape, role, parameter_of(shape, random, role)});
  };
  using P = oracle::MoeProblem;
  part(&P::router_ED, {5, 6}, ParameterRole::kRouter);
  part(&P::router_bias_E, {5}, ParameterRole::kBias);
  part(&P::gate_EFD, {5, 4, 6}, ParameterRole::kExpert);
  part(&P::up_EFD, {5, 4, 6}, ParameterRole::kExpert);
  part(&P::down_EDF, {5, 6, 4}, ParameterRole::kExpert);
  part(&P::shared_gate_FD, {3, 6}, ParameterRole::kMatrix);
  part(&P::shared_up_FD, {3, 6}, ParameterRole::kMatrix);
  part(&P::shared_down_DF, {6, 3}, ParameterRole::kMatrix);
  part(&P::shared_gate_D, {6}, ParameterRole::kMatrix);
  part(&P::gate_bias_EF, {5, 4}, ParameterRole::kBias);
  part(&P::up_bias_EF, {5, 4}, ParameterRole::kBias);
  part(&P::down_bias_ED, {5, 6}, ParameterRole::kBias);
  MoeParameters parameters;
  parameters.router_ED = &parts[0].parameter;
  parameters.router_bias_E = &parts[1].parameter;
  parameters.gate_EFD = &parts[2].parameter;
  parameters.up_EFD = &parts[3].parameter;
  parameters.down_EDF = &parts[4].parameter;
  parameters.shared = {&parts[5].parameter, &parts[6].parameter, &parts[7].parameter};
  parameters.shared_gate_D = &parts[8].parameter;
  parameters.gate_bias_EF = &parts[9].parameter;
  parameters.up_bias_EF = &parts[10].parameter;
  parameters.down_bias_ED = &parts[11].parameter;

  const std::vector<float> x = random_values(p.tokens * p.width, 1), weights = random_values(p.tokens * p.width, 2);
  p.x_TD = as_double(x);
  Tape tape;
  const Value input(tensor_of({p.tokens, p.width}, x), true);
  moe::MoeCall call;
  call.training = true;
  const MoeResult result = moe_ffn(&tape, input, config, parameters, call);
  const oracle::MoeResult expected = oracle::moe_layer(p);
  EXPECT_TRUE(close(values_of(result.y_TD), expected.y_TD, sum_tolerance(p.width, 6)));
  EXPECT_TRUE(close(values_of(result.loss), Doubles{expected.total}, sum_tolerance(p.width + p.tokens, 4)));

  result.loss.accumulate_grad(tensor_of({1}, {2.0F}));
  backward_from(tape, result.y_TD, weights);
  const auto value_with = [&](oracle::Values oracle::MoeProblem::*values, const Doubles& v) {
    oracle::MoeProblem changed = p;
    changed.*values = v;
    const oracle::MoeResult at = oracle::moe_layer(changed, &expected.choices);
    return dot(weights, at.y_TD) + 2.0 * at.total;
  };
  EXPECT_TRUE(is_gradient(
      gradient_of(input), [&](const Doubles& v) { return value_with(&P::x_TD, v); }, x, 3 * p.width, 8));
  for (std::size_t i = 0; i < parts.size(); ++i) {
    EXPECT_TRUE(is_gradient(
        gradient_of(parts[i].parameter), [&](const Doubles& v) { return value_with(parts[i].values, v); },
        std::as_const(parts[i].parameter.value).f32(), 3 * p.width, 8))
        << "part " << i;
  }
}
INSTANTIATE_TEST_SUITE_P(Scores, MoeFfnTest, testing::Values("softmax", "sigmoid"));

}  // namespace
}  // namespace switchyard::autograd
