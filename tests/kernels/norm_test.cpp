#include "switchyard/kernels/norm.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

#include "kernels/each_target.hpp"
#include "oracle/compare.hpp"
#include "oracle/finite_difference.hpp"
#include "oracle/norm.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::kernels {
namespace {

using oracle::GuardedMatrix;

constexpr float kEps = 1.0e-5F;

std::vector<float> concatenate(std::vector<float> a, const std::vector<float>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(RmsNorm, MatchesOracle) {
  on_each_target([] {
    for (const Index rows : {1, 3, 33})
      for (const Index cols : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 127, 129, 1000}) {
        SCOPED_TRACE(testing::Message() << rows << " x " << cols);
        const auto values = oracle::random_values(rows * cols, 1), weight = oracle::random_values(cols, 2);
        const GuardedMatrix x(rows, cols, 3, values);
        GuardedMatrix y(rows, cols, 5, NAN);
        std::vector<float> inv_rms(static_cast<std::size_t>(rows));
        rms_norm_forward(x.view(), weight, kEps, y.view(), inv_rms);
        const auto expected =
            oracle::rms_norm(oracle::to_double(values), oracle::to_double(weight), static_cast<double>(kEps));
        EXPECT_TRUE(oracle::close(y.values(), expected, oracle::sum_tolerance(cols)));
        EXPECT_TRUE(y.untouched());
        GuardedMatrix in_place(rows, cols, 2, values);
        rms_norm_forward(in_place.view(), weight, kEps, in_place.view(), {});
        EXPECT_TRUE(oracle::same_bits(in_place.values(), y.values()));
      }
  });
}

TEST(RmsNorm, ExtremeRowsStayFinite) {
  for (const float value : {0.0F, 1.0e-20F, 1.0e15F}) {
    const std::vector<float> x(40, value), weight(40, 1.0F);
    std::vector<float> y(40);
    rms_norm_forward({x.data(), 1, 40}, weight, kEps, {y.data(), 1, 40}, {});
    const double expected =
        static_cast<double>(value) / std::sqrt(std::pow(static_cast<double>(value), 2) + static_cast<double>(kEps));
    EXPECT_TRUE(oracle::close(y, std::vector<double>(40, expected), oracle::sum_tolerance(40)));
  }
}

TEST(RmsNorm, BackwardIsTheGradient) {
  on_each_target([] {
    for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 1}, {2, 3}, {5, 17}, {34, 6}, {70, 3}}) {
      SCOPED_TRACE(testing::Message() << rows << " x " << cols);
      const auto values = oracle::random_values(rows * cols, 3), weight = oracle::random_values(cols, 4);
      const auto d_y_values = oracle::random_values(rows * cols, 5);
      const GuardedMatrix x(rows, cols, 1, values), d_y(rows, cols, 2, d_y_values);
      GuardedMatrix y(rows, cols, 0), d_x(rows, cols, 3, NAN);
      std::vector<float> inv_rms(static_cast<std::size_t>(rows)), d_weight(weight.size(), 0.0F);
      rms_norm_forward(x.view(), weight, kEps, y.view(), inv_rms);
      rms_norm_backward(x.view(), weight, inv_rms, d_y.view(), d_x.view(), d_weight);
      const auto split = static_cast<std::ptrdiff_t>(values.size());
      const auto loss = [&](const std::vector<double>& at) {
        return oracle::dot(oracle::rms_norm({at.begin(), at.begin() + split}, {at.begin() + split, at.end()},
                                            static_cast<double>(kEps)),
                           d_y_values);
      };
      EXPECT_TRUE(
          oracle::is_gradient(concatenate(d_x.values(), d_weight), loss, concatenate(values, weight), rows + cols, 2));
      EXPECT_TRUE(d_x.untouched());

      GuardedMatrix in_place(rows, cols, 0, d_y_values);
      rms_norm_backward(x.view(), weight, inv_rms, in_place.view(), in_place.view(), {});
      EXPECT_TRUE(oracle::same_bits(in_place.values(), d_x.values()));
    }
  });
}

TEST(RmsNorm, WeightGradientIsAddedTo) {
  const auto x = oracle::random_values(12, 6), d_y = oracle::random_values(12, 7);
  const std::vector<float> weight(4, 1.0F), inv_rms(3, 1.0F);
  std::vector<float> d_x(12), once(4, 0.0F), onto(4, 2.0F);
  rms_norm_backward({x.data(), 3, 4}, weight, inv_rms, {d_y.data(), 3, 4}, {d_x.data(), 3, 4}, once);
  rms_norm_backward({x.data(), 3, 4}, weight, inv_rms, {d_y.data(), 3, 4}, {d_x.data(), 3, 4}, onto);
  for (std::size_t i = 0; i < once.size(); ++i) EXPECT_EQ(onto[i], 2.0F + once[i]);
}

