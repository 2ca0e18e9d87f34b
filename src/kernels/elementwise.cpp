#include "switchyard/kernels/elementwise.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/decode.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "elementwise.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace switchyard::kernels::HWY_NAMESPACE {

void add_span(const float* a, const float* b, float* y, Index count) {
  for_each_vector(count, [=](auto d, Index i)
                             HWY_ATTR { hn::StoreU(hn::Add(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, y + i); });
}

void scale_span(float a, const float* x, float* y, Index count) {
  for_each_vector(count,
                  [=](auto d, Index i) HWY_ATTR { hn::StoreU(hn::Mul(hn::Set(d, a), hn::LoadU(d, x + i)), d, y + i); });
}

void add_scaled_span(float a, const float* x, float* y, Index count) {
  for_each_vector(count, [=](auto d, Index i) HWY_ATTR {
    hn::StoreU(hn::MulAdd(hn::Set(d, a), hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
  });
}

void softmax_row(const float* x, float* p, Index cols) {
  const FloatTag tag;
  auto top = hn::Set(tag, -std::numeric_limits<float>::infinity());
  float largest = -std::numeric_limits<float>::infinity();
  Index i = 0;
  for (; i + lanes(tag) <= cols; i += lanes(tag)) top = hn::Max(top, hn::LoadU(tag, x + i));
  for (; i < cols; ++i) largest = std::max(largest, x[i]);
  largest = std::max(largest, hn::GetLane(hn::MaxOfLanes(tag, top)));
  for_each_vector(cols, [=](auto d, Index j) HWY_ATTR {
    hn::StoreU(exp_fast(d, hn::Sub(hn::LoadU(d, x + j), hn::Set(d, largest))), d, p + j);
  });
  const float sum = sum_of(cols, [p](auto d, Index j, auto s) HWY_ATTR { return hn::Add(s, hn::LoadU(d, p + j)); });
  scale_span(1.0F / sum, p, p, cols);
}

// d_x = p * (d_p - <p, d_p>)
void softmax_backward_row(const float* p, const float* d_p, float* d_x, Index cols) {
  const float mean = sum_of(cols, [=](auto d, Index i, auto s)
                                      HWY_ATTR { return hn::MulAdd(hn::LoadU(d, p + i), hn::LoadU(d, d_p + i), s); });
  for_each_vector(cols, [=](auto d, Index i) HWY_ATTR {
    hn::StoreU(hn::Mul(hn::LoadU(d, p + i), hn::Sub(hn::LoadU(d, d_p + i), hn::Set(d, mean))), d, d_x + i);
  });
}

double squares_of(const float* x, Index count) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> df;
  const auto n = static_cast<Index>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = s0;
  Index i = 0;
  for (; i + 2 * n <= count; i += 2 * n) {
    const auto a = hn::PromoteTo(d, hn::LoadU(df, x + i)), b = hn::PromoteTo(d, hn::LoadU(df, x + i + n));
    s0 = hn::MulAdd(a, a, s0);
    s1 = hn::MulAdd(b, b, s1);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
  for (; i < count; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

}  // namespace switchyard::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace switchyard::kernels {
namespace {

HWY_EXPORT(add_span);
HWY_EXPORT(scale_span);
HWY_EXPORT(add_scaled_span);
HWY_EXPORT(softmax_row);
HWY_EXPORT(softmax_backward_row);
HWY_EXPORT(squares_of);

constexpr Index kGrain = 16384;          // elements a task at least
constexpr Index kReductionBlock = 4096;  // elements summed before the blocks are

void check_sizes(const char* op, Index a, Index b) { require(a == b, "{}: sizes {} and {} differ", op, a, b); }

void check_same(const char* op, ConstMatrix a, ConstMatrix b) {
  require(a.rows == b.rows && a.cols == b.cols, "{}: shapes [{}, {}] and [{}, {}] differ", op, a.rows, a.cols, b.rows,
          b.cols);
}

void check_ids(std::span<const std::int32_t> id_T, Index vocabulary) {
  for (std::size_t t = 0; t < id_T.size(); ++t)
    if (id_T[t] < 0 || id_T[t] >= vocabulary)
      fail(ErrorKind::kBadInput, "token id {} at position {} is outside the vocabulary of {}", id_T[t], t, vocabulary);
}

Index rows_of_grain(Index cols) { return std::max<Index>(1, kGrain / std::max<Index>(1, cols)); }

}  // namespace

void embedding_forward(const WeightView& table_VD, std::span<const std::int32_t> id_T, Matrix y_TD) {
  require(y_TD.rows == std::ssize(id_T) && y_TD.cols == table_VD.cols, "embedding: y is [{}, {}], expected [{}, {}]",
          y_TD.rows, y_TD.cols, id_T.size(), table_VD.cols);
  check_ids(id_T, table_VD.rows);
  parallel_for(y_TD.rows, rows_of_grain(y_TD.cols), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) decode(table_VD, id_T[static_cast<std::size_t>(t)], 0, y_TD.slice_rows(t, 1));
  });
}

void embedding_backward(std::span<const std::int32_t> id_T, ConstMatrix d_y_TD, Matrix d_table_VD) {
  require(d_y_TD.rows == std::ssize(id_T) && d_y_TD.cols == d_table_VD.cols,
          "embedding: d_y is [{}, {}], expected [{}, {}]", d_y_TD.rows, d_y_TD.cols, id_T.size(), d_table_VD.cols);
  check_ids(id_T, d_table_VD.rows);
  // Tokens in the order of their ids, those of one id in their own order; each id's row then has one writer.
  std::vector<std::pair<std::int32_t, std::int32_t>> order;
  order.reserve(id_T.size());
  for (std::size_t t = 0; t < id_T.size(); ++t) order.emplace_back(id_T[t], static_cast<std::int32_t>(t));
  std::sort(order.begin(), order.end());
  std::vector<std::size_t> run_begin;
  for (std::size_t i = 0; i < order.size(); ++i)
    if (i == 0 || order[i].first != order[i - 1].first) run_begin.push_back(i);
  const Index runs = std::ssize(run_begin);
  run_begin.push_back(order.size());
  const auto add_rows = HWY_DYNAMIC_DISPATCH(add_span);
  const Index rows_a_run = runs == 0 ? 1 : ceil_div(std::ssize(order), runs);
  parallel_for(runs, rows_of_grain(d_y_TD.cols * rows_a_run), [&](Index begin, Index end) {
    for (auto run = static_cast<std::size_t>(begin); run < static_cast<std::size_t>(end); ++run)
      for (std::size_t i = run_begin[run]; i < run_begin[run + 1]; ++i) {
        float* const to = d_table_VD.row(order[i].first);
        add_rows(to, d_y_TD.row(order[i].second), to, d_y_TD.cols);
      }
  });
}

void add_into(std::span<const float> x, std::span<float> y) { add(x, y, y); }

void add(std::span<const float> a, std::span<const float> b, std::span<float> y) {
  check_sizes("add", std::ssize(a), std::ssize(y));
  check_sizes("add", std::ssize(b), std::ssize(y));
  parallel_for(std::ssize(y), kGrain, [&](Index begin, Index end) {
    HWY_DYNAMIC_DISPATCH(add_span)(a.data() + begin, b.data() + begin, y.data() + begin, end - begin);
  });
}

void scale(float a, std::span<const float> x, std::span<float> y) {
  check_sizes("scale", std::ssize(x), std::ssize(y));
  parallel_for(std::ssize(y), kGrain, [&](Index begin, Index end) {
    HWY_DYNAMIC_DISPATCH(scale_span)(a, x.data() + begin, y.data() + begin, end - begin);
  });
}

void add_scaled(float a, std::span<const float> x, std::span<float> y) {
  check_sizes("add_scaled", std::ssize(x), std::ssize(y));
  parallel_for(std::ssize(y), kGrain, [&](Index begin, Index end) {
    HWY_DYNAMIC_DISPATCH(add_scaled_span)(a, x.data() + begin, y.data() + begin, end - begin);
  });
}

void add_bias(Matrix x_TN, std::span<const float> bias_N) {
  check_sizes("add_bias", x_TN.cols, std::ssize(bias_N));
  parallel_for(x_TN.rows, rows_of_grain(x_TN.cols), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t)
      HWY_DYNAMIC_DISPATCH(add_span)(x_TN.row(t), bias_N.data(), x_TN.row(t), x_TN.cols);
  });
}

