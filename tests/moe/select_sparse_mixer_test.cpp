#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "oracle/finite_difference.hpp"
#include "oracle/routing.hpp"
#include "selection_case.hpp"

namespace switchyard::moe {
namespace {

struct Draws {
  oracle::Values gumbel_KE, uniform_K;
};
Draws draws_of(const SelectionCase& c, Index t) {
  Draws draws;
  if (!c.training) return draws;
  const Index experts = c.router.experts;
  for (Index i = 0; i < c.router.top_k; ++i) {
    const Index first = (t * experts + i) * (experts + 1);
    for (Index e = 0; e < experts; ++e) {
      const double u = static_cast<double>(c.random().uniform(static_cast<std::uint64_t>(first + e)));
      draws.gumbel_KE.push_back(-std::log(-std::log(u + 0x1.0p-25)));
    }
    draws.uniform_K.push_back(static_cast<double>(c.random().uniform(static_cast<std::uint64_t>(first + experts))));
  }
  return draws;
}

TEST(SelectSparseMixer, AgreesWithTheOracle) {
  for (const Index experts : {1, 2, 5, 16})
    for (Index k = 1; k <= std::min<Index>(experts, 3); ++k)
      for (const float jitter : {0.01F, 0.3F, 2.0F})
        for (const bool training : {false, true}) {
          SCOPED_TRACE(testing::Message() << "E=" << experts << " K=" << k << " jitter " << jitter << " " << training);
          RouterConfig router = router_for("sparse-mixer", experts, k);
          router.threshold = jitter;
          SelectionCase c = random_case(router, 60, 5, true);
          c.training = training;
          const Assignments list = c.run();
          Index thirds = 0;
          for (Index t = 0; t < c.tokens; ++t) {
            if (!c.valid(t)) continue;
            const Draws draws = draws_of(c, t);
            const auto expected = oracle::sparse_mixer(c.row(c.logits_TR, t), k, static_cast<double>(jitter),
                                                       draws.gumbel_KE, draws.uniform_K);
            for (Index i = 0; i < k; ++i) {
              const auto a = static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t)] + i);
              const oracle::MixedExpert& one = expected[static_cast<std::size_t>(i)];
              ASSERT_EQ(list.expert_A[a], one.expert) << "token " << t;
              EXPECT_NEAR(static_cast<double>(list.score_A[a]), one.share * one.factor,
                          oracle::sum_tolerance(experts, 2));
              thirds += one.factor < 1.0 ? 1 : 0;
            }
          }
          EXPECT_TRUE(!training || experts < 16 || jitter < 1.0F || thirds > 5) << thirds;
        }
}

TEST(SelectSparseMixer, TheGradientIsThatOfTheShares) {
  for (const bool training : {false, true}) {
    RouterConfig router = router_for("sparse-mixer", 7, 2);
    router.threshold = 0.5F;
    SelectionCase c = random_case(router, 12, 6, true);
    c.training = training;
    const Assignments list = c.run();
    const std::vector<float> d_score_A = oracle::random_values(list.size(), 7);
    std::vector<float> d_logits_TE(c.logits_TR.size(), 1.0F);
    find_selection_rule("sparse-mixer").backward(router, c.input(), list, d_score_A, matrix_of(d_logits_TE, 7));
    const auto f = [&](const std::vector<double>& x) {
      double sum = std::accumulate(x.begin(), x.end(), 0.0);
      for (Index t = 0; t < c.tokens; ++t) {
        if (!c.valid(t)) continue;
        const oracle::Values logit_E(x.begin() + 7 * t, x.begin() + 7 * (t + 1));
        const auto mixed = oracle::sparse_mixer(logit_E, 2, 0.5, {}, {}, experts_of(list, t));
        const auto first = static_cast<std::size_t>(list.offset_T1[static_cast<std::size_t>(t)]);
        for (std::size_t i = 0; i < 2; ++i) sum += static_cast<double>(d_score_A[first + i]) * mixed[i].share;
      }
      return sum;
    };
    EXPECT_TRUE(oracle::is_gradient(d_logits_TE, f, c.logits_TR, 7, 2)) << training;
  }
}

}  // namespace
}  // namespace switchyard::moe