TEST(RmsNorm, SameBitsAtAnyThreadCount) {
  const Index rows = 200, cols = 77;
  const auto x = oracle::random_values(rows * cols, 8), weight = oracle::random_values(cols, 9);
  const auto d_y = oracle::random_values(rows * cols, 10);
  const auto run = [&](int threads) {
    std::vector<float> y(x.size()), inv_rms(static_cast<std::size_t>(rows)), d_x(x.size()), d_weight(weight.size());
    ThreadArena(threads).run([&] {
      rms_norm_forward({x.data(), rows, cols}, weight, kEps, {y.data(), rows, cols}, inv_rms);
      rms_norm_backward({x.data(), rows, cols}, weight, inv_rms, {d_y.data(), rows, cols}, {d_x.data(), rows, cols},
                        d_weight);
    });
    return concatenate(concatenate(y, inv_rms), concatenate(d_x, d_weight));
  };
  const auto one = run(1);
  for (const int threads : {2, 3, 4}) EXPECT_TRUE(oracle::same_bits(one, run(threads))) << threads << " threads";
}

TEST(RmsNorm, WrongShapesAreRefused) {
  std::vector<float> x(12), weight(4), y(12);
  const ConstMatrix x_TD(x.data(), 3, 4);
  EXPECT_THROW(rms_norm_forward(x_TD, std::span(weight).first(3), kEps, {y.data(), 3, 4}, {}), Error);
  EXPECT_THROW(rms_norm_forward(x_TD, weight, kEps, {y.data(), 4, 3}, {}), Error);
  EXPECT_THROW(rms_norm_backward(x_TD, weight, std::span(x).first(2), x_TD, {y.data(), 3, 4}, {}), Error);
  rms_norm_forward({x.data(), 0, 4}, weight, kEps, {y.data(), 0, 4}, {});
}

TEST(LayerNorm, MatchesOracle) {
  on_each_target([] {
    for (const Index rows : {1, 3, 33})
      for (const Index cols : {1, 2, 3, 5, 8, 17, 31, 32, 33, 64, 65, 127, 129, 1000})
        for (const bool biased : {false, true}) {
          SCOPED_TRACE(testing::Message() << rows << " x " << cols);
          const auto values = oracle::random_values(rows * cols, 1), weight = oracle::random_values(cols, 2);
          const auto bias = oracle::random_values(biased ? cols : 0, 3);
          const GuardedMatrix x(rows, cols, 3, values);
          GuardedMatrix y(rows, cols, 5, NAN);
          layer_norm_forward(x.view(), weight, bias, kEps, y.view());
          const auto expected = oracle::layer_norm(oracle::to_double(values), oracle::to_double(weight),
                                                   oracle::to_double(bias), static_cast<double>(kEps));
          // Two differences, two products and a sum, of whatever length.
          EXPECT_TRUE(oracle::close(y.values(), expected, oracle::sum_tolerance(1)));
          EXPECT_TRUE(y.untouched());
          GuardedMatrix in_place(rows, cols, 2, values);
          layer_norm_forward(in_place.view(), weight, bias, kEps, in_place.view());
          EXPECT_TRUE(oracle::same_bits(in_place.values(), y.values()));
        }
  });
}

TEST(LayerNorm, ARowFarFromZeroLosesNothing) {
  on_each_target([] {
    for (const float offset : {-1.0e3F, 1.0e6F}) {
      auto x = oracle::random_values(300, 4);
      for (float& value : x) value += offset;
      const std::vector<float> weight(300, 1.0F);
      std::vector<float> y(300);
      layer_norm_forward({x.data(), 1, 300}, weight, {}, kEps, {y.data(), 1, 300});
      const auto expected =
          oracle::layer_norm(oracle::to_double(x), oracle::to_double(weight), {}, static_cast<double>(kEps));
      EXPECT_TRUE(oracle::close(y, expected, oracle::sum_tolerance(1)));
    }
    const std::vector<float> same(40, 3.25F), weight(40, 1.0F), bias(40, -0.5F);
    std::vector<float> y(40);
    layer_norm_forward({same.data(), 1, 40}, weight, bias, kEps, {y.data(), 1, 40});
    EXPECT_EQ(y, bias);
  });
}

