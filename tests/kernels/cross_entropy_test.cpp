#include "switchyard/kernels/cross_entropy.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/each_target.hpp"
#include "oracle/compare.hpp"
#include "oracle/cross_entropy.hpp"
#include "oracle/finite_difference.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::kernels {
namespace {

using oracle::GuardedMatrix;

struct Case {
  Case(Index tokens, Index vocabulary, Index cols, std::uint32_t seed = 1, float scale = 1.0F, bool biased = false)
      : x_values(oracle::random_values(tokens * cols, seed, scale)),
        w_values(oracle::random_values(vocabulary * cols, seed + 1)),
        bias(oracle::random_values(biased ? vocabulary : 0, seed + 4)),
        d_loss(oracle::random_values(tokens, seed + 2)),
        x(tokens, cols, 3, x_values),
        w(vocabulary, cols, 1, w_values),
        d_x(tokens, cols, 2, NAN),
        d_w(vocabulary, cols, 5, 0.0F),
        d_bias(bias.size(), 0.0F),
        loss(static_cast<std::size_t>(tokens), NAN) {
    const RandomStream stream(seed + 3, RandomPurpose::kTest);
    for (std::uint64_t t = 0; t < loss.size(); ++t)
      target.push_back(t % 5 == 3 ? kIgnoreTarget
                                  : static_cast<std::int32_t>(stream.below(t, static_cast<std::uint64_t>(vocabulary))));
  }
  void run(Index chunk) {
    CrossEntropySaved saved;
    cross_entropy_forward(std::as_const(x).view(), std::as_const(w).view(), bias, target, loss, &saved, chunk);
    cross_entropy_backward(std::as_const(x).view(), std::as_const(w).view(), bias, target, d_loss, saved, d_x.view(),
                           d_w.view(), d_bias, chunk);
  }
  std::vector<double> expected_loss() const {
    return oracle::cross_entropy(oracle::to_double(x_values), oracle::to_double(w_values), target,
                                 oracle::to_double(bias));
  }
  std::vector<float> gradients() const {
    std::vector<float> all = d_x.values();
    const auto part = d_w.values();
    all.insert(all.end(), part.begin(), part.end());
    all.insert(all.end(), d_bias.begin(), d_bias.end());
    return all;
  }