void add_bias_backward(ConstMatrix d_y_TN, std::span<float> d_bias_N) {
  check_sizes("add_bias_backward", d_y_TN.cols, std::ssize(d_bias_N));
  parallel_for(d_y_TN.cols, 64, [&](Index begin, Index end) {
    float* const to = d_bias_N.data() + begin;
    for (Index t = 0; t < d_y_TN.rows; ++t) HWY_DYNAMIC_DISPATCH(add_span)(to, d_y_TN.row(t) + begin, to, end - begin);
  });
}

void dropout(const RandomStream& stream, float rate, std::span<const float> x, std::span<float> y) {
  check_sizes("dropout", std::ssize(x), std::ssize(y));
  require(rate >= 0.0F && rate < 1.0F, "dropout: rate {} is not in [0, 1)", rate);
  const float kept = 1.0F / (1.0F - rate);
  parallel_for(ceil_div(std::ssize(y), 4), kGrain / 16, [&](Index begin, Index end) {
    for (Index block = begin; block < end; ++block) {
      const auto words = stream.block(static_cast<std::uint64_t>(block));
      const auto first = static_cast<std::size_t>(4 * block);
      for (std::size_t i = 0; i < std::min<std::size_t>(4, y.size() - first); ++i) {
        const float uniform = static_cast<float>(words[i] >> 8) * 0x1.0p-24F;
        y[first + i] = uniform >= rate ? x[first + i] * kept : 0.0F;
      }
    }
  });
}