TEST(LayerNorm, BackwardIsTheGradient) {
  on_each_target([] {
    for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 2}, {2, 3}, {5, 17}, {34, 6}, {70, 3}}) {
      SCOPED_TRACE(testing::Message() << rows << " x " << cols);
      const auto values = oracle::random_values(rows * cols, 3), weight = oracle::random_values(cols, 4);
      const auto bias = oracle::random_values(cols, 6), d_y_values = oracle::random_values(rows * cols, 5);
      const GuardedMatrix x(rows, cols, 1, values), d_y(rows, cols, 2, d_y_values);
      GuardedMatrix d_x(rows, cols, 3, NAN);
      // eps of 0.1 keeps the third derivative, and with it the error of the differences, small where two values of a
      // short row lie close together.
      const float eps = 0.1F;
      std::vector<float> d_weight(weight.size(), 0.0F), d_bias(weight.size(), 0.0F);
      layer_norm_backward(x.view(), weight, eps, d_y.view(), d_x.view(), d_weight, d_bias);
      const auto n = static_cast<std::ptrdiff_t>(values.size()), c = static_cast<std::ptrdiff_t>(cols);
      const auto loss = [&](const std::vector<double>& at) {
        const auto weight_at = at.begin() + n, bias_at = weight_at + c;
        return oracle::dot(oracle::layer_norm({at.begin(), weight_at}, {weight_at, bias_at}, {bias_at, at.end()},
                                              static_cast<double>(eps)),
                           d_y_values);
      };
      EXPECT_TRUE(oracle::is_gradient(concatenate(concatenate(d_x.values(), d_weight), d_bias), loss,
                                      concatenate(concatenate(values, weight), bias), rows + cols, 2));
      EXPECT_TRUE(d_x.untouched());

      GuardedMatrix in_place(rows, cols, 0, d_y_values);
      layer_norm_backward(x.view(), weight, eps, in_place.view(), in_place.view(), {}, {});
      EXPECT_TRUE(oracle::same_bits(in_place.values(), d_x.values()));
      std::vector<float> onto(d_bias.size(), 2.0F);
      layer_norm_backward(x.view(), weight, eps, d_y.view(), d_x.view(), {}, onto);
      for (std::size_t i = 0; i < onto.size(); ++i)
        EXPECT_NEAR(onto[i] - 2.0F, d_bias[i], oracle::sum_tolerance(rows) * (2.0 + std::abs(d_bias[i])));
    }
  });
}

TEST(LayerNorm, SameBitsAtAnyThreadCount) {
  const Index rows = 200, cols = 77;
  const auto x = oracle::random_values(rows * cols, 8), weight = oracle::random_values(cols, 9);
  const auto d_y = oracle::random_values(rows * cols, 10);
  const auto run = [&](int threads) {
    std::vector<float> y(x.size()), d_x(x.size()), d_weight(weight.size()), d_bias(weight.size());
    ThreadArena(threads).run([&] {
      layer_norm_forward({x.data(), rows, cols}, weight, weight, kEps, {y.data(), rows, cols});
      layer_norm_backward({x.data(), rows, cols}, weight, kEps, {d_y.data(), rows, cols}, {d_x.data(), rows, cols},
                          d_weight, d_bias);
    });
    return concatenate(concatenate(y, d_x), concatenate(d_weight, d_bias));
  };
  const auto one = run(1);
  for (const int threads : {2, 3, 4}) EXPECT_TRUE(oracle::same_bits(one, run(threads))) << threads << " threads";
}

TEST(LayerNorm, WrongShapesAreRefused) {
  std::vector<float> x(12), weight(4), y(12);
  const ConstMatrix x_TD(x.data(), 3, 4);
  EXPECT_THROW(layer_norm_forward(x_TD, std::span(weight).first(3), {}, kEps, {y.data(), 3, 4}), Error);
  EXPECT_THROW(layer_norm_forward(x_TD, weight, std::span(weight).first(3), kEps, {y.data(), 3, 4}), Error);
  EXPECT_THROW(layer_norm_forward(x_TD, weight, {}, kEps, {y.data(), 4, 3}), Error);
  EXPECT_THROW(layer_norm_backward(x_TD, weight, kEps, x_TD, {y.data(), 3, 4}, {}, std::span(weight).first(1)), Error);
  layer_norm_forward({x.data(), 0, 4}, weight, {}, kEps, {y.data(), 0, 4});
}

}  // namespace
}  // namespace switchyard::kernels
