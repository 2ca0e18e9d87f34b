#include "switchyard/autograd/tape.hpp"

#include <gmock/gmock.h>

#include <stdexcept>

#include "autograd/graph.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::autograd {
namespace {

using oracle::random_values;
using oracle::same_bits;

TEST(Tape, WithoutATapeNothingIsRecordedAndNothingWantsAGradient) {
  Parameter weight = parameter_of({3, 4}, random_values(12, 1)), norm = parameter_of({3}, random_values(3, 2));
  const Value x(tensor_of({2, 4}, random_values(8, 3)));
  const Value y = rms_norm(nullptr, linear(nullptr, x, weight), norm, 1e-5F);
  EXPECT_FALSE(y.needs_grad());
  EXPECT_FALSE(weight.grad.defined());
}

TEST(Tape, InPlaceOpsGiveTheSameBits) {
  Parameter norm = parameter_of({4}, random_values(4, 2));
  const std::vector<std::int32_t> positions{3, 4};
  const std::vector<float> x = random_values(8, 3);
  const auto run = [&](bool keep) {
    Value v(tensor_of({2, 4}, x));
    const Value kept = keep ? v : Value();
    v = rms_norm(nullptr, std::move(v), norm, 1e-5F);
    const Value kept_norm = keep ? v : Value();
    v = rope(nullptr, std::move(v), 4, 0, positions, kernels::rope_table(4, 10.0, {}),
             kernels::RopePairing::kHalfSplit);
    const Value kept_rope = keep ? v : Value();
    v = layer_norm(nullptr, std::move(v), norm, &norm, 1e-5F);
    const Value kept_layer_norm = keep ? v : Value();
    v = scale(nullptr, std::move(v), 1.5F);
    const Value kept_scaled = keep ? v : Value();
    v = clamp(nullptr, std::move(v), 1.0F);
    const Value kept_clamped = keep ? v : Value();
    v = dropout(nullptr, std::move(v), 0.5F, RandomStream(1, RandomPurpose::kDropout));
    if (keep) {
      EXPECT_TRUE(same_bits(values_of(kept), x));
    }
    return std::vector<float>(values_of(v).begin(), values_of(v).end());
  };
  EXPECT_TRUE(same_bits(run(true), run(false)));
}

TEST(Tape, AnActivationGoesAsSoonAsNothingNeedsIt) {
  Parameter weight = parameter_of({4, 4}, random_values(16, 1));
  Tape tape;
  Value x(tensor_of({2, 4}, random_values(8, 2)), true);
  const std::weak_ptr<Tensor> input = x.shared();
  Value y = linear(&tape, x, weight);
  x = Value();
  const std::weak_ptr<Tensor> middle = y.shared();
  Value z = dropout(&tape, y, 0.5F, RandomStream(1, RandomPurpose::kDropout));
  y = Value();
  EXPECT_TRUE(middle.expired()) << "neither linear nor dropout needs it for its gradient";
  EXPECT_FALSE(input.expired()) << "the gradient of the weight needs it";
  backward_from(tape, z, random_values(8, 3));
  EXPECT_TRUE(input.expired());
  EXPECT_TRUE(tape.empty());
}

TEST(Tape, IsEmptyAfterAStepHasThrown) {
  Tape tape;
  tape.record([] { FAIL() << "a step before the one that threw"; });
  tape.record([] { throw std::runtime_error("broken"); });
  EXPECT_THROW(tape.backward(), std::runtime_error);
  EXPECT_TRUE(tape.empty());
}

TEST(Tape, StepsMayOwnMoveOnlyThings) {
  Tape tape;
  int seen = 0;
  tape.record([owned = std::make_unique<int>(7), &seen] { seen = *owned; });
  tape.backward();
  EXPECT_EQ(seen, 7);
}

TEST(Gradient, ASharedTensorIsCopiedBeforeItIsWrittenTo) {
  const Gradient a = Gradient::make_wanted(), b = Gradient::make_wanted();
  const auto both = std::make_shared<Tensor>(tensor_of({2}, {1.0F, 2.0F}));
  a.accumulate(both);
  b.accumulate(both);
  EXPECT_EQ(a.writable(), nullptr);
  a.accumulate(tensor_of({2}, {10.0F, 10.0F}));
  b.accumulate(both);
  EXPECT_THAT(a.tensor().f32(), testing::ElementsAre(11.0F, 12.0F));
  EXPECT_THAT(b.tensor().f32(), testing::ElementsAre(2.0F, 4.0F));
  EXPECT_THAT(std::as_const(*both).f32(), testing::ElementsAre(1.0F, 2.0F));
}

TEST(Gradient, OneThatNobodyWantsIsThrownAway) {
  const Gradient unwanted;
  unwanted.accumulate(tensor_of({1}, {1.0F}));
  EXPECT_FALSE(unwanted.arrived());
  EXPECT_FALSE(unwanted.tensor().defined());
  EXPECT_EQ(unwanted.take(), nullptr);
}

// Two outputs of a small network, with dropout, so that a second run that drew other numbers would show.
struct Network {
  Parameter weight = parameter_of({6, 6}, random_values(36, 1)), norm = parameter_of({6}, random_values(6, 2));
  int calls = 0, repeated = 0;

