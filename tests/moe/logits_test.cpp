#include "switchyard/moe/logits.hpp"

#include <gtest/gtest.h>

#include "oracle/finite_difference.hpp"
#include "oracle/router.hpp"
#include "support.hpp"

namespace switchyard::moe {
namespace {

using oracle::random_values;

// A router of one kind with all of its weights, as floats and as the oracle's problem.
struct Case {
  RouterConfig router;
  Index tokens, width;
  std::vector<float> x, w, bias, previous, residual, projection, temperature{0.25F};

  Case(const std::string& kind, Index t, Index d, Index experts, bool everything) : tokens(t), width(d) {
    router.logits = kind;
    router.experts = experts;
    router.cosine_width = 5;
    const Index columns = router_width(router, width);
    x = random_values(tokens * width, 1);
    w = random_values(experts * columns, 2);
    if (kind == "cosine") projection = random_values(router.cosine_width * width, 3);
    if (!everything) return;
    router.logits_bias = router.residual = true;
    router.temperature = 1.5F;
    bias = random_values(experts, 4);
    previous = random_values(tokens * experts, 5);
    residual = random_values(experts * experts, 6);
  }
  RouterWeights weights() const {
    RouterWeights weights{matrix_of(w, router_width(router, width)), bias, {}};
    if (!projection.empty()) {
      weights.parts[RouterPart::kProjection] = matrix_of(projection, width);
      weights.parts[RouterPart::kTemperature] = matrix_of(temperature, 1);
    }
    if (!residual.empty()) weights.parts[RouterPart::kResidual] = matrix_of(residual, router.experts);
    return weights;
  }
  ConstMatrix previous_TR() const { return previous.empty() ? ConstMatrix() : matrix_of(previous, router.experts); }
  std::vector<float> logits() const {
    std::vector<float> out(static_cast<std::size_t>(tokens * router.experts));
    router_logits(router, weights(), matrix_of(x, width), previous_TR(), matrix_of(out, router.experts));
    return out;
  }
  oracle::RouterProblem problem() const {
    oracle::RouterProblem p;
    p.tokens = tokens;
    p.width = width;
    p.experts = router.experts;
    p.cosine_width = projection.empty() ? 0 : router.cosine_width;
    p.temperature = static_cast<double>(router.temperature);
    p.x_TD = oracle::to_double(x);
    p.router_ED = oracle::to_double(w);
    p.bias_E = oracle::to_double(bias);
    p.previous_TE = oracle::to_double(previous);
    p.residual_EE = oracle::to_double(residual);
    p.projection_PD = oracle::to_double(projection);
    p.log_scale = static_cast<double>(temperature[0]);
    return p;
  }
};

TEST(Logits, AgreeWithTheOracle) {
  for (const char* kind : {"linear", "cosine"})
    for (const Index experts : {1, 3, 17})
      for (const Index tokens : {0, 1, 9})
        for (const bool everything : {false, true}) {
          SCOPED_TRACE(testing::Message() << kind << " E=" << experts << " T=" << tokens << " all " << everything);
          const Case c(kind, tokens, 11, experts, everything);
          EXPECT_TRUE(oracle::close(c.logits(), oracle::router_logits(c.problem()), oracle::sum_tolerance(17, 4)));
        }
}

// Every weight and input, one after another, by finite differences.
TEST(Logits, GradientsAddToWhatIsThere) {
  for (const char* kind : {"linear", "cosine"})
    for (const bool everything : {false, true}) {
      SCOPED_TRACE(testing::Message() << kind << " all " << everything);
      const Case c(kind, 4, 7, 3, everything);
      const std::vector<float> d_logits = random_values(c.tokens * c.router.experts, 9);
      std::vector<float> d_x(c.x.size(), 1.0F), d_w(c.w.size(), 1.0F), d_bias(c.bias.size(), 1.0F),
          d_previous(c.previous.size(), 1.0F), d_residual(c.residual.size(), 1.0F),
          d_projection(c.projection.size(), 1.0F), d_temperature(1, 1.0F);
      RouterGradients g{matrix_of(d_w, router_width(c.router, c.width)), d_bias, {}};
      if (!c.projection.empty()) {
        g.parts[RouterPart::kProjection] = matrix_of(d_projection, c.width);
        g.parts[RouterPart::kTemperature] = matrix_of(d_temperature, 1);
      }
      if (!c.residual.empty()) g.parts[RouterPart::kResidual] = matrix_of(d_residual, c.router.experts);
      router_logits_backward(c.router, c.weights(), matrix_of(c.x, c.width), c.previous_TR(),
                             matrix_of(d_logits, c.router.experts), matrix_of(d_x, c.width),
                             c.previous.empty() ? Matrix() : matrix_of(d_previous, c.router.experts), g);

      const auto check = [&](const char* name, const std::vector<float>& found, const std::vector<float>& at,
                             oracle::Values oracle::RouterProblem::*member) {
        const auto f = [&](const std::vector<double>& value) {
          oracle::RouterProblem p = c.problem();
          p.*member = value;
          double sum = oracle::dot(d_logits, oracle::router_logits(p));
          for (const double v : value) sum += v;
          return sum;
        };
        EXPECT_TRUE(oracle::is_gradient(found, f, at, 16, 4)) << name;
      };
      check("x", d_x, c.x, &oracle::RouterProblem::x_TD);
      check("router", d_w, c.w, &oracle::RouterProblem::router_ED);
      check("bias", d_bias, c.bias, &oracle::RouterProblem::bias_E);
      check("previous", d_previous, c.previous, &oracle::RouterProblem::previous_TE);
      check("residual", d_residual, c.residual, &oracle::RouterProblem::residual_EE);
      check("projection", d_projection, c.projection, &oracle::RouterProblem::projection_PD);
      if (c.projection.empty()) continue;
      const auto f = [&](const std::vector<double>& value) {
        oracle::RouterProblem p = c.problem();
        p.log_scale = value[0];
        return oracle::dot(d_logits, oracle::router_logits(p)) + value[0];
      };
      EXPECT_TRUE(oracle::is_gradient(d_temperature, f, c.temperature, 16, 4));
    }
}

TEST(Logits, CosineIsBoundedByItsScale) {
  Case c("cosine", 9, 11, 5, false);
  c.temperature[0] = 50.0F;  // exp(50) is far above the bound
  for (const float logit : c.logits()) EXPECT_LE(std::abs(logit), 100.0F * (1.0F + 1e-5F));
}

// 1 + 2^-12 squared needs more bits than bfloat16 and float32 sums have.
TEST(Logits, PrecisionDecidesWhatIsRounded) {
  Case c("linear", 1, 1, 1, false);
  c.x = {1.0F + 0x1.0p-12F};
  c.w = {1.0F + 0x1.0p-12F};
  const double exact = static_cast<double>(c.x[0]) * static_cast<double>(c.w[0]);
  c.router.precision = "bfloat16";
  EXPECT_EQ(c.logits()[0], 1.0F);
  c.router.precision = "float64";
  EXPECT_EQ(c.logits()[0], static_cast<float>(exact));
  // A sum whose small terms vanish one by one in float32.
  Case sum("linear", 1, 4097, 1, false);
  sum.x.assign(4097, 0x1.0p-25F);
  sum.x[0] = 1.0F;
  sum.w.assign(4097, 1.0F);
  sum.router.precision = "float64";
  EXPECT_EQ(sum.logits()[0], 1.0F + 0x1.0p-13F);
}

}  // namespace
}  // namespace switchyard::moe
