#pragma once
// Small ops on rows and spans.

#include <cstdint>
#include <span>

#include "switchyard/base/random.hpp"
#include "switchyard/tensor/weight.hpp"

namespace switchyard::kernels {

// y_TD[t] = table_VD[id_T[t]], decoded to float32. Ids are checked (kBadInput naming id and V).
void embedding_forward(const WeightView& table_VD, std::span<const std::int32_t> id_T, Matrix y_TD);
// d_table_VD[id] += d_y rows, each row's tokens in ascending order: the same bits at any thread count.
void embedding_backward(std::span<const std::int32_t> id_T, ConstMatrix d_y_TD, Matrix d_table_VD);

// y += x, y = a + b, y = a * x, y += a * x over whole spans.
void add_into(std::span<const float> x, std::span<float> y);
void add(std::span<const float> a, std::span<const float> b, std::span<float> y);
void scale(float a, std::span<const float> x, std::span<float> y);
void add_scaled(float a, std::span<const float> x, std::span<float> y);
// x_TN[t] += bias_N; and its gradient d_bias_N += column sums, rows in ascending order.
void add_bias(Matrix x_TN, std::span<const float> bias_N);
void add_bias_backward(ConstMatrix d_y_TN, std::span<float> d_bias_N);

// Inverted dropout: y[i] = keep ? x[i] / (1 - rate) : 0, 0 <= rate < 1. Element i is kept where word i % 4 of
// stream.block(i / 4), as a number of [0, 1) with 24 bits, is >= rate. The same call on the gradient is its backward.
// y may be x.
void dropout(const RandomStream& stream, float rate, std::span<const float> x, std::span<float> y);

// Rows to probabilities (max-shifted), and dL/dx from dL/dp. Outputs may be inputs' memory.
void softmax_rows(ConstMatrix x_TN, Matrix p_TN);
void softmax_rows_backward(ConstMatrix p_TN, ConstMatrix d_p_TN, Matrix d_x_TN);

// Sum of squares in double, in an order that does not depend on the number of threads. For gradient norms.
double sum_of_squares(std::span<const float> x);
// Index of the first value that is NaN or infinite, -1 where all are finite.
Index first_not_finite(std::span<const float> x);

}  // namespace switchyard::kernels
