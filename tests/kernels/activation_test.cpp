#include "switchyard/kernels/activation.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/each_target.hpp"
#include "oracle/compare.hpp"
#include "oracle/ffn.hpp"
#include "oracle/finite_difference.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::kernels {
namespace {

constexpr Activation kAll[] = {
    Activation::kSwiGLU,        Activation::kClampedSwiGLU, Activation{Activation::Kind::kClampedSwiGLU, 1.25F, 2.0F},
    Activation::kGatedGeluTanh, Activation::kGELU,          Activation::kReLU};

// The exponential inside is flushed to zero below e^-87.3, which an x of -88 turns into an error of 1e-36.
constexpr double kFlushed = 1.1e-36;

// |a - b| in units of the last place of b as a float, or of kFlushed where b is smaller than that.
double ulps(float a, double b) {
  const double error = std::abs(static_cast<double>(a) - b);
  if (std::abs(b) < kFlushed) return error / kFlushed;
  return error / std::ldexp(1.0, std::ilogb(b) - 23);
}

std::vector<float> sweep() {
  std::vector<float> x = {0.0F, -0.0F, 1e-30F, -1e-30F, 1e4F, -1e4F, 3e38F, -3e38F};
  for (int i = -3000; i <= 3000; ++i) x.push_back(0.0073F * static_cast<float>(i));
  for (int i = 0; i < 400; ++i) {
    x.push_back(std::pow(10.0F, -6.0F + 0.02F * static_cast<float>(i)));
    x.push_back(-x.back());
  }
  return x;
}

double worst_ulps(Activation kind, std::span<const float> x) {
  const std::vector<float> ones(x.size(), 1.0F);
  std::vector<float> h(x.size());
  const bool gated = is_gated(kind);
  activate(kind, gated ? x : std::span<const float>{}, gated ? ones : x, h);
  double worst = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double expected = gated ? oracle::activate(kind, x[i], 1.0) : oracle::activate(kind, 0.0, x[i]);
    worst = std::max(worst, ulps(h[i], expected));
  }
  return worst;
}

TEST(Activation, WithinAFewUlpOfTheOracle) {
  on_each_target([] {
    // exp is within 2 ulp; a sum, a quotient and two products follow.
    EXPECT_LE(worst_ulps(Activation::kSwiGLU, sweep()), 5.0);
    // The quotient of polynomials and a further product add to that.
    EXPECT_LE(worst_ulps(Activation::kGELU, sweep()), 8.0);
    EXPECT_EQ(worst_ulps(Activation::kReLU, sweep()), 0.0);
  });
}

TEST(Activation, EveryLengthAndInPlace) {
  for (const Activation kind : kAll)
    for (Index n = 0; n < 40; ++n) {
      const std::vector<float> gate = oracle::random_values(is_gated(kind) ? n : 0, 1);
      std::vector<float> up = oracle::random_values(n, 2);
      oracle::GuardedMatrix h(1, n);
      activate(kind, gate, up, h.view().row_span(0));
      EXPECT_TRUE(h.untouched());
      for (Index i = 0; i < n; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const double expected = oracle::activate(kind, gate.empty() ? 0.0 : gate[at], up[at]);
        EXPECT_NEAR(h.view()(0, i), expected, 1e-6 * (1.0 + std::abs(expected)));
      }
      activate(kind, gate, up, up);
      EXPECT_TRUE(oracle::same_bits(up, h.view().row_span(0)));
    }
}