  std::vector<float> x_values, w_values, bias, d_loss;
  GuardedMatrix x, w, d_x, d_w;
  std::vector<float> d_bias, loss;
  std::vector<std::int32_t> target;
};

TEST(CrossEntropy, LossMatchesOracle) {
  on_each_target([] {
    for (const Index tokens : {1, 6, 40})
      for (const Index vocabulary : {1, 2, 7, 65, 100})
        for (const Index cols : {1, 5, 33}) {
          SCOPED_TRACE(testing::Message() << tokens << " tokens, V " << vocabulary << ", D " << cols);
          for (const Index chunk : {1, 9, 64, 100, 4096}) {
            Case c(tokens, vocabulary, cols, 1, 1.0F, chunk % 2 == 1);
            cross_entropy_forward(std::as_const(c.x).view(), std::as_const(c.w).view(), c.bias, c.target, c.loss,
                                  nullptr, chunk);
            // A logit's error is relative to the logits; the loss of one word is exactly 0.
            const double size = std::sqrt(static_cast<double>(cols)) * oracle::sum_tolerance(cols);
            EXPECT_TRUE(oracle::close(c.loss, c.expected_loss(), oracle::sum_tolerance(vocabulary), 3.0 * size))
                << "chunk " << chunk;
          }
        }
  });
}

TEST(CrossEntropy, BackwardIsTheGradient) {
  on_each_target([] {
    for (const auto& [tokens, vocabulary, cols] :
         {std::tuple<Index, Index, Index>{1, 1, 1}, {1, 2, 3}, {7, 11, 5}, {20, 33, 3}})
      for (const Index chunk : {1, 4, 11, 4096}) {
        SCOPED_TRACE(testing::Message() << tokens << " tokens, V " << vocabulary << ", D " << cols << ", chunk "
                                        << chunk);
        for (const bool biased : {false, true}) {
          Case c(tokens, vocabulary, cols, 1, 1.0F, biased);
          c.run(chunk);
          std::vector<float> at = c.x_values;
          at.insert(at.end(), c.w_values.begin(), c.w_values.end());
          at.insert(at.end(), c.bias.begin(), c.bias.end());
          const auto total = [&](const std::vector<double>& v) {
            const auto x_end = v.begin() + static_cast<std::ptrdiff_t>(c.x_values.size());
            const auto w_end = x_end + static_cast<std::ptrdiff_t>(c.w_values.size());
            return oracle::dot(oracle::cross_entropy({v.begin(), x_end}, {x_end, w_end}, c.target, {w_end, v.end()}),
                               c.d_loss);
          };
          EXPECT_TRUE(oracle::is_gradient(c.gradients(), total, at, tokens + vocabulary + cols, 3));
          EXPECT_TRUE(c.d_x.untouched() && c.d_w.untouched());
        }
      }
  });
}

TEST(CrossEntropy, KeptLogitsAndComputedAgainGiveTheSame) {
  Case kept(30, 50, 16), again(30, 50, 16);
  kept.run(4096);
  again.run(17);
  EXPECT_TRUE(oracle::close(again.loss, oracle::to_double(kept.loss), oracle::sum_tolerance(50)));
  EXPECT_TRUE(oracle::close(again.gradients(), oracle::to_double(kept.gradients()), oracle::sum_tolerance(50 + 30, 2)));
}

TEST(CrossEntropy, LogitsAreKeptOnlyWhereTheyFitOneChunk) {
  Case c(4, 30, 8);
  CrossEntropySaved saved;
  const auto forward = [&](Index chunk) {
    cross_entropy_forward(std::as_const(c.x).view(), std::as_const(c.w).view(), {}, c.target, c.loss, &saved, chunk);
  };
  forward(30);
  EXPECT_EQ(saved.logits_TV.shape(), (Shape{4, 30}));
  forward(29);
  EXPECT_FALSE(saved.logits_TV.defined());
  const Index before = tensor_memory().current_bytes;
  reset_tensor_memory_peak();
  forward(10);
  EXPECT_LT(tensor_memory().peak_bytes - before, 4 * 30 * 4);
}

TEST(CrossEntropy, IgnoredTokensCountForNothing) {
  Case c(10, 12, 7);
  std::fill(c.target.begin(), c.target.end(), kIgnoreTarget);
  c.run(5);
  for (const float loss : c.loss) EXPECT_EQ(loss, 0.0F);
  for (const float gradient : c.gradients()) EXPECT_EQ(gradient, 0.0F);
}

TEST(CrossEntropy, WeightGradientIsAddedTo) {
  Case once(6, 9, 4), onto(6, 9, 4);
  onto.d_w = GuardedMatrix(9, 4, 5, 1.0F);
  once.run(4096);
  onto.run(4096);
  const auto a = once.d_w.values(), b = onto.d_w.values();
  for (std::size_t i = 0; i < a.size(); ++i)
    EXPECT_NEAR(b[i], 1.0F + a[i], oracle::sum_tolerance(6) * (1.0 + std::abs(static_cast<double>(a[i]))));
}

TEST(CrossEntropy, LargeLogitsStayFiniteAndExact) {
  on_each_target([] {
    for (const Index chunk : {3, 4096}) {
      Case c(8, 20, 4, 1, 1.0e4F);
      c.run(chunk);
      EXPECT_TRUE(oracle::close(c.loss, c.expected_loss(), oracle::sum_tolerance(4) * 2.0));
      for (const float gradient : c.gradients()) EXPECT_TRUE(std::isfinite(gradient));
    }
    // Two equal logits of 1e4 differ in nothing: the loss is log 2, not what is left of 1e4 + log 2.
    const std::vector<float> x = {1.0e4F}, w = {1.0F, 1.0F};
    std::vector<float> loss(1);
    cross_entropy_forward({x.data(), 1, 1}, ConstMatrix(w.data(), 2, 1), {}, std::vector<std::int32_t>{1}, loss,
                          nullptr);
    EXPECT_NEAR(loss[0], std::log(2.0), 2.0 * oracle::kUnitRoundoff);
  });
}

TEST(CrossEntropy, NanIsNotHidden) {
  Case c(4, 40, 6);
  c.x.view()(1, 2) = NAN;
  c.target = {0, 0, 0, 0};
  c.run(16);
  EXPECT_TRUE(std::isnan(c.loss[1]));
  EXPECT_TRUE(std::isfinite(c.loss[0]));
}

TEST(CrossEntropy, SameBitsAtAnyThreadCount) {
  for (const Index chunk : {100, 4096}) {
    const auto run = [chunk](int threads) {
      Case c(150, 333, 24, 1, 1.0F, true);
      ThreadArena(threads).run([&] { c.run(chunk); });
      auto all = c.gradients();
      all.insert(all.end(), c.loss.begin(), c.loss.end());
      return all;
    };
    const auto one = run(1);
    for (const int threads : {2, 3, 4}) EXPECT_TRUE(oracle::same_bits(one, run(threads))) << threads << " threads";
  }
}

TEST(CrossEntropy, BadTargetsAreRefused) {
  Case c(3, 5, 2);
  for (const std::int32_t bad : {-2, 5, std::numeric_limits<std::int32_t>::min()}) {
    c.target = {0, kIgnoreTarget, bad};
    try {
      cross_entropy_forward(c.x.view(), c.w.view(), {}, c.target, c.loss, nullptr);
      ADD_FAILURE() << "accepted target " << bad;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kBadInput);
      EXPECT_THAT(e.what(), testing::HasSubstr("target id " + std::to_string(bad) + " at position 2"));
    }
  }
}

TEST(CrossEntropy, NoTokensIsLegalAndWrongShapesAreRefused) {
  Case none(0, 5, 2);
  none.run(4096);
  for (const float gradient : none.d_w.values()) EXPECT_EQ(gradient, 0.0F);
  Case c(3, 5, 2);
  CrossEntropySaved nothing;
  EXPECT_THROW(
      cross_entropy_backward(c.x.view(), c.w.view(), {}, c.target, c.d_loss, nothing, c.d_x.view(), c.d_w.view(), {}),
      Error);
  EXPECT_THROW(cross_entropy_forward(c.x.view(), c.w.view(), {}, std::span(c.target).first(2), c.loss, nullptr), Error);
  EXPECT_THROW(cross_entropy_forward(c.x.view(), c.w.view(), c.d_loss, c.target, c.loss, nullptr), Error);
}

}  // namespace
}  // namespace switchyard::kernels
