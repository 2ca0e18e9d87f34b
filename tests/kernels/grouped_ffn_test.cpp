#include "switchyard/kernels/grouped_ffn.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "kernels/each_target.hpp"
#include "oracle/compare.hpp"
#include "oracle/ffn.hpp"
#include "oracle/finite_difference.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::kernels {
namespace {

using oracle::GuardedMatrix;

// Experts, rows and gradients with guards around everything that is written.
struct Problem {
  Activation activation;
  Index tokens, d;
  std::vector<Index> f;  // of each expert
  std::vector<std::int32_t> offset, token;
  std::vector<float> weight;
  GuardedMatrix x, d_y;
  std::vector<GuardedMatrix> gate, up, down;
  std::vector<std::vector<float>> gate_bias, up_bias, down_bias;  // of each expert, empty where there is none

  // Biases are of the size `bias`; 0 is none.
  Problem(Activation kind, Index t, Index width, const std::vector<Index>& hidden, const std::vector<Index>& counts,
          Index gap = 0, std::uint32_t seed = 1, float bias = 0.0F)
      : activation(kind),
        tokens(t),
        d(width),
        f(hidden),
        offset{0},
        x(t, width, gap, oracle::random_values(t * width, seed)),
        d_y(t, width, gap, oracle::random_values(t * width, seed + 1)) {
    const RandomStream stream(seed, RandomPurpose::kTest, 7);
    for (std::size_t e = 0; e < f.size(); ++e) {
      // Tokens repeat within an expert, which the op must not mind.
      for (Index i = 0; i < counts[e]; ++i) {
        token.push_back(static_cast<std::int32_t>(stream.below(token.size(), static_cast<std::uint64_t>(t))));
        weight.push_back(stream.normal(token.size()));
      }
      offset.push_back(static_cast<std::int32_t>(token.size()));
      const auto number = static_cast<std::uint32_t>(10 * e) + seed;
      const float in = 1.0F / std::sqrt(static_cast<float>(d)), hid = 1.0F / std::sqrt(static_cast<float>(f[e]));
      const Index gate_rows = is_gated(kind) ? f[e] : 0;
      gate.emplace_back(gate_rows, d, gap, oracle::random_values(gate_rows * d, number + 2, in));
      up.emplace_back(f[e], d, gap, oracle::random_values(f[e] * d, number + 3, in));
      down.emplace_back(d, f[e], gap, oracle::random_values(f[e] * d, number + 4, hid));
      const bool biased = bias != 0.0F;
      gate_bias.push_back(oracle::random_values(biased ? gate_rows : 0, number + 5, bias));
      up_bias.push_back(oracle::random_values(biased ? f[e] : 0, number + 6, bias));
      down_bias.push_back(oracle::random_values(biased ? d : 0, number + 7, bias));
    }
  }