TEST(Activation, GradientAgreesWithFiniteDifferences) {
  on_each_target([] {
    for (const Activation kind : kAll) {
      const Index n = 137;
      const bool gated = is_gated(kind);
      const std::vector<float> gate = oracle::random_values(gated ? n : 0, 3, 3.0F);
      const std::vector<float> up = oracle::random_values(n, 4, 3.0F), d_h = oracle::random_values(n, 5);
      std::vector<float> d_gate(gate.size()), d_up(up.size());
      activate_backward(kind, gate, up, d_h, d_gate, d_up);

      const std::vector<double> gate64 = oracle::to_double(gate), up64 = oracle::to_double(up);
      const auto by_up = [&](const std::vector<double>& x) {
        double sum = 0.0;
        for (std::size_t i = 0; i < x.size(); ++i)
          sum += oracle::activate(kind, gated ? gate64[i] : 0.0, x[i]) * static_cast<double>(d_h[i]);
        return sum;
      };
      EXPECT_TRUE(oracle::is_gradient(d_up, by_up, up, 1, 2)) << activation_name(kind);
      if (gated) {
        const auto by_gate = [&](const std::vector<double>& x) {
          double sum = 0.0;
          for (std::size_t i = 0; i < x.size(); ++i)
            sum += oracle::activate(kind, x[i], up64[i]) * static_cast<double>(d_h[i]);
          return sum;
        };
        EXPECT_TRUE(oracle::is_gradient(d_gate, by_gate, gate, 1, 2)) << activation_name(kind);
      }
      std::vector<float> in_place = d_h, d_gate_again(gate.size());
      activate_backward(kind, gate, up, in_place, d_gate_again, in_place);
      EXPECT_TRUE(oracle::same_bits(in_place, d_up));
      EXPECT_TRUE(oracle::same_bits(d_gate_again, d_gate));
    }
  });
}

TEST(Activation, LargeValuesAndNaN) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x = {1e4F, -1e4F, nan, 100.0F, -100.0F};
  const std::vector<float> ones(x.size(), 1.0F);
  for (const Activation kind :
       {Activation::kSwiGLU, Activation::kGatedGeluTanh, Activation::kGELU, Activation::kReLU}) {
    const bool gated = is_gated(kind);
    std::vector<float> h(x.size()), d_gate(gated ? x.size() : 0), d_up(x.size());
    const std::span<const float> gate = gated ? std::span<const float>(x) : std::span<const float>{};
    const std::span<const float> up = gated ? ones : x;
    activate(kind, gate, up, h);
    activate_backward(kind, gate, up, ones, d_gate, d_up);
    EXPECT_EQ(h[0], 1e4F);
    EXPECT_EQ(h[1], 0.0F);
    EXPECT_TRUE(std::isnan(h[2]));
    EXPECT_EQ(h[3], 100.0F);
    EXPECT_NEAR(h[4], 0.0F, 1e-37F);
    const std::vector<float>& slope = gated ? d_gate : d_up;
    EXPECT_EQ(slope[0], 1.0F);
    EXPECT_EQ(slope[1], 0.0F);
    EXPECT_EQ(std::isnan(slope[2]), kind != Activation::kReLU);
    EXPECT_EQ(slope[3], 1.0F);
  }
}

TEST(Activation, ClampedSwiGLUIsWithinTheRoundingOfItsArgument) {
  on_each_target([] {
    const std::vector<float> gate = sweep(), up(gate.size(), 0.0F);
    std::vector<float> h(gate.size());
    activate(Activation::kClampedSwiGLU, gate, up, h);
    for (std::size_t i = 0; i < gate.size(); ++i) {
      // 1.702 and its product with the gate are rounded, which the exponential turns into two ulp for each unit.
      const double argument = 1.702 * std::min(7.0, static_cast<double>(gate[i]));
      EXPECT_LE(ulps(h[i], oracle::activate(Activation::kClampedSwiGLU, gate[i], 0.0)),
                6.0 + 2.0 * std::min(90.0, std::abs(argument)))
          << gate[i];
    }
  });
}

TEST(Activation, GatedGeluTanhIsWithinTheRoundingOfItsArgument) {
  on_each_target([] {
    const std::vector<float> gate = sweep(), up(gate.size(), 1.0F);
    std::vector<float> h(gate.size());
    activate(Activation::kGatedGeluTanh, gate, up, h);
    for (std::size_t i = 0; i < gate.size(); ++i) {
      // The argument is rounded five times, each by half a unit at most; the exponential turns its error into as much
      // relative to the result as it is in absolute terms.
      const auto x = static_cast<double>(gate[i]);
      const double argument = std::sqrt(8.0 / M_PI) * (x + 0.044715 * x * x * x);
      EXPECT_LE(ulps(h[i], oracle::activate(Activation::kGatedGeluTanh, x, 1.0)),
                5.0 + 5.0 * std::min(90.0, std::abs(argument)))
          << gate[i];
    }
  });
}

