#pragma once
// How tests compare float32 results with references in double, and where they get their inputs.
//
// Tolerances are relative to the size of the whole result, not of one element: an element that cancels to near zero
// keeps the rounding error of its terms. A float32 sum of n terms with random signs has an error of about
// u * sqrt(n) times its own typical size, u = 2^-24 (Higham and Mary 2019, doi 10.1137/18M1226312).

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "switchyard/base/random.hpp"
#include "switchyard/tensor/view.hpp"

namespace switchyard::oracle {

inline constexpr double kUnitRoundoff = 0x1.0p-24;  // of float32

// The relative tolerance of a result whose elements are sums of `terms` rounded products and which went through
// `stages` such sums one after another. The factor 8 is the lambda of the cited bound: failure by chance is below
// 1e-13 an element.
inline double sum_tolerance(Index terms, int stages = 1) {
  return 8.0 * kUnitRoundoff * stages * std::sqrt(static_cast<double>(std::max<Index>(terms, 1)));
}

// `count` values from the standard normal distribution, times `scale`.
inline std::vector<float> random_values(Index count, std::uint32_t seed, float scale = 1.0F) {
  const RandomStream stream(seed, RandomPurpose::kTest);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = scale * stream.normal(i);
  return values;
}

inline std::vector<double> to_double(std::span<const float> values) { return {values.begin(), values.end()}; }

template <class T>
double max_abs(const T& values) {
  double largest = 0.0;
  for (const auto v : values) largest = std::max(largest, std::abs(static_cast<double>(v)));
  return largest;
}

// Every |actual - expected| <= relative * max|expected| + absolute, and no NaN. Reports the worst element.
inline testing::AssertionResult close(std::span<const float> actual, std::span<const double> expected, double relative,
                                      double absolute = 0.0) {
  if (actual.size() != expected.size())
    return testing::AssertionFailure() << "sizes " << actual.size() << " and " << expected.size();
  const double limit = relative * max_abs(expected) + absolute;
  double worst = -1.0;
  std::size_t worst_at = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double difference = std::abs(static_cast<double>(actual[i]) - expected[i]);
    if (!std::isfinite(difference))
      return testing::AssertionFailure() << "element " << i << " is " << actual[i] << ", expected " << expected[i];
    if (difference > worst) {
      worst = difference;
      worst_at = i;
    }
  }
  if (worst <= limit) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "element " << worst_at << " of " << actual.size() << " is " << actual[worst_at]
                                     << ", expected " << expected[worst_at] << ": differs by " << worst << ", limit "
                                     << limit;
}

// The same bits everywhere (so NaN equals itself and 0 differs from -0).
inline testing::AssertionResult same_bits(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return testing::AssertionFailure() << "sizes " << a.size() << " and " << b.size();
  for (std::size_t i = 0; i < a.size(); ++i)
    if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i]))
      return testing::AssertionFailure() << "element " << i << " of " << a.size() << ": " << a[i] << " and " << b[i];
  return testing::AssertionSuccess();
}

// A matrix inside a larger block of memory that is filled with a mark: before, after, and between the rows where the
// stride is larger than the width. untouched() tells whether a kernel wrote outside the matrix.
class GuardedMatrix {
 public:
  GuardedMatrix(Index rows, Index cols, Index row_gap = 0, float fill = 0.0F)
      : rows_(rows),
        cols_(cols),
        stride_(cols + row_gap),
        memory_(static_cast<std::size_t>(rows * stride_ + 2 * kGuard), kMark) {
    for (Index i = 0; i < rows_; ++i) std::fill_n(view().row(i), cols_, fill);
  }
  // Filled with row-major `values`.
  GuardedMatrix(Index rows, Index cols, Index row_gap, std::span<const float> values)
      : GuardedMatrix(rows, cols, row_gap) {
    for (Index i = 0; i < rows_; ++i) std::copy_n(values.data() + i * cols_, cols_, view().row(i));
  }

  Matrix view() { return {memory_.data() + kGuard, rows_, cols_, stride_}; }
  ConstMatrix view() const { return {memory_.data() + kGuard, rows_, cols_, stride_}; }
  // The elements, row-major and without gaps.
  std::vector<float> values() const {
    std::vector<float> out;
    for (Index i = 0; i < rows_; ++i) out.insert(out.end(), view().row(i), view().row(i) + cols_);
    return out;
  }
  bool untouched() const {
    for (Index i = 0; i < static_cast<Index>(memory_.size()); ++i) {
      const Index at = i - kGuard;
      const bool inside = at >= 0 && at < rows_ * stride_ && at % stride_ < cols_;
      if (!inside && memory_[static_cast<std::size_t>(i)] != kMark) return false;
    }
    return true;
  }

 private:
  static constexpr Index kGuard = 64;
  static constexpr float kMark = -1.5e33F;
  Index rows_, cols_, stride_;
  std::vector<float> memory_;
};

}  // namespace switchyard::oracle
