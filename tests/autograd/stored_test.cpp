// Ops whose parameters are stored in the type of their file give the bits of the same numbers in float32.

#include <gmock/gmock.h>

#include "graph.hpp"
#include "support/error_of.hpp"
#include "switchyard/tensor/half.hpp"

namespace switchyard::autograd {
namespace {

using testing::HasSubstr;

// A parameter stored as BF16, and the same numbers in float32.
struct Pair {
  Parameter stored, plain;
};

Pair make_pair(const Shape& shape, std::uint32_t seed, ParameterRole role = ParameterRole::kMatrix) {
  auto bits = std::make_shared<Tensor>(Tensor::uninitialized(DType::kBF16, shape));
  std::vector<float> rounded;
  for (const float value : oracle::random_values(shape.numel(), seed, 0.3F)) {
    bits->mutable_values<BFloat16>()[rounded.size()] = to_bfloat16(value);
    rounded.push_back(to_float(to_bfloat16(value)));
  }
  Pair pair;
  pair.plain = parameter_of(shape, rounded, role);
  pair.stored.name = "stored";
  pair.stored.role = role;
  pair.stored.stored.shape = shape;
  const Index matrices = shape.rank() == 3 ? shape[0] : 1;
  const Index cols = shape[shape.rank() - 1], rows = shape.numel() / matrices / cols;
  for (Index m = 0; m < matrices; ++m) {
    WeightView view;
    view.data = bits->bytes().data() + m * rows * cols * 2;
    view.dtype = DType::kBF16;
    view.rows = rows;
    view.cols = view.row_stride = cols;
    pair.stored.stored.views.push_back(view);
  }
  pair.stored.stored.keep_alive = bits;
  return pair;
}

Value input(Index rows, Index cols, bool needs_grad = false) {
  return Value(tensor_of({rows, cols}, oracle::random_values(rows * cols, 99)), needs_grad);
}

TEST(StoredParameterTest, ShapesAndMatrices) {
  const Pair pair = make_pair({3, 5, 7}, 1, ParameterRole::kExpert);
  EXPECT_TRUE(pair.stored.is_stored());
  EXPECT_FALSE(pair.plain.is_stored());
  EXPECT_EQ(pair.stored.shape(), pair.plain.shape());
  EXPECT_EQ(pair.stored.numel(), 105);
  for (const Parameter* parameter : {&pair.stored, &pair.plain}) {
    const WeightView one = parameter->weight(2);
    EXPECT_EQ(one.rows, 5);
    EXPECT_EQ(one.cols, 7);
  }
  EXPECT_THAT(error_of(ErrorKind::kInternal, [&] { pair.stored.weight(3); }), HasSubstr("stored"));
  EXPECT_THAT(error_of(ErrorKind::kInternal, [&] { pair.stored.weight(); }), HasSubstr("stored"));
}

TEST(StoredParameterTest, Linear) {
  for (const Index tokens : {1, 2, 19}) {
    Pair pair = make_pair({13, 21}, 2);
    const Value x = input(tokens, 21);
    EXPECT_TRUE(
        oracle::same_bits(values_of(linear(nullptr, x, pair.stored)), values_of(linear(nullptr, x, pair.plain))));
  }
}

TEST(StoredParameterTest, Embedding) {
  Pair pair = make_pair({13, 21}, 3, ParameterRole::kEmbedding);
  const std::vector<std::int32_t> ids = {12, 0, 7, 7};
  EXPECT_TRUE(oracle::same_bits(values_of(embedding(nullptr, pair.stored, ids)),
                                values_of(embedding(nullptr, pair.plain, ids))));
}

TEST(StoredParameterTest, CrossEntropy) {
  Pair pair = make_pair({13, 21}, 4, ParameterRole::kOutput);
  const Value x = input(4, 21);
  const std::vector<std::int32_t> targets = {12, 0, 7, 7};
  EXPECT_EQ(cross_entropy(nullptr, x, pair.stored, nullptr, targets).scalar(),
            cross_entropy(nullptr, x, pair.plain, nullptr, targets).scalar());
}

TEST(StoredParameterTest, Ffn) {
  Pair gate = make_pair({11, 21}, 5), up = make_pair({11, 21}, 6), down = make_pair({21, 11}, 7);
  for (const Index tokens : {1, 19}) {
    const Value x = input(tokens, 21);
    const auto y = [&](Parameter Pair::*form) {
      const FfnParameters parameters{.gate_FD = &(gate.*form), .up_FD = &(up.*form), .down_DF = &(down.*form)};
      return ffn(nullptr, x, kernels::Activation::kSwiGLU, parameters);
    };
    EXPECT_TRUE(oracle::same_bits(values_of(y(&Pair::stored)), values_of(y(&Pair::plain))));
  }
}

TEST(StoredParameterTest, MoeWithBiasesAndASharedExpert) {
  constexpr Index kExperts = 4, kHidden = 11, kWidth = 21;
  Pair gate = make_pair({kExperts, kHidden, kWidth}, 8), up = make_pair({kExperts, kHidden, kWidth}, 9),
       down = make_pair({kExperts, kWidth, kHidden}, 10), shared_up = make_pair({5, kWidth}, 11),
       shared_gate = make_pair({5, kWidth}, 12), shared_down = make_pair({kWidth, 5}, 13);
  const auto small = [](const Shape& shape, std::uint32_t seed) {
    return parameter_of(shape, oracle::random_values(shape.numel(), seed));
  };
  Parameter router = small({kExperts, kWidth}, 14), gate_bias = small({kExperts, kHidden}, 15),
            up_bias = small({kExperts, kHidden}, 16), down_bias = small({kExperts, kWidth}, 17);
  moe::MoeConfig config;
  config.router.experts = kExperts;
  config.router.top_k = 2;
  config.expert.hidden = kHidden;
  config.expert.bias = true;
  config.shared.hidden = 5;
  const Value x = input(9, kWidth);
  const auto y = [&](Parameter Pair::*form) {
    MoeParameters p;
    p.router_ED = &router;
    p.gate_EFD = &(gate.*form);
    p.up_EFD = &(up.*form);
    p.down_EDF = &(down.*form);
    p.gate_bias_EF = &gate_bias;
    p.up_bias_EF = &up_bias;
    p.down_bias_ED = &down_bias;
    p.shared = {&(shared_gate.*form), &(shared_up.*form), &(shared_down.*form)};
    return moe_ffn(nullptr, x, config, p, {}).y_TD;
  };
  EXPECT_TRUE(oracle::same_bits(values_of(y(&Pair::stored)), values_of(y(&Pair::plain))));
}

TEST(StoredParameterTest, AGradientOfStoredWeightsIsRefused) {
  Pair pair = make_pair({13, 21}, 2);
  Tape tape;
  const Value x = input(3, 21, true);
  const Value y = linear(&tape, x, pair.stored);
  EXPECT_THAT(error_of(ErrorKind::kInternal, [&] { backward_from(tape, y, std::vector<float>(39, 1.0F)); }),
              HasSubstr("stored"));
}

}  // namespace
}  // namespace switchyard::autograd