void softmax_rows(ConstMatrix x_TN, Matrix p_TN) {
  check_same("softmax_rows", x_TN, p_TN);
  if (x_TN.empty()) return;
  parallel_for(x_TN.rows, rows_of_grain(4 * x_TN.cols), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) HWY_DYNAMIC_DISPATCH(softmax_row)(x_TN.row(t), p_TN.row(t), x_TN.cols);
  });
}

void softmax_rows_backward(ConstMatrix p_TN, ConstMatrix d_p_TN, Matrix d_x_TN) {
  check_same("softmax_rows_backward", p_TN, d_p_TN);
  check_same("softmax_rows_backward", p_TN, d_x_TN);
  parallel_for(p_TN.rows, rows_of_grain(2 * p_TN.cols), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t)
      HWY_DYNAMIC_DISPATCH(softmax_backward_row)(p_TN.row(t), d_p_TN.row(t), d_x_TN.row(t), p_TN.cols);
  });
}

double sum_of_squares(std::span<const float> x) {
  const Index blocks = ceil_div(std::ssize(x), kReductionBlock);
  std::vector<double> parts(static_cast<std::size_t>(blocks));
  parallel_for(blocks, kGrain / kReductionBlock, [&](Index begin, Index end) {
    for (Index block = begin; block < end; ++block) {
      const Index first = block * kReductionBlock;
      parts[static_cast<std::size_t>(block)] =
          HWY_DYNAMIC_DISPATCH(squares_of)(x.data() + first, std::min(kReductionBlock, std::ssize(x) - first));
    }
  });
  double sum = 0.0;
  for (const double part : parts) sum += part;
  return sum;
}

Index first_not_finite(std::span<const float> x) {
  // The sum of squares in double of finite floats cannot overflow, so it is finite exactly where every value is.
  if (std::isfinite(sum_of_squares(x))) return -1;
  const auto at = std::find_if(x.begin(), x.end(), [](float value) { return !std::isfinite(value); });
  return at - x.begin();
}

}  // namespace switchyard::kernels
#endif  // HWY_ONCE