  Index slots() const { return offset.back(); }
  GroupedRows rows() const { return {offset, token, weight}; }
  std::vector<FfnWeights> experts() const {
    std::vector<FfnWeights> all;
    for (std::size_t e = 0; e < f.size(); ++e)
      all.push_back({is_gated(activation) ? gate[e].view() : ConstMatrix{}, up[e].view(), down[e].view(), gate_bias[e],
                     up_bias[e], down_bias[e]});
    return all;
  }
  oracle::Ffn reference(std::size_t e) const {
    return {d,
            f[e],
            oracle::to_double(gate[e].values()),
            oracle::to_double(up[e].values()),
            oracle::to_double(down[e].values()),
            oracle::to_double(gate_bias[e]),
            oracle::to_double(up_bias[e]),
            oracle::to_double(down_bias[e])};
  }
  std::size_t expert_of(Index slot) const {
    std::size_t e = 0;
    while (offset[e + 1] <= slot) ++e;
    return e;
  }
  std::vector<double> x_row(Index slot) const {
    return oracle::to_double(x.view().row_span(token[static_cast<std::size_t>(slot)]));
  }
};

struct Result {
  std::vector<float> y, d_x, d_weight;
  std::vector<std::vector<float>> d_gate, d_up, d_down;
  std::vector<std::vector<float>> d_gate_bias{}, d_up_bias{}, d_down_bias{};
};

// The same bits, but for the sign of a NaN, which no instruction set defines.
testing::AssertionResult same_numbers(std::vector<float> a, std::vector<float> b) {
  for (std::vector<float>* values : {&a, &b})
    for (float& v : *values)
      if (std::isnan(v)) v = std::numeric_limits<float>::quiet_NaN();
  return oracle::same_bits(a, b);
}

constexpr float kGradientBefore = 0.25F;  // gradients are added to this

// Forward and backward with every output guarded.
Result run(const Problem& p, int threads = 1, bool frozen = false, Index gap = 0) {
  const std::vector<FfnWeights> experts = p.experts();
  GuardedMatrix y(p.slots(), p.d, gap, NAN), inference(p.slots(), p.d, gap, NAN), d_x(p.slots(), p.d, gap, NAN);
  GuardedMatrix d_weight(1, p.slots(), 0, NAN);
  std::vector<GuardedMatrix> d_gate, d_up, d_down, d_gate_bias, d_up_bias, d_down_bias;
  std::vector<FfnGradients> gradients;
  const auto like = [](const std::vector<float>& bias) {
    return GuardedMatrix(1, static_cast<Index>(bias.size()), 0, kGradientBefore);
  };
  for (std::size_t e = 0; e < p.f.size(); ++e) {
    d_gate.emplace_back(p.gate[e].view().rows, p.d, gap, kGradientBefore);
    d_up.emplace_back(p.f[e], p.d, gap, kGradientBefore);
    d_down.emplace_back(p.d, p.f[e], gap, kGradientBefore);
    d_gate_bias.push_back(like(p.gate_bias[e]));
    d_up_bias.push_back(like(p.up_bias[e]));
    d_down_bias.push_back(like(p.down_bias[e]));
  }
  for (std::size_t e = 0; e < p.f.size(); ++e)
    gradients.push_back({d_gate[e].view(), d_up[e].view(), d_down[e].view(), d_gate_bias[e].view().row_span(0),
                         d_up_bias[e].view().row_span(0), d_down_bias[e].view().row_span(0)});
  GroupedFfnSaved saved;
  ThreadArena(threads).run([&] {
    grouped_ffn_forward(p.activation, p.x.view(), p.rows(), experts, y.view(), &saved);
    grouped_ffn_forward(p.activation, p.x.view(), p.rows(), experts, inference.view(), nullptr);
    grouped_ffn_backward(p.activation, p.x.view(), p.rows(), experts, saved, p.d_y.view(), d_x.view(),
                         d_weight.view().row_span(0),
                         frozen ? std::span<const FfnGradients>{} : std::span<const FfnGradients>(gradients));
  });
  EXPECT_TRUE(same_numbers(inference.values(), y.values()));
  EXPECT_TRUE(y.untouched() && inference.untouched() && d_x.untouched() && d_weight.untouched());
  Result r{y.values(), d_x.values(), d_weight.values(), {}, {}, {}};
  for (std::size_t e = 0; e < p.f.size(); ++e) {
    EXPECT_TRUE(d_gate[e].untouched() && d_up[e].untouched() && d_down[e].untouched()) << "expert " << e;
    r.d_gate.push_back(d_gate[e].values());
    r.d_up.push_back(d_up[e].values());
    r.d_down.push_back(d_down[e].values());
    EXPECT_TRUE(d_gate_bias[e].untouched() && d_up_bias[e].untouched() && d_down_bias[e].untouched()) << "expert " << e;
    r.d_gate_bias.push_back(d_gate_bias[e].values());
    r.d_up_bias.push_back(d_up_bias[e].values());
    r.d_down_bias.push_back(d_down_bias[e].values());
  }
  return r;
}

void expect_forward(const Problem& p, const Result& r) {
  std::vector<double> expected;
  Index longest = p.d;
  for (const Index f : p.f) longest = std::max(longest, f);
  for (Index s = 0; s < p.slots(); ++s) {
    const std::vector<double> y = oracle::ffn(p.activation, p.reference(p.expert_of(s)), p.x_row(s));
    for (const double v : y) expected.push_back(v * static_cast<double>(p.weight[static_cast<std::size_t>(s)]));
  }
  EXPECT_TRUE(oracle::close(r.y, expected, oracle::sum_tolerance(longest, 3)));
}

// sum_s <d_y[token_s], weight_s ffn(x_s)> over the slots of expert e, with some input replaced.
double loss(const Problem& p, std::size_t e, const oracle::Ffn& expert, Index only_slot = -1,
            const std::vector<double>* x_row = nullptr, double weight_scale = NAN) {
  double sum = 0.0;
  for (Index s = p.offset[e]; s < p.offset[e + 1]; ++s) {
    if (only_slot >= 0 && s != only_slot) continue;
    const std::vector<double> y = oracle::ffn(p.activation, expert, x_row != nullptr ? *x_row : p.x_row(s));
    const double w =
        std::isnan(weight_scale) ? static_cast<double>(p.weight[static_cast<std::size_t>(s)]) : weight_scale;
    sum += w * oracle::dot(y, p.d_y.view().row_span(p.token[static_cast<std::size_t>(s)]));
  }
  return sum;
}

void expect_backward(const Problem& p, const Result& r) {
  std::vector<double> d_weight, d_x;
  for (Index s = 0; s < p.slots(); ++s) {
    const std::size_t e = p.expert_of(s);
    const oracle::Ffn expert = p.reference(e);
    d_weight.push_back(loss(p, e, expert, s, nullptr, 1.0));
    const auto by_x = [&](const std::vector<double>& x) { return loss(p, e, expert, s, &x); };
    const std::vector<double> g = oracle::finite_difference(by_x, p.x_row(s));
    d_x.insert(d_x.end(), g.begin(), g.end());
  }
  const Index longest = 2 * std::max(p.d, *std::max_element(p.f.begin(), p.f.end()));
  const double tolerance = oracle::sum_tolerance(longest, 4);
  EXPECT_TRUE(oracle::close(r.d_weight, d_weight, tolerance));
  EXPECT_TRUE(oracle::close(r.d_x, d_x, tolerance, 1e-8));
  for (std::size_t e = 0; e < p.f.size(); ++e) {
    const oracle::Ffn expert = p.reference(e);
    const auto check = [&](std::vector<double> oracle::Ffn::*part, const std::vector<float>& actual) {
      const auto by_part = [&](const std::vector<double>& w) {
        oracle::Ffn changed = expert;
        changed.*part = w;
        return loss(p, e, changed);
      };
      std::vector<double> expected = oracle::finite_difference(by_part, expert.*part);
      for (double& v : expected) v += static_cast<double>(kGradientBefore);
      const Index terms = std::max<Index>(longest, p.offset[e + 1] - p.offset[e]);
      EXPECT_TRUE(oracle::close(actual, expected, oracle::sum_tolerance(terms, 4), 1e-7)) << "expert " << e;
    };
    check(&oracle::Ffn::gate, r.d_gate[e]);
    check(&oracle::Ffn::up, r.d_up[e]);
    check(&oracle::Ffn::down, r.d_down[e]);
    check(&oracle::Ffn::gate_bias, r.d_gate_bias[e]);
    check(&oracle::Ffn::up_bias, r.d_up_bias[e]);
    check(&oracle::Ffn::down_bias, r.d_down_bias[e]);
  }
}

TEST(GroupedFfn, AgreesWithTheOracleOnEveryInstructionSet) {
  on_each_target([] {
    for (const Activation kind : {Activation::kSwiGLU, Activation::kGELU}) {
      // Empty experts, one row, part of a panel, a whole panel and more; widths that are multiples of nothing.
      const Problem p(kind, 23, 13, {11, 7, 19, 16, 5}, {0, 1, 7, 16, 33}, 3);
      const Result r = run(p, 1, false, 2);
      expect_forward(p, r);
      expect_backward(p, r);
    }
  });
}

TEST(GroupedFfn, BiasesAgreeWithTheOracleOnEveryInstructionSet) {
  on_each_target([] {
    for (const Activation kind : {Activation::kSwiGLU, Activation::kGELU}) {
      const Problem p(kind, 23, 13, {11, 7, 19, 16, 5}, {0, 1, 7, 16, 33}, 3, 1, 0.7F);
      for (const int threads : {1, 2}) {
        const Result r = run(p, threads, false, 2);
        expect_forward(p, r);
        expect_backward(p, r);
      }
    }
  });
}

TEST(GroupedFfn, ClampedSwiGLUAgreesWithTheOracle) {
  on_each_target([] {
    // Biases so large that many gates and ups lie beyond 7, on both sides.
    const Problem p(Activation::kClampedSwiGLU, 23, 13, {11, 7, 19, 16, 5}, {0, 1, 7, 16, 33}, 3, 1, 6.0F);
    const Result r = run(p, 1, false, 2);
    expect_forward(p, r);
    expect_backward(p, r);
    const Problem unbiased(Activation::kClampedSwiGLU, 9, 6, {7, 5}, {4, 9});
    const Result u = run(unbiased);
    expect_forward(unbiased, u);
    expect_backward(unbiased, u);
  });
}

TEST(GroupedFfn, AnExpertMayHaveSomeBiasesOnly) {
  Problem p(Activation::kSwiGLU, 12, 9, {11, 7, 8}, {3, 7, 19}, 0, 1, 0.7F);
  p.gate_bias[0].clear();
  p.down_bias[0].clear();
  p.up_bias[1].clear();
  p.gate_bias[2].clear();
  p.up_bias[2].clear();
  const Result r = run(p);
  expect_forward(p, r);
  expect_backward(p, r);
}

TEST(GroupedFfn, BiasesOfZeroChangeNothing) {
  const Problem p(Activation::kSwiGLU, 60, 40, {70, 33, 48}, {100, 3, 17});
  Problem zero = p;
  for (std::size_t e = 0; e < p.f.size(); ++e) {
    zero.gate_bias[e].assign(static_cast<std::size_t>(p.f[e]), 0.0F);
    zero.up_bias[e].assign(static_cast<std::size_t>(p.f[e]), 0.0F);
    zero.down_bias[e].assign(static_cast<std::size_t>(p.d), 0.0F);
  }
  const Result with = run(zero, 2), without = run(p, 2);
  EXPECT_EQ(with.y, without.y);  // but for the sign of a zero
  EXPECT_EQ(with.d_x, without.d_x);
  EXPECT_EQ(with.d_weight, without.d_weight);
  EXPECT_EQ(with.d_up, without.d_up);
  EXPECT_EQ(with.d_down, without.d_down);
}

TEST(GroupedFfn, ReluAgreesWithTheOracle) {
  // Seeds where no pre-activation lies within the step of the finite differences of the kink.
  const Problem p(Activation::kReLU, 9, 6, {7, 5}, {4, 9}, 0, 5);
  const Result r = run(p);
  expect_forward(p, r);
  expect_backward(p, r);
}

TEST(GroupedFfn, ForwardSweepsRowsAndWidths) {
  for (const Index count : {1, 2, 8, 9, 15, 17, 31, 32, 127, 128, 129, 300})
    for (const Index width : {1, 5, 16, 50}) {
      for (const float bias : {0.0F, 0.7F}) {
        const Problem p(Activation::kSwiGLU, 40, width, {33, 3}, {count, 2}, 0, 1, bias);
        expect_forward(p, run(p, 2));
      }
    }
  // Long enough for several blocks of k and of rows.
  const Problem large(Activation::kSwiGLU, 50, 530, {300, 270}, {20, 37});
  expect_forward(large, run(large, 2));
}

TEST(GroupedFfn, InferenceOnFewRowsGivesTheSameBits) {
  // Up to four rows of an expert take another path when nothing is saved; run() compares it with training's.
  on_each_target([] {
    for (const Activation kind : {Activation::kSwiGLU, Activation::kGELU})
      for (const Index hidden : {7, 64, 71, 300}) {
        const Problem p(kind, 20, 275, {hidden, 40, hidden, 33, 50}, {1, 2, 3, 4, 5}, 3);
        expect_forward(p, run(p, 1, true, 1));
        expect_forward(p, run(p, 3, true, 1));
        const Problem biased(kind, 20, 275, {hidden, 40, hidden, 33, 50}, {1, 2, 3, 4, 5}, 3, 1, 0.7F);
        expect_forward(biased, run(biased, 1, true, 1));
        expect_forward(biased, run(biased, 3, true, 1));
      }
  });
}

TEST(GroupedFfn, GradientsAddUpOverManyRows) {
  // More rows than one block of k (256) and than one chunk (1024); the expected gradients are sums in double.
  const Index count = 1300, d = 6, f = 5;
  const Problem p(Activation::kSwiGLU, 90, d, {f}, {count}, 0, 1, 0.7F);
  const Result r = run(p, 2);
  expect_forward(p, r);
  const oracle::Ffn expert = p.reference(0);
  const auto check = [&](std::vector<double> oracle::Ffn::*part, const std::vector<float>& actual) {
    const auto by_part = [&](const std::vector<double>& w) {
      oracle::Ffn changed = expert;
      changed.*part = w;
      return loss(p, 0, changed);
    };
    std::vector<double> expected = oracle::finite_difference(by_part, expert.*part);
    for (double& v : expected) v += static_cast<double>(kGradientBefore);
    EXPECT_TRUE(oracle::close(actual, expected, oracle::sum_tolerance(count, 4), 1e-6));
  };
  check(&oracle::Ffn::down, r.d_down[0]);
  check(&oracle::Ffn::gate_bias, r.d_gate_bias[0]);
  check(&oracle::Ffn::up_bias, r.d_up_bias[0]);
  check(&oracle::Ffn::down_bias, r.d_down_bias[0]);
}

void expect_same(const Result& a, const Result& b) {
  EXPECT_TRUE(oracle::same_bits(a.y, b.y));
  EXPECT_TRUE(oracle::same_bits(a.d_x, b.d_x));
  EXPECT_TRUE(oracle::same_bits(a.d_weight, b.d_weight));
  for (std::size_t e = 0; e < a.d_up.size(); ++e) {
    EXPECT_TRUE(oracle::same_bits(a.d_gate[e], b.d_gate[e])) << "expert " << e;
    EXPECT_TRUE(oracle::same_bits(a.d_up[e], b.d_up[e])) << "expert " << e;
    EXPECT_TRUE(oracle::same_bits(a.d_down[e], b.d_down[e])) << "expert " << e;
    EXPECT_TRUE(oracle::same_bits(a.d_gate_bias[e], b.d_gate_bias[e])) << "expert " << e;
    EXPECT_TRUE(oracle::same_bits(a.d_up_bias[e], b.d_up_bias[e])) << "expert " << e;
    EXPECT_TRUE(oracle::same_bits(a.d_down_bias[e], b.d_down_bias[e])) << "expert " << e;
  }
}

TEST(GroupedFfn, SameBitsAtAnyNumberOfThreads) {
  // One hot expert among many, one hot expert alone, many equal experts, a handful of rows.
  std::vector<Index> one_hot(20, 9), equal(24, 40);
  one_hot[7] = 1500;
  for (const std::vector<Index>& counts :
       {one_hot, std::vector<Index>{0, 2100, 0}, equal, std::vector<Index>{1, 0, 3}}) {
    for (const float bias : {0.0F, 0.7F}) {
      const Problem p(Activation::kSwiGLU, 200, 50, std::vector<Index>(counts.size(), 70), counts, 0, 1, bias);
      const Result one = run(p, 1);
      for (const int threads : {2, 3, 4}) {
        SCOPED_TRACE(threads);
        expect_same(run(p, threads), one);
      }
    }
  }
}

TEST(GroupedFfn, ARowDoesNotDependOnItsNeighbours) {
  const Problem all(Activation::kSwiGLU, 60, 300, {290}, {150}, 0, 1, 0.7F);
  const Result together = run(all);
  for (const Index slot : {0, 7, 8, 100, 149}) {
    Problem alone = all;
    const auto s = static_cast<std::size_t>(slot);
    alone.offset = {0, 1};
    alone.token = {all.token[s]};
    alone.weight = {all.weight[s]};
    const Result r = run(alone);
    const auto part = [&](const std::vector<float>& v) {
      return std::span<const float>(v).subspan(s * static_cast<std::size_t>(all.d), static_cast<std::size_t>(all.d));
    };
    EXPECT_TRUE(oracle::same_bits(r.y, part(together.y)));
    EXPECT_TRUE(oracle::same_bits(r.d_x, part(together.d_x)));
    EXPECT_EQ(r.d_weight[0], together.d_weight[s]);
  }
}

TEST(GroupedFfn, FrozenExpertsStillPassGradientsToRows) {
  const Problem p(Activation::kSwiGLU, 30, 20, {24, 31, 9}, {40, 0, 3}, 0, 1, 0.7F);
  const Result trained = run(p, 2), frozen = run(p, 2, true);
  EXPECT_TRUE(oracle::same_bits(frozen.d_x, trained.d_x));
  EXPECT_TRUE(oracle::same_bits(frozen.d_weight, trained.d_weight));
  for (const std::vector<std::vector<float>>& part :
       {frozen.d_gate, frozen.d_up, frozen.d_down, frozen.d_gate_bias, frozen.d_up_bias, frozen.d_down_bias})
    for (const std::vector<float>& gradient : part)
      for (const float v : gradient) ASSERT_EQ(v, kGradientBefore);
}

TEST(GroupedFfn, ExpertsWithoutRowsAreLeftAlone) {
  const Problem p(Activation::kGELU, 10, 8, {8, 8, 8}, {0, 5, 0}, 0, 1, 0.7F);
  const Result r = run(p, 2);
  for (const std::size_t e : {std::size_t{0}, std::size_t{2}}) {
    for (const float v : r.d_up[e]) ASSERT_EQ(v, kGradientBefore);
    for (const float v : r.d_down_bias[e]) ASSERT_EQ(v, kGradientBefore);
  }
  const Problem nothing(Activation::kSwiGLU, 10, 8, {8, 8}, {0, 0});
  EXPECT_TRUE(run(nothing, 2).y.empty());
}

TEST(GroupedFfn, SavedMemoryIsUsedAgain) {
  const Problem large(Activation::kSwiGLU, 30, 8, {8, 8}, {40, 12}), small(Activation::kSwiGLU, 30, 8, {8, 8}, {3, 20});
  GroupedFfnSaved saved;
  GuardedMatrix y_large(large.slots(), 8), y_small(small.slots(), 8);
  grouped_ffn_forward(large.activation, large.x.view(), large.rows(), large.experts(), y_large.view(), &saved);
  const void* memory = saved.pre_activation.bytes().data();
  grouped_ffn_forward(small.activation, small.x.view(), small.rows(), small.experts(), y_small.view(), &saved);
  EXPECT_EQ(saved.pre_activation.bytes().data(), memory);
  expect_forward(small, {y_small.values(), {}, {}, {}, {}, {}});
}

TEST(GroupedFfn, NaNStaysInItsRow) {
  Problem p(Activation::kSwiGLU, 4, 20, {30}, {3});
  p.token = {0, 2, 3};
  p.x.view()(2, 5) = std::numeric_limits<float>::quiet_NaN();
  const Result r = run(p);
  for (Index s = 0; s < 3; ++s)
    for (Index j = 0; j < 20; ++j) {
      EXPECT_EQ(std::isnan(r.y[static_cast<std::size_t>(s * 20 + j)]), s == 1);
      EXPECT_EQ(std::isnan(r.d_x[static_cast<std::size_t>(s * 20 + j)]), s == 1);
    }
}

TEST(GroupedFfn, RefusesWhatDoesNotFit) {
  Problem p(Activation::kSwiGLU, 4, 6, {5, 5}, {2, 1});
  GuardedMatrix y(3, 6), short_y(2, 6);
  const auto forward = [&](Matrix to) {
    grouped_ffn_forward(p.activation, p.x.view(), p.rows(), p.experts(), to, nullptr);
  };
  EXPECT_NO_THROW(forward(y.view()));
  EXPECT_THROW(forward(short_y.view()), Error);
  p.token[1] = 4;
  EXPECT_THROW(forward(y.view()), Error);
  p.token[1] = -1;
  EXPECT_THROW(forward(y.view()), Error);
  p.token[1] = 0;
  p.offset = {0, 3, 2};
  EXPECT_THROW(forward(y.view()), Error);
  p.offset = {0, 2, 3};
  std::vector<float> d_weight(3);
  const GroupedFfnSaved nothing;
  EXPECT_THROW(grouped_ffn_backward(p.activation, p.x.view(), p.rows(), p.experts(), nothing, p.d_y.view(), y.view(),
                                    d_weight, {}),
               Error);
  for (std::vector<float>* bias : {&p.gate_bias[0], &p.up_bias[0], &p.down_bias[1]}) {
    bias->assign(4, 0.0F);
    EXPECT_THROW(forward(y.view()), Error);
    bias->clear();
  }
  EXPECT_NO_THROW(forward(y.view()));
  p.down[0] = GuardedMatrix(6, 4);
  EXPECT_THROW(forward(y.view()), Error);
}

}  // namespace
}  // namespace switchyard::kernels
