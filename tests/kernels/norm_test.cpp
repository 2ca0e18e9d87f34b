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

}  // namespace
}  // namespace switchyard::kernels
