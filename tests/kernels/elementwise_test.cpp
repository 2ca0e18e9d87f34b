#include "switchyard/kernels/elementwise.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/each_target.hpp"
#include "oracle/compare.hpp"
#include "oracle/finite_difference.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::kernels {
namespace {

using oracle::GuardedMatrix;

std::vector<std::int32_t> random_ids(Index count, Index vocabulary, std::uint32_t seed) {
  const RandomStream stream(seed, RandomPurpose::kTest);
  std::vector<std::int32_t> ids;
  for (Index i = 0; i < count; ++i)
    ids.push_back(
        static_cast<std::int32_t>(stream.below(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(vocabulary))));
  return ids;
}

// Runs f at 1 to 4 threads and expects the bits of its result to agree.
void expect_same_bits_at_any_thread_count(const std::function<std::vector<float>()>& f) {
  const auto run = [&](int threads) {
    std::vector<float> result;
    ThreadArena(threads).run([&] { result = f(); });
    return result;
  };
  const auto one = run(1);
  for (const int threads : {2, 3, 4}) EXPECT_TRUE(oracle::same_bits(one, run(threads))) << threads << " threads";
}

TEST(Embedding, CopiesRowsAndAddsGradients) {
  on_each_target([] {
    for (const Index tokens : {0, 1, 7, 100})
      for (const Index vocabulary : {1, 3, 50})
        for (const Index cols : {1, 5, 16, 33}) {
          const auto ids = random_ids(tokens, vocabulary, 1);
          const GuardedMatrix table(vocabulary, cols, 3, oracle::random_values(vocabulary * cols, 2));
          GuardedMatrix y(tokens, cols, 2, NAN);
          embedding_forward(table.view(), ids, y.view());
          for (Index t = 0; t < tokens; ++t)
            EXPECT_TRUE(oracle::same_bits(std::as_const(y).view().row_span(t),
                                          table.view().row_span(ids[static_cast<std::size_t>(t)])));
          EXPECT_TRUE(y.untouched());

          const GuardedMatrix d_y(tokens, cols, 1, oracle::random_values(tokens * cols, 3));
          GuardedMatrix d_table(vocabulary, cols, 4, 0.5F);
          embedding_backward(ids, d_y.view(), d_table.view());
          // The same sums in the promised order: equal, not close.
          std::vector<float> expected(static_cast<std::size_t>(vocabulary * cols), 0.5F);
          for (Index t = 0; t < tokens; ++t)
            for (Index c = 0; c < cols; ++c)
              expected[static_cast<std::size_t>(ids[static_cast<std::size_t>(t)] * cols + c)] += d_y.view()(t, c);
          EXPECT_TRUE(oracle::same_bits(d_table.values(), expected));
          EXPECT_TRUE(d_table.untouched());
        }
  });
}

TEST(Embedding, SameBitsAtAnyThreadCount) {
  const auto ids = random_ids(3000, 40, 4);
  const auto d_y = oracle::random_values(3000 * 33, 5);
  expect_same_bits_at_any_thread_count([&] {
    std::vector<float> d_table(40 * 33, 0.0F);
    embedding_backward(ids, {d_y.data(), 3000, 33}, {d_table.data(), 40, 33});
    return d_table;
  });
}

TEST(Embedding, IdsOutsideTheVocabularyAreRefused) {
  std::vector<float> table(12), y(8);
  for (const std::int32_t bad : {-1, 3, std::numeric_limits<std::int32_t>::max()}) {
    const std::vector<std::int32_t> ids = {2, bad};
    const auto expect_refusal = [bad](const std::function<void()>& call) {
      try {
        call();
        ADD_FAILURE() << "accepted id " << bad;
      } catch (const Error& e) {
        EXPECT_EQ(e.kind(), ErrorKind::kBadInput);
        EXPECT_THAT(e.what(), testing::AllOf(testing::HasSubstr(std::to_string(bad)), testing::HasSubstr("of 3")));
      }
    };
    expect_refusal([&] { embedding_forward(ConstMatrix(table.data(), 3, 4), ids, {y.data(), 2, 4}); });
    expect_refusal([&] { embedding_backward(ids, {y.data(), 2, 4}, {table.data(), 3, 4}); });
  }
}

TEST(Elementwise, SpansMatchTheFormulas) {
  on_each_target([] {
    for (const Index count : {0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 100, 50001}) {
      const auto a = oracle::random_values(count, 1), b = oracle::random_values(count, 2);
      GuardedMatrix y(1, count, 0, NAN);
      const std::span<float> out = y.view().row_span(0);
      std::vector<float> expected(a.size());
      std::transform(a.begin(), a.end(), b.begin(), expected.begin(), [](float p, float q) { return p + q; });
      add(a, b, out);
      EXPECT_TRUE(oracle::same_bits(y.values(), expected));
      std::copy(b.begin(), b.end(), out.begin());
      add_into(a, out);
      EXPECT_TRUE(oracle::same_bits(y.values(), expected));
      std::transform(a.begin(), a.end(), expected.begin(), [](float p) { return -1.7F * p; });
      scale(-1.7F, a, out);
      EXPECT_TRUE(oracle::same_bits(y.values(), expected));
      std::copy(b.begin(), b.end(), out.begin());
      add_scaled(-1.7F, a, out);
      std::vector<double> sum(a.size());
      for (std::size_t i = 0; i < a.size(); ++i)
        sum[i] = static_cast<double>(b[i]) + static_cast<double>(-1.7F) * static_cast<double>(a[i]);
      EXPECT_TRUE(oracle::close(y.values(), sum, 2.0 * oracle::kUnitRoundoff));
      EXPECT_TRUE(y.untouched());
    }
  });
  std::vector<float> three(3), four(4);
  EXPECT_THROW(add_into(three, four), Error);
  EXPECT_THROW(add(three, four, four), Error);
  EXPECT_THROW(scale(1.0F, three, four), Error);
  EXPECT_THROW(add_scaled(1.0F, three, four), Error);
}

TEST(Elementwise, BiasIsAddedToRowsAndItsGradientSumsThem) {
  on_each_target([] {
    for (const Index rows : {0, 1, 20})
      for (const Index cols : {1, 5, 64, 65, 150}) {
        const auto values = oracle::random_values(rows * cols, 1), bias = oracle::random_values(cols, 2);
        GuardedMatrix x(rows, cols, 3, values);
        add_bias(x.view(), bias);
        GuardedMatrix d_bias(1, cols, 0, 1.0F);
        add_bias_backward(GuardedMatrix(rows, cols, 2, values).view(), d_bias.view().row_span(0));
        std::vector<float> expected = values, expected_bias(bias.size(), 1.0F);
        for (std::size_t i = 0; i < values.size(); ++i) {
          expected[i] += bias[i % bias.size()];
          expected_bias[i % bias.size()] += values[i];
        }
        EXPECT_TRUE(oracle::same_bits(x.values(), expected));
        EXPECT_TRUE(oracle::same_bits(d_bias.values(), expected_bias));
        EXPECT_TRUE(x.untouched() && d_bias.untouched());
      }
  });
}

TEST(Dropout, FollowsTheStream) {
  const RandomStream stream(5, RandomPurpose::kDropout, 1, 2);
  for (const Index count : {0, 1, 2, 3, 4, 5, 1003})
    for (const float rate : {0.0F, 0.25F, 0.9F}) {
      const auto x = oracle::random_values(count, 1);
      GuardedMatrix y(1, count, 0, NAN);
      dropout(stream, rate, x, y.view().row_span(0));
      std::vector<float> expected;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const float uniform = static_cast<float>(stream.block(i / 4)[i % 4] >> 8) / 16777216.0F;
        expected.push_back(uniform < rate ? 0.0F : x[i] * (1.0F / (1.0F - rate)));
      }
      EXPECT_TRUE(oracle::same_bits(y.values(), expected));
      EXPECT_TRUE(y.untouched());
    }
}