  std::vector<Value> run(Tape* tape, const Value& x, bool recomputing) {
    ++calls;
    repeated += recomputing ? 1 : 0;
    Value h = linear(tape, rms_norm(tape, x, norm, 1e-5F), weight);
    h = dropout(tape, std::move(h), 0.3F, RandomStream(4, RandomPurpose::kDropout, 2, 3));
    const std::vector<std::int32_t> targets{0, 3, 5, 1};
    const Value loss = cross_entropy(tape, h, weight, nullptr, targets);
    return {add(tape, x, std::move(h)), loss};
  }
};

TEST(Recompute, SameBitsAsWithout) {
  const std::vector<float> x = random_values(24, 5), weights = random_values(24, 6);
  const auto run = [&](bool recomputed, bool first, bool second) {
    Network network;
    Tape tape;
    const Value input(tensor_of({4, 6}, x), true);
    std::vector<Value> outputs;
    if (recomputed) {
      outputs = recompute(&tape, input,
                          [&](Tape* t, const Value& v, bool recomputing) { return network.run(t, v, recomputing); });
    } else {
      outputs = network.run(&tape, input, false);
    }
    if (first) outputs[0].accumulate_grad(tensor_of({4, 6}, weights));
    if (second) outputs[1].accumulate_grad(tensor_of({1}, {0.7F}));
    const std::vector<float> forward(values_of(outputs[0]).begin(), values_of(outputs[0]).end());
    tape.backward();
    EXPECT_EQ(network.calls, recomputed ? 2 : 1);
    EXPECT_EQ(network.repeated, recomputed ? 1 : 0);
    std::vector<std::vector<float>> all{forward};
    for (const std::span<const float> g : {gradient_of(input), gradient_of(network.weight), gradient_of(network.norm)})
      all.emplace_back(g.begin(), g.end());
    return all;
  };
  for (const auto& [first, second] : {std::pair{true, true}, {true, false}, {false, true}}) {
    const auto with = run(true, first, second), without = run(false, first, second);
    for (std::size_t i = 0; i < with.size(); ++i) EXPECT_TRUE(same_bits(with[i], without[i])) << "array " << i;
  }
}

TEST(Recompute, KeepsOnlyItsInput) {
  Parameter weight = parameter_of({4, 4}, random_values(16, 1));
  std::weak_ptr<Tensor> inner;
  Tape tape;
  const Value x(tensor_of({2, 4}, random_values(8, 2)), true);
  const std::vector<Value> y = recompute(&tape, x, [&](Tape* t, const Value& v, bool) -> std::vector<Value> {
    const Value middle = linear(t, v, weight);
    inner = middle.shared();
    return {linear(t, middle, weight)};
  });
  EXPECT_TRUE(inner.expired());
  backward_from(tape, y[0], random_values(8, 3));
  EXPECT_TRUE(inner.expired());
}

TEST(Recompute, WithoutATapeRunsOnce) {
  int calls = 0;
  const Value x(tensor_of({1}, {2.0F}));
  const std::vector<Value> y = recompute(nullptr, x, [&](Tape* tape, const Value& v, bool recomputing) {
    ++calls;
    EXPECT_EQ(tape, nullptr);
    EXPECT_FALSE(recomputing);
    return std::vector<Value>{add(tape, v, v)};
  });
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(y[0].scalar(), 4.0F);
  EXPECT_FALSE(y[0].needs_grad());
}

}  // namespace
}  // namespace switchyard::autograd
