#pragma once
// Gradients by central differences in double, to check the backward of every op.

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>
#include <vector>

#include "oracle/compare.hpp"

namespace switchyard::oracle {

// A loss as a function of all the inputs that it is to be differentiated by.
using ScalarFunction = std::function<double(const std::vector<double>&)>;

// df/dx by (f(x + h) - f(x - h)) / 2h. h = cbrt(2^-53) balances truncation (h^2) with rounding (2^-53 / h): the error
// is about 2e-11 times the size of f and of its third derivative, far below that of a float32 gradient.
inline std::vector<double> finite_difference(const ScalarFunction& f, std::vector<double> x) {
  std::vector<double> gradient(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double centre = x[i];
    const double h = 4.8e-6 * std::max(1.0, std::abs(centre));
    x[i] = centre + h;
    const double above = f(x);
    x[i] = centre - h;
    const double below = f(x);
    x[i] = centre;
    gradient[i] = (above - below) / (2.0 * h);
  }
  return gradient;
}

// Whether `analytic`, a float32 gradient whose elements are sums of `terms` products over `stages` stages (see
// sum_tolerance), is the gradient of f at x. `f` is usually sum_i weight_i * oracle(x)_i for random weights.
inline testing::AssertionResult is_gradient(std::span<const float> analytic, const ScalarFunction& f,
                                            std::span<const float> x, Index terms, int stages = 1) {
  const std::vector<double> at = to_double(x);
  const double finite_difference_error = 1.0e-9 * (1.0 + std::abs(f(at)));
  return close(analytic, finite_difference(f, at), sum_tolerance(terms, stages), finite_difference_error);
}

// sum_i a_i * b_i in double.
template <class A, class B>
double dot(const A& a, const B& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

}  // namespace switchyard::oracle