TEST(Dropout, DropsTheRateAndKeepsTheMean) {
  const std::vector<float> x(100000, 1.0F);
  std::vector<float> y(x.size());
  dropout(RandomStream(6, RandomPurpose::kDropout), 0.2F, x, y);
  const auto dropped = static_cast<double>(std::count(y.begin(), y.end(), 0.0F));
  // Five standard deviations of a binomial count.
  EXPECT_NEAR(dropped, 20000.0, 5.0 * std::sqrt(100000 * 0.2 * 0.8));
  for (const float v : y) EXPECT_TRUE(v == 0.0F || v == 1.0F / (1.0F - 0.2F));
  EXPECT_THROW(dropout(RandomStream(6, RandomPurpose::kDropout), 1.0F, x, y), Error);
  EXPECT_THROW(dropout(RandomStream(6, RandomPurpose::kDropout), NAN, x, y), Error);
}

TEST(Dropout, SameBitsAtAnyThreadCount) {
  const auto x = oracle::random_values(70001, 7);
  expect_same_bits_at_any_thread_count([&] {
    std::vector<float> y = x;
    dropout(RandomStream(8, RandomPurpose::kDropout), 0.5F, y, y);
    return y;
  });
}

std::vector<double> softmax_oracle(const std::vector<double>& x_TN, Index cols) {
  std::vector<double> p;
  for (auto row = x_TN.begin(); row != x_TN.end(); row += cols) {
    const double largest = *std::max_element(row, row + cols);
    double sum = 0.0;
    for (auto x = row; x != row + cols; ++x) sum += std::exp(*x - largest);
    for (auto x = row; x != row + cols; ++x) p.push_back(std::exp(*x - largest) / sum);
  }
  return p;
}

