#include "switchyard/moe/special_experts.hpp"

#include <gtest/gtest.h>

#include "oracle/finite_difference.hpp"
#include "oracle/router.hpp"
#include "support.hpp"

namespace switchyard::moe {
namespace {

using oracle::random_values;

constexpr Index kWidth = 5, kTokens = 6;

// Two experts with matrices, then one that gives zero, one that copies and two constant ones; every token goes to some.
struct Case {
  RouterConfig router;
  Assignments list;
  DispatchPlan plan;
  std::vector<float> x = random_values(kTokens * kWidth, 1), vectors = random_values(2 * kWidth, 2),
                     gates = random_values(4 * kWidth, 3);

  Case() {
    router.experts = 2;
    router.zero_experts = router.copy_experts = 1;
    router.constant_experts = 2;
    const std::vector<std::vector<std::int32_t>> chosen = {{2, 0}, {3, 4}, {5, 3}, {}, {4, 5}, {1, 5}};
    list.tokens = kTokens;
    list.experts = router.choices();
    list.offset_T1 = {0};
    for (const auto& experts : chosen) {
      list.expert_A.insert(list.expert_A.end(), experts.begin(), experts.end());
      list.offset_T1.push_back(static_cast<std::int32_t>(list.expert_A.size()));
    }
    list.resize(list.size());
    list.weight_A = random_values(list.size(), 4);
    plan = make_dispatch_plan(list);
  }
  RouterWeights weights() const {
    RouterWeights weights;
    weights.parts[RouterPart::kConstants] = matrix_of(vectors, kWidth);
    weights.parts[RouterPart::kConstantGate] = matrix_of(gates, kWidth);
    return weights;
  }
  Index first_slot() const { return plan.offset_E1[static_cast<std::size_t>(router.experts)]; }

  // What slot s must hold, [D], of weights, inputs and parameters in double.
  oracle::Values expected(Index s, const oracle::Values& w, const oracle::Values& at_x,
                          const oracle::Values& at_vectors, const oracle::Values& at_gates) const {
    Index expert = 0;
    while (plan.offset_E1[static_cast<std::size_t>(expert) + 1] <= s) ++expert;
    const double* x_D = at_x.data() + plan.token_of_slot_S[static_cast<std::size_t>(s)] * kWidth;
    oracle::Values y(x_D, x_D + kWidth);
    if (expert == 2) y.assign(kWidth, 0.0);
    if (expert >= 4)
      y = oracle::constant_expert(x_D, at_vectors.data() + (expert - 4) * kWidth,
                                  at_gates.data() + 2 * (expert - 4) * kWidth, kWidth);
    for (double& v : y) v *= w[static_cast<std::size_t>(s)];
    return y;
  }
};

TEST(SpecialExperts, OutputsAgreeWithTheOracle) {
  const Case c;
  std::vector<float> y(static_cast<std::size_t>(c.plan.slots() * kWidth), 77.0F);
  special_experts_forward(c.router, c.weights(), c.plan, matrix_of(c.x, kWidth), matrix_of(y, kWidth));
  for (Index s = 0; s < c.plan.slots(); ++s) {
    const std::vector<float> row(y.begin() + s * kWidth, y.begin() + (s + 1) * kWidth);
    if (s < c.first_slot()) {
      EXPECT_EQ(row, std::vector<float>(kWidth, 77.0F)) << "slot " << s << " is of an expert with matrices";
      continue;
    }
    const oracle::Values expected = c.expected(s, oracle::to_double(c.plan.weight_of_slot_S), oracle::to_double(c.x),
                                               oracle::to_double(c.vectors), oracle::to_double(c.gates));
    EXPECT_TRUE(oracle::close(row, expected, oracle::sum_tolerance(kWidth, 3), 1e-30)) << "slot " << s;
  }
}

TEST(SpecialExperts, GradientsAreThoseOfTheOracle) {
  const Case c;
  const std::vector<float> d_y = random_values(kTokens * kWidth, 8);
  std::vector<float> d_x_SD(static_cast<std::size_t>(c.plan.slots() * kWidth), 0.0F), d_vectors(c.vectors.size(), 1.0F),
      d_gates(c.gates.size(), 1.0F), d_weight(static_cast<std::size_t>(c.plan.slots()), 0.0F);
  RouterGradients gradients;
  gradients.parts[RouterPart::kConstants] = matrix_of(d_vectors, kWidth);
  gradients.parts[RouterPart::kConstantGate] = matrix_of(d_gates, kWidth);
  special_experts_backward(c.router, c.weights(), c.plan, matrix_of(c.x, kWidth), matrix_of(d_y, kWidth),
                           matrix_of(d_x_SD, kWidth), d_weight, gradients);

  const oracle::Values w = oracle::to_double(c.plan.weight_of_slot_S), x = oracle::to_double(c.x),
                       vectors = oracle::to_double(c.vectors), gates = oracle::to_double(c.gates);
  const auto loss = [&](const oracle::Values& at_w, const oracle::Values& at_x, const oracle::Values& at_vectors,
                        const oracle::Values& at_gates) {
    double sum = 0.0;
    for (Index s = c.first_slot(); s < c.plan.slots(); ++s) {
      const oracle::Values y = c.expected(s, at_w, at_x, at_vectors, at_gates);
      for (Index d = 0; d < kWidth; ++d)
        sum += y[static_cast<std::size_t>(d)] *
               static_cast<double>(
                   d_y[static_cast<std::size_t>(c.plan.token_of_slot_S[static_cast<std::size_t>(s)] * kWidth + d)]);
    }
    return sum;
  };
  const auto total = [](const oracle::Values& v) {
    double sum = 0.0;
    for (const double value : v) sum += value;
    return sum;
  };
  EXPECT_TRUE(oracle::is_gradient(
      d_weight, [&](const auto& v) { return loss(v, x, vectors, gates); }, c.plan.weight_of_slot_S, 16, 3));
  EXPECT_TRUE(oracle::is_gradient(
      d_vectors, [&](const auto& v) { return loss(w, x, v, gates) + total(v); }, c.vectors, 16, 3));
  EXPECT_TRUE(oracle::is_gradient(
      d_gates, [&](const auto& v) { return loss(w, x, vectors, v) + total(v); }, c.gates, 16, 3));
  // The rows of a token's slots add up to its gradient.
  std::vector<float> d_x(c.x.size(), 0.0F);
  for (Index s = c.first_slot(); s < c.plan.slots(); ++s)
    for (Index d = 0; d < kWidth; ++d)
      d_x[static_cast<std::size_t>(c.plan.token_of_slot_S[static_cast<std::size_t>(s)] * kWidth + d)] +=
          d_x_SD[static_cast<std::size_t>(s * kWidth + d)];
  EXPECT_TRUE(oracle::is_gradient(
      d_x, [&](const auto& v) { return loss(w, v, vectors, gates); }, c.x, 16, 3));
}

}  // namespace
}  // namespace switchyard::moe