TEST(Activation, ClampedSwiGLUStopsAtItsBounds) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const float above = std::nextafter(7.0F, 8.0F);
  on_each_target([&] {
    const std::vector<float> gate = {7.0F, above, inf,    3e38F, 2.0F, 2.0F,  2.0F,
                                     2.0F, 2.0F,  -3e38F, nan,   2.0F, above, -9.0F};
    const std::vector<float> up = {1.0F,  1.0F,   1.0F, 1.0F, 7.0F, above, inf,
                                   -7.0F, -above, 1.0F, 1.0F, nan,  above, 0.5F};
    const std::vector<float> d_h(gate.size(), 1.0F);
    std::vector<float> h(gate.size()), d_gate(gate.size()), d_up(gate.size());
    activate(Activation::kClampedSwiGLU, gate, up, h);
    activate_backward(Activation::kClampedSwiGLU, gate, up, d_h, d_gate, d_up);
    for (const std::size_t i : {1U, 2U, 3U}) {
      EXPECT_EQ(h[i], h[0]);
      EXPECT_EQ(d_gate[i], 0.0F);
      EXPECT_EQ(d_up[i], d_up[0]);
    }
    EXPECT_NE(d_gate[0], 0.0F);
    EXPECT_EQ(h[5], h[4]);
    EXPECT_EQ(h[6], h[4]);
    EXPECT_EQ(h[8], h[7]);
    EXPECT_NEAR(h[4] / h[7], -8.0 / 6.0, 1e-6);
    for (const std::size_t i : {5U, 6U, 8U}) EXPECT_EQ(d_up[i], 0.0F);
    for (const std::size_t i : {4U, 7U}) EXPECT_NE(d_up[i], 0.0F);
    EXPECT_EQ(d_gate[5], d_gate[4]);
    EXPECT_EQ(h[9], 0.0F);
    EXPECT_EQ(d_gate[9], 0.0F);
    EXPECT_TRUE(std::isnan(h[10]) && std::isnan(d_gate[10]) && std::isnan(h[11]) && std::isnan(d_gate[11]));
    EXPECT_EQ(d_gate[12], 0.0F);
    EXPECT_EQ(d_up[12], 0.0F);
    EXPECT_NEAR(h[13], -9.0 * 1.5 / (1.0 + std::exp(9.0 * 1.702)), 1e-10);
  });
}

TEST(Activation, SameBitsAtAnyNumberOfThreads) {
  const Index n = 70001;
  const std::vector<float> gate = oracle::random_values(n, 6), up = oracle::random_values(n, 7);
  std::vector<float> one(up.size()), four(up.size());
  ThreadArena(1).run([&] { activate(Activation::kSwiGLU, gate, up, one); });
  ThreadArena(4).run([&] { activate(Activation::kSwiGLU, gate, up, four); });
  EXPECT_TRUE(oracle::same_bits(one, four));
}

TEST(Activation, Names) {
  for (const Activation kind : kAll) EXPECT_EQ(parse_activation(activation_name(kind)).kind, kind.kind);
  try {
    parse_activation("SwiGLU");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    EXPECT_STREQ(error.what(),
                 "unknown activation 'SwiGLU', expected one of swiglu, clamped-swiglu, geglu-tanh, gelu, relu");
  }
}

TEST(Activation, RefusesSizesThatDoNotFit) {
  std::vector<float> a(4), b(5);
  EXPECT_THROW(activate(Activation::kSwiGLU, a, b, b), Error);
  EXPECT_THROW(activate(Activation::kGELU, a, a, a), Error);
  EXPECT_THROW(activate(Activation::kGELU, {}, a, b), Error);
  EXPECT_THROW(activate_backward(Activation::kSwiGLU, a, a, a, {}, a), Error);
}

}  // namespace
}  // namespace switchyard::kernels