TEST(Softmax, MatchesOracle) {
  on_each_target([] {
    for (const Index cols : {1, 2, 3, 4, 5, 8, 9, 16, 17, 33, 64, 100, 1000})
      for (const float scale : {1.0F, 10.0F, 1.0e4F}) {
        SCOPED_TRACE(testing::Message() << cols << " columns, scale " << scale);
        const auto values = oracle::random_values(5 * cols, 1, scale);
        const GuardedMatrix x(5, cols, 3, values);
        GuardedMatrix p(5, cols, 2, NAN);
        softmax_rows(x.view(), p.view());
        EXPECT_TRUE(
            oracle::close(p.values(), softmax_oracle(oracle::to_double(values), cols), oracle::sum_tolerance(cols)));
        EXPECT_TRUE(p.untouched());
        GuardedMatrix in_place(5, cols, 1, values);
        softmax_rows(in_place.view(), in_place.view());
        EXPECT_TRUE(oracle::same_bits(in_place.values(), p.values()));
      }
  });
}

TEST(Softmax, EveryValueOfTheExponentialIsWithinTwoUlp) {
  on_each_target([] {
    // e^x beside a 1 in a row of two: p = e^x / (1 + e^x), so the exponential alone is the ratio of the two.
    for (double x = -87.0; x <= 0.0; x += 0.00137) {
      const std::vector<float> row = {static_cast<float>(x), 0.0F};
      std::vector<float> p(2);
      softmax_rows({row.data(), 1, 2}, {p.data(), 1, 2});
      const double expected = std::exp(static_cast<double>(row[0]));
      const double found = static_cast<double>(p[0]) / static_cast<double>(p[1]);
      // 2 ulp of the exponential, and half an ulp each for the two products with 1 / sum.
      ASSERT_NEAR(found, expected, expected * (4.0 + 2.0) * oracle::kUnitRoundoff) << "x = " << x;
    }
  });
}

TEST(Softmax, InfinitiesAndNan) {
  const float infinity = std::numeric_limits<float>::infinity();
  on_each_target([infinity] {
    std::vector<float> row(20, -infinity), p(20);
    row[3] = row[17] = 2.0F;
    softmax_rows({row.data(), 1, 20}, {p.data(), 1, 20});
    for (std::size_t i = 0; i < p.size(); ++i) EXPECT_EQ(p[i], i == 3 || i == 17 ? 0.5F : 0.0F);
    row[5] = NAN;
    softmax_rows({row.data(), 1, 20}, {p.data(), 1, 20});
    EXPECT_TRUE(std::isnan(p[5]));
  });
}

TEST(Softmax, BackwardIsTheGradient) {
  on_each_target([] {
    for (const Index cols : {1, 2, 5, 17, 40}) {
      const auto values = oracle::random_values(3 * cols, 1), d_p_values = oracle::random_values(3 * cols, 2);
      GuardedMatrix p(3, cols, 1), d_x(3, cols, 2, NAN);
      softmax_rows({values.data(), 3, cols}, p.view());
      softmax_rows_backward(std::as_const(p).view(), {d_p_values.data(), 3, cols}, d_x.view());
      const auto loss = [&](const std::vector<double>& x) { return oracle::dot(softmax_oracle(x, cols), d_p_values); };
      // p and <p, d_p> are of the size of d_p at most, whatever cancels afterwards.
      const double absolute = oracle::max_abs(d_p_values) * oracle::sum_tolerance(cols, 2);
      EXPECT_TRUE(oracle::close(d_x.values(), oracle::finite_difference(loss, oracle::to_double(values)),
                                oracle::sum_tolerance(cols, 2), absolute + 1.0e-9));
      EXPECT_TRUE(d_x.untouched());
      GuardedMatrix in_place(3, cols, 0, d_p_values);
      softmax_rows_backward(std::as_const(p).view(), std::as_const(in_place).view(), in_place.view());
      EXPECT_TRUE(oracle::same_bits(in_place.values(), d_x.values()));
    }
  });
}

TEST(SumOfSquares, IsExactToDoubleAtAnyThreadCount) {
  on_each_target([] {
    for (const Index count : {0, 1, 3, 7, 8, 9, 4095, 4096, 4097, 100003}) {
      const auto x = oracle::random_values(count, 1);
      const double expected = oracle::dot(x, x);
      double one = 0.0;
      ThreadArena(1).run([&] { one = sum_of_squares(x); });
      EXPECT_NEAR(one, expected, expected * static_cast<double>(count) * 0x1.0p-53);
      for (const int threads : {2, 3, 4})
        ThreadArena(threads).run([&] { EXPECT_EQ(sum_of_squares(x), one) << threads << " threads"; });
    }
  });
  EXPECT_GT(sum_of_squares(std::vector<float>(10, std::numeric_limits<float>::max())), 1.0e77);
}

TEST(FirstNotFinite, FindsTheFirst) {
  EXPECT_EQ(first_not_finite({}), -1);
  std::vector<float> x(9000, std::numeric_limits<float>::max());
  EXPECT_EQ(first_not_finite(x), -1);
  x[8999] = NAN;
  EXPECT_EQ(first_not_finite(x), 8999);
  x[5000] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(first_not_finite(x), 5000);
  x[0] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(first_not_finite(x), 0);
}

}  // namespace
}  // namespace switchyard::kernels
