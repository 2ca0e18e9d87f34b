#include "switchyard/moe/soft.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "layer_fixture.hpp"
#include "oracle/router.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/moe/dense_gradient.hpp"

namespace switchyard::moe {
namespace {

using oracle::random_values;

struct SoftLayer {
  Index experts, slots, tokens, sequence, width = 6, hidden = 5;
  MoeConfig config;
  std::vector<float> x, phi, scale{0.7F};
  Tensor gate, up, down;
  std::unique_ptr<ResidentExpertStore> store;

  SoftLayer(Index expert_count, Index slot_count, Index token_count, Index length)
      : experts(expert_count), slots(slot_count), tokens(token_count), sequence(length) {
    config.router.experts = experts;
    config.router.top_k = 1;
    config.router.select = "soft";
    config.router.slots = slots;
    config.expert.hidden = hidden;
    config.validate("test");
    x = random_values(tokens * width, 1);
    phi = random_values(experts * slots * width, 2);
    gate = tensor({experts, hidden, width}, 3);
    up = tensor({experts, hidden, width}, 4);
    down = tensor({experts, width, hidden}, 5);
    store = std::make_unique<ResidentExpertStore>(gate, up, down);
  }
  static Tensor tensor(const Shape& shape, std::uint32_t seed) {
    Tensor t = Tensor::uninitialized(DType::kF32, shape);
    const std::vector<float> values = random_values(t.numel(), seed, 0.5F);
    std::copy(values.begin(), values.end(), t.f32().begin());
    return t;
  }
  std::vector<float> forward(const std::vector<std::uint8_t>& valid_T = {}) const {
    MoeWeights weights;
    weights.router.router_ED = matrix_of(phi, width);
    weights.router.parts[RouterPart::kSlotScale] = matrix_of(scale, 1);
    weights.experts = store.get();
    MoeCall call;
    call.sequence = sequence;
    call.valid_T = valid_T;
    std::vector<float> y(x.size(), 1e9F);
    moe_forward(config, weights, call, matrix_of(x, width), matrix_of(y, width), nullptr);
    return y;
  }
  oracle::Values expected(const std::vector<std::uint8_t>& valid_T = {}) const {
    const auto all = [](const Tensor& t) { return oracle::to_double(std::as_const(t).f32()); };
    const oracle::Values g = all(gate), u = all(up), d = all(down);
    oracle::Values y;
    const Index length = sequence > 0 ? sequence : tokens;
    for (Index begin = 0; begin < tokens; begin += length) {
      const Index end = std::min(tokens, begin + length);
      const std::vector<float> part(x.begin() + begin * width, x.begin() + end * width);
      const auto valid =
          valid_T.empty() ? valid_T : std::vector<std::uint8_t>(valid_T.begin() + begin, valid_T.begin() + end);
      const oracle::Values of_part =
          oracle::soft_moe(oracle::to_double(part), oracle::to_double(phi), static_cast<double>(scale[0]), width, valid,
                           [&](Index slot, const oracle::Values& mix) {
                             const Index e = slot / slots, size = hidden * width;
                             return oracle::ffn(config.expert.activation, mix.data(), width, hidden,
                                                g.data() + e * size, u.data() + e * size, d.data() + e * size);
                           });
      y.insert(y.end(), of_part.begin(), of_part.end());
    }
    return y;
  }
};

TEST(Soft, AgreesWithTheOracle) {
  for (const Index experts : {1, 3, 8})
    for (const Index slots : {1, 2})
      for (const auto& [tokens, sequence] : {std::pair<Index, Index>{1, 0}, {7, 0}, {12, 4}, {33, 11}, {10, 4}}) {
        SCOPED_TRACE(testing::Message() << "E=" << experts << " slots " << slots << " T=" << tokens << " of "
                                        << sequence);
        const SoftLayer layer(experts, slots, tokens, sequence);
        EXPECT_TRUE(oracle::close(layer.forward(), layer.expected(), oracle::sum_tolerance(33, 5)));
        const std::vector<std::uint8_t> valid_T = some_padding(tokens, 9);
        EXPECT_TRUE(
            oracle::close(layer.forward(valid_T), layer.expected(valid_T), oracle::sum_tolerance(33, 5), 1e-30));
      }
}

TEST(Soft, NoTokensAndOnlyPaddingAreNoHarm) {
  EXPECT_TRUE(SoftLayer(3, 2, 0, 0).forward().empty());
  EXPECT_THAT(SoftLayer(3, 2, 5, 0).forward({0, 0, 0, 0, 0}), testing::Each(0.0F));
}

TEST(Soft, SameBitsAtAnyNumberOfThreads) {
  const SoftLayer layer(8, 2, 64, 16);
  std::vector<float> one, three;
  ThreadArena(1).run([&] { one = layer.forward(); });
  ThreadArena(3).run([&] { three = layer.forward(); });
  EXPECT_TRUE(oracle::same_bits(one, three));
}

TEST(Soft, WhatItCannotDoIsRefused) {
  const auto message = [](const std::function<void(MoeConfig&)>& spoil) {
    MoeConfig config = SoftLayer(3, 2, 1, 0).config;
    spoil(config);
    return error_of(ErrorKind::kBadInput, [&] { config.validate("m"); });
  };
  EXPECT_THAT(message([](MoeConfig& c) { c.balance.load_balance = 0.01F; }),
              testing::StartsWith("m.balance.load_balance: 0.01, expected 0"));
  EXPECT_THAT(message([](MoeConfig& c) { c.capacity.factor = 1.0F; }),
              testing::StartsWith("m.capacity.factor: 1, expected 0"));
  EXPECT_THAT(message([](MoeConfig& c) { c.router.slots = 0; }), testing::StartsWith("m.router.slots: 0, expected 1"));
}

// Against <dy, E_e(x)> of the scalar oracle, for chosen experts and others.
TEST(DenseGradient, IsTheProductWithEveryExpertsOutput) {
  const SoftLayer layer(4, 1, 9, 0);
  const std::vector<float> d_y = random_values(layer.tokens * layer.width, 7);
  const std::vector<std::uint8_t> valid_T = some_padding(layer.tokens, 3);
  MoeConfig config = layer.config;
  config.router.scale = 2.5F;
  std::vector<float> found(static_cast<std::size_t>(layer.tokens * layer.experts), 7.0F);
  const ExpertLease lease = layer.store->acquire(std::vector<std::int32_t>(4, 1));
  dense_score_gradient(config, lease.weights_E, matrix_of(layer.x, layer.width), matrix_of(d_y, layer.width), valid_T,
                       matrix_of(found, layer.experts));
  const auto all = [](const Tensor& t) { return oracle::to_double(t.f32()); };
  const oracle::Values g = all(layer.gate), u = all(layer.up), d = all(layer.down), x = oracle::to_double(layer.x);
  oracle::Values expected;
  for (Index t = 0; t < layer.tokens; ++t)
    for (Index e = 0; e < layer.experts; ++e) {
      const Index size = layer.hidden * layer.width;
      const oracle::Values y = oracle::ffn(config.expert.activation, x.data() + t * layer.width, layer.width,
                                           layer.hidden, g.data() + e * size, u.data() + e * size, d.data() + e * size);
      double sum = 0.0;
      for (Index i = 0; i < layer.width; ++i)
        sum += y[static_cast<std::size_t>(i)] * static_cast<double>(d_y[static_cast<std::size_t>(t * layer.width + i)]);
      expected.push_back(valid_T[static_cast<std::size_t>(t)] != 0 ? 2.5 * sum : 0.0);
    }
  EXPECT_TRUE(oracle::close(found, expected, oracle::sum_tolerance(layer.width, 3)));
}

}  // namespace
}  // namespace switchyard::moe
