// The gradients of attention and of what prepares its inputs, against central differences of their definitions.

#include <gmock/gmock.h>

#include "autograd/graph.hpp"
#include "oracle/attention.hpp"
#include "oracle/rope.hpp"

namespace switchyard::autograd {
namespace {

using oracle::close;
using oracle::dot;
using oracle::is_gradient;
using oracle::random_values;
using oracle::sum_tolerance;
using Doubles = std::vector<double>;

TEST(Rope, GradientRotatesBackAndStretches) {
  const std::vector<std::int32_t> positions{0, 1, 2, 1000, 3};
  for (const auto pairing : {kernels::RopePairing::kHalfSplit, kernels::RopePairing::kInterleaved}) {
    const std::vector<float> x = random_values(5 * 18, 1), weights = random_values(5 * 18, 2);
    kernels::RopeTable table = kernels::rope_table(6, 100.0, {});
    table.magnitude = 1.25F;
    Tape tape;
    const Value input(tensor_of({5, 18}, x), true);
    const Value y = rope(&tape, input, 9, 2, positions, table, pairing);
    EXPECT_TRUE(oracle::same_bits(values_of(input), x)) << "an input that is still held was overwritten";
    const kernels::RopeTable used = table;
    table.frequencies.clear();  // the step has its own
    const auto oracle_at = [&](const Doubles& v) { return oracle::rope(v, 9, 2, positions, used, pairing); };
    EXPECT_TRUE(close(values_of(y), oracle_at(as_double(x)), sum_tolerance(2)));
    backward_from(tape, y, weights);
    EXPECT_TRUE(is_gradient(
        gradient_of(input), [&](const Doubles& v) { return dot(weights, oracle_at(v)); }, x, 2));
  }
}

class AttentionTest : public testing::TestWithParam<bool> {};

TEST_P(AttentionTest, GradientsOfGroupedHeads) {
  const bool with_sink = GetParam();
  kernels::AttentionShape shape;
  shape.batch = 2;
  shape.queries = shape.keys = 5;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = 6;
  shape.value_dim = with_sink ? 3 : 0;
  shape.window = with_sink ? 3 : 0;
  shape.softcap = with_sink ? 2.0F : 0.0F;
  shape.scale = 0.4F;
  const Index value_dim = with_sink ? 3 : 6;
  const std::vector<float> q = random_values(10 * 24, 1), k = random_values(10 * 12, 2),
                           v = random_values(10 * 2 * value_dim, 3), weights = random_values(10 * 4 * value_dim, 4),
                           sink = random_values(with_sink ? 4 : 0, 5);
  Parameter sink_parameter = parameter_of({4}, random_values(4, 5), ParameterRole::kBias);
  Tape tape;
  const Value q_value(tensor_of({10, 24}, q), true), k_value(tensor_of({10, 12}, k), true),
      v_value(tensor_of({10, 2 * value_dim}, v), true);
  const Value y = attention(&tape, shape, q_value, k_value, v_value, with_sink ? &sink_parameter : nullptr);
  const Doubles qd = as_double(q), kd = as_double(k), vd = as_double(v), sd = as_double(sink);
  EXPECT_TRUE(close(values_of(y), oracle::attention(shape, qd, kd, vd, sd).out, sum_tolerance(6 + 5, 2)));
  backward_from(tape, y, weights);
  const auto value = [&](const Doubles& a, const Doubles& b, const Doubles& c, const Doubles& d) {
    return dot(weights, oracle::attention(shape, a, b, c, d).out);
  };
  EXPECT_TRUE(is_gradient(
      gradient_of(q_value), [&](const Doubles& x) { return value(x, kd, vd, sd); }, q, 6 + 5, 4));
  EXPECT_TRUE(is_gradient(
      gradient_of(k_value), [&](const Doubles& x) { return value(qd, x, vd, sd); }, k, 6 + 10, 4));
  EXPECT_TRUE(is_gradient(
      gradient_of(v_value), [&](const Doubles& x) { return value(qd, kd, x, sd); }, v, 6 + 10, 3));
  EXPECT_EQ(sink_parameter.grad.defined(), with_sink);
  if (with_sink) {
    EXPECT_TRUE(is_gradient(
        gradient_of(sink_parameter), [&](const Doubles& x) { return value(qd, kd, vd, x); }, sink, 6 + 10, 4));
  }
}
INSTANTIATE_TEST_SUITE_P(PlainAndAllAtOnce, AttentionTest, testing::Bool());

TEST(SplitColumns, CopiesBothPartsAndJoinsTheirGradients) {
  const std::vector<float> x = random_values(3 * 7, 1), left_weights = random_values(3 * 2, 2),
                           right_weights = random_values(3 * 5, 3);
  for (const int used : {1, 2, 3}) {  // bit 0: the left part has a gradient, bit 1: the right one
    Tape tape;
    const Value input(tensor_of({3, 7}, x), true);
    const auto [left, right] = split_columns(&tape, input, 2);
    if ((used & 1) != 0) left.accumulate_grad(tensor_of({3, 2}, left_weights));
    if ((used & 2) != 0) right.accumulate_grad(tensor_of({3, 5}, right_weights));
    tape.backward();
    for (std::size_t t = 0; t < 3; ++t)
      for (std::size_t c = 0; c < 7; ++c) {
        const bool is_left = c < 2;
        EXPECT_EQ(is_left ? values_of(left)[t * 2 + c] : values_of(right)[t * 5 + c - 2], x[t * 7 + c]);
        const float weight = is_left ? left_weights[t * 2 + c] : right_weights[t * 5 + c - 2];
        EXPECT_EQ(gradient_of(input)[t * 7 + c], (used & (is_left ? 1 : 2)) != 0 ? weight : 0.0F);
      }
  }
  EXPECT_FALSE(split_columns(nullptr, Value(tensor_of({3, 7}, x)), 2).first.needs_grad());
}

TEST(LatentKeysValues, EveryHeadSharesTheRotatedPart) {
  const Index tokens = 3, heads = 4, key_dim = 2, value_dim = 5, turned = 3;
  const std::vector<float> kv = random_values(tokens * heads * (key_dim + value_dim), 1),
                           rotated = random_values(tokens * turned, 2),
                           key_weights = random_values(tokens * heads * (key_dim + turned), 3),
                           value_weights = random_values(tokens * heads * value_dim, 4);
  const auto loss = [&](const Doubles& kv_at, const Doubles& rotated_at, bool with_keys, bool with_values) {
    double sum = 0.0;
    for (std::size_t t = 0; t < 3; ++t)
      for (std::size_t h = 0; h < 4; ++h) {
        const std::size_t head = t * 4 + h;
        for (std::size_t c = 0; with_keys && c < 5; ++c)
          sum += static_cast<double>(key_weights[head * 5 + c]) *
                 (c < 2 ? kv_at[head * 7 + c] : rotated_at[t * 3 + c - 2]);
        for (std::size_t c = 0; with_values && c < 5; ++c)
          sum += static_cast<double>(value_weights[head * 5 + c]) * kv_at[head * 7 + 2 + c];
      }
    return sum;
  };
  const Doubles kv_double = as_double(kv), rotated_double = as_double(rotated);
  for (const int used : {1, 2, 3}) {
    Tape tape;
    const Value kv_value(tensor_of({tokens, heads * (key_dim + value_dim)}, kv), true),
        rope_value(tensor_of({tokens, turned}, rotated), true);
    const auto [keys, values] = latent_keys_values(&tape, kv_value, rope_value, heads, key_dim, value_dim);
    const bool with_keys = (used & 1) != 0, with_values = (used & 2) != 0;
    if (with_keys) keys.accumulate_grad(tensor_of(keys.tensor().shape(), key_weights));
    if (with_values) values.accumulate_grad(tensor_of(values.tensor().shape(), value_weights));
    EXPECT_NEAR(dot(values_of(keys), key_weights) + dot(values_of(values), value_weights),
                loss(kv_double, rotated_double, true, true), 1e-12);
    tape.backward();
    EXPECT_TRUE(is_gradient(
        gradient_of(kv_value), [&](const Doubles& v) { return loss(v, rotated_double, with_keys, with_values); }, kv,
        1));
    EXPECT_TRUE(is_gradient(
        gradient_of(rope_value), [&](const Doubles& v) { return loss(kv_double, v, with_keys, with_values); }, rotated,
        heads));
  }
}

}  // namespace
}  // namespace switchyard::autograd
