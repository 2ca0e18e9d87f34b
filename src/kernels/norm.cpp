#include "switchyard/kernels/norm.hpp"

#include <cmath>
#include <vector>

#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "norm.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace switchyard::kernels::HWY_NAMESPACE {

void rms_norm_rows(ConstMatrix x_TD, const float* weight, float eps, Matrix y_TD, float* inv_rms, Index begin,
                   Index end) {
  const Index cols = x_TD.cols;
  for (Index t = begin; t < end; ++t) {
    const float* const x = x_TD.row(t);
    float* const y = y_TD.row(t);
    const float square = sum_of(cols, [x](auto d, Index i, auto sum) HWY_ATTR {
      const auto v = hn::LoadU(d, x + i);
      return hn::MulAdd(v, v, sum);
    });
    const float inverse = 1.0F / std::sqrt(square / static_cast<float>(cols) + eps);
    if (inv_rms != nullptr) inv_rms[t] = inverse;
    for_each_vector(cols, [=](auto d, Index i) HWY_ATTR {
      const auto scaled = hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse));
      hn::StoreU(hn::Mul(scaled, hn::LoadU(d, weight + i)), d, y + i);
    });
  }
}

// d_weight, where not null, gets the sum over these rows added.
void rms_norm_backward_rows(ConstMatrix x_TD, const float* weight, const float* inv_rms, ConstMatrix d_y_TD,
                            Matrix d_x_TD, float* d_weight, Index begin, Index end) {
  const Index cols = x_TD.cols;
  for (Index t = begin; t < end; ++t) {
    const float* const x = x_TD.row(t);
    const float* const d_y = d_y_TD.row(t);
    float* const d_x = d_x_TD.row(t);
    const float inverse = inv_rms[t];
    if (d_weight != nullptr)
      for_each_vector(cols, [=](auto d, Index i) HWY_ATTR {
        const auto scaled = hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse));
        hn::StoreU(hn::MulAdd(scaled, hn::LoadU(d, d_y + i), hn::LoadU(d, d_weight + i)), d, d_weight + i);
      });
    const float projection = sum_of(cols, [=](auto d, Index i, auto sum) HWY_ATTR {
      return hn::MulAdd(hn::Mul(hn::LoadU(d, weight + i), hn::LoadU(d, d_y + i)), hn::LoadU(d, x + i), sum);
    });
    const float along = projection * inverse * inverse / static_cast<float>(cols);
    for_each_vector(cols, [=](auto d, Index i) HWY_ATTR {
      const auto direct = hn::Mul(hn::LoadU(d, weight + i), hn::LoadU(d, d_y + i));
      const auto rest = hn::NegMulAdd(hn::Set(d, along), hn::LoadU(d, x + i), direct);
      hn::StoreU(hn::Mul(hn::Set(d, inverse), rest), d, d_x + i);
    });
  }
}

// Sums what term(x) gives for the values of a row, in double: four chains of vectors, then single elements.
template <class F>
HWY_INLINE double sum_in_double(const float* x, Index count, F&& term) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> df;
  const auto n = static_cast<Index>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  Index i = 0;
  for (; i + 4 * n <= count; i += 4 * n) {
    s0 = hn::Add(s0, term(d, hn::PromoteTo(d, hn::LoadU(df, x + i))));
    s1 = hn::Add(s1, term(d, hn::PromoteTo(d, hn::LoadU(df, x + i + n))));
    s2 = hn::Add(s2, term(d, hn::PromoteTo(d, hn::LoadU(df, x + i + 2 * n))));
    s3 = hn::Add(s3, term(d, hn::PromoteTo(d, hn::LoadU(df, x + i + 3 * n))));
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  const hn::CappedTag<double, 1> one;
  for (; i < count; ++i) sum += hn::GetLane(term(one, hn::Set(one, static_cast<double>(x[i]))));
  return sum;
}

// The mean of a row as a float and what that leaves over, and 1 / sqrt(variance + eps). x - centre is exact where the
// row is far from zero, and then - rest brings it to x - mean.
struct RowStatistics {
  float centre, rest, inverse;

  RowStatistics(const float* x, Index count, float eps) {
    const double mean = sum_in_double(x, count, [](auto, auto v) HWY_ATTR { return v; }) / static_cast<double>(count);
    const double squares = sum_in_double(x, count, [mean](auto d, auto v) HWY_ATTR {
      const auto apart = hn::Sub(v, hn::Set(d, mean));
      return hn::Mul(apart, apart);
    });
    centre = static_cast<float>(mean);
    rest = static_cast<float>(mean - static_cast<double>(centre));
    inverse = static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(count) + static_cast<double>(eps)));
  }
  // The normalised values of a row from i on.
  template <class D>
  HWY_INLINE hn::Vec<D> at(D d, const float* x, Index i) const {
    const auto apart = hn::Sub(hn::Sub(hn::LoadU(d, x + i), hn::Set(d, centre)), hn::Set(d, rest));
    return hn::Mul(apart, hn::Set(d, inverse));
  }
};

void layer_norm_rows(ConstMatrix x_TD, const float* weight, const float* bias, float eps, Matrix y_TD, Index begin,
                     Index end) {
  for (Index t = begin; t < end; ++t) {
    const float* const x = x_TD.row(t);
    float* const y = y_TD.row(t);
    const RowStatistics row(x, x_TD.cols, eps);
    for_each_vector(x_TD.cols, [=](auto d, Index i) HWY_ATTR {
      const auto scaled = hn::Mul(row.at(d, x, i), hn::LoadU(d, weight + i));
      hn::StoreU(bias == nullptr ? scaled : hn::Add(scaled, hn::LoadU(d, bias + i)), d, y + i);
    });
  }
}

// d_weight and d_bias, where not null, get the sums over these rows added.
void layer_norm_backward_rows(ConstMatrix x_TD, const float* weight, float eps, ConstMatrix d_y_TD, Matrix d_x_TD,
                              float* d_weight, float* d_bias, Index begin, Index end) {
  const Index cols = x_TD.cols;
  for (Index t = begin; t < end; ++t) {
    const float* const x = x_TD.row(t);
    const float* const d_y = d_y_TD.row(t);
    float* const d_x = d_x_TD.row(t);
    const RowStatistics row(x, cols, eps);
    if (d_weight != nullptr)
      for_each_vector(cols, [=](auto d, Index i) HWY_ATTR {
        hn::StoreU(hn::MulAdd(row.at(d, x, i), hn::LoadU(d, d_y + i), hn::LoadU(d, d_weight + i)), d, d_weight + i);
      });
    if (d_bias != nullptr)
      for_each_vector(cols, [=](auto d, Index i) HWY_ATTR {
        hn::StoreU(hn::Add(hn::LoadU(d, d_y + i), hn::LoadU(d, d_bias + i)), d, d_bias + i);
      });
    const float mean =
        sum_of(cols, [=](auto d, Index i, auto sum)
                         HWY_ATTR { return hn::MulAdd(hn::LoadU(d, weight + i), hn::LoadU(d, d_y + i), sum); }) /
        static_cast<float>(cols);
    const float along =
        sum_of(cols,
               [=](auto d, Index i, auto sum) HWY_ATTR {
                 return hn::MulAdd(hn::Mul(hn::LoadU(d, weight + i), hn::LoadU(d, d_y + i)), row.at(d, x, i), sum);
               }) /
        static_cast<float>(cols);
    for_each_vector(cols, [=](auto d, Index i) HWY_ATTR {
      const auto direct = hn::MulSub(hn::LoadU(d, weight + i), hn::LoadU(d, d_y + i), hn::Set(d, mean));
      const auto across = hn::NegMulAdd(hn::Set(d, along), row.at(d, x, i), direct);
      hn::StoreU(hn::Mul(hn::Set(d, row.inverse), across), d, d_x + i);
    });
  }
}

}  // namespace switchyard::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace switchyard::kernels {
namespace {

HWY_EXPORT(rms_norm_rows);
HWY_EXPORT(rms_norm_backward_rows);
HWY_EXPORT(layer_norm_rows);
HWY_EXPORT(layer_norm_backward_rows);

constexpr Index kRowBlock = 32;  // rows whose part of a parameter's gradient is summed before the blocks are

void check_same(const char* name, ConstMatrix m, ConstMatrix x) {
  require(m.rows == x.rows && m.cols == x.cols, "norm: {} is [{}, {}], x is [{}, {}]", name, m.rows, m.cols, x.rows,
          x.cols);
}

void check_size(const char* name, std::size_t found, Index expected) {
  require(static_cast<Index>(found) == expected, "norm: {} has {} values, expected {}", name, found, expected);
}

// to[i] += the blocks' parts of element i, in order.
void add_parts(const std::vector<float>& parts, std::span<float> to) {
  const auto cols = static_cast<Index>(to.size());
  if (parts.empty()) return;
  parallel_for(cols, 256, [&](Index begin, Index end) {
    for (Index block = 0; block < static_cast<Index>(parts.size()) / cols; ++block)
      for (Index i = begin; i < end; ++i)
        to[static_cast<std::size_t>(i)] += parts[static_cast<std::size_t>(block * cols + i)];
  });
}

}  // namespace

void rms_norm_forward(ConstMatrix x_TD, std::span<const float> weight_D, float eps, Matrix y_TD,
                      std::span<float> inv_rms_T) {
  check_same("y", y_TD, x_TD);
  check_size("weight", weight_D.size(), x_TD.cols);
  if (!inv_rms_T.empty()) check_size("inv_rms", inv_rms_T.size(), x_TD.rows);
  if (x_TD.empty()) return;
  float* const inv_rms = inv_rms_T.empty() ? nullptr : inv_rms_T.data();
  parallel_for(x_TD.rows, kRowBlock, [&](Index begin, Index end) {
    HWY_DYNAMIC_DISPATCH(rms_norm_rows)(x_TD, weight_D.data(), eps, y_TD, inv_rms, begin, end);
  });
}

void rms_norm_backward(ConstMatrix x_TD, std::span<const float> weight_D, std::span<const float> inv_rms_T,
                       ConstMatrix d_y_TD, Matrix d_x_TD, std::span<float> d_weight_D) {
  check_same("d_y", d_y_TD, x_TD);
  check_same("d_x", d_x_TD, x_TD);
  check_size("weight", weight_D.size(), x_TD.cols);
  check_size("inv_rms", inv_rms_T.size(), x_TD.rows);
  if (!d_weight_D.empty()) check_size("d_weight", d_weight_D.size(), x_TD.cols);
  if (x_TD.empty()) return;
  const Index blocks = ceil_div(x_TD.rows, kRowBlock), cols = x_TD.cols;
  std::vector<float> parts(d_weight_D.empty() ? 0 : static_cast<std::size_t>(blocks * cols), 0.0F);
  parallel_for(blocks, 1, [&](Index begin, Index end) {
    for (Index block = begin; block < end; ++block) HWY_DYNAMIC_DISPATCH(rms_norm_backward_rows)
    (x_TD, weight_D.data(), inv_rms_T.data(), d_y_TD, d_x_TD, parts.empty() ? nullptr : parts.data() + block * cols,
     block * kRowBlock, std::min((block + 1) * kRowBlock, x_TD.rows));
  });
  add_parts(parts, d_weight_D);
}

void layer_norm_forward(ConstMatrix x_TD, std::span<const float> weight_D, std::span<const float> bias_D, float eps,
                        Matrix y_TD) {
  check_same("y", y_TD, x_TD);
  check_size("weight", weight_D.size(), x_TD.cols);
  if (!bias_D.empty()) check_size("bias", bias_D.size(), x_TD.cols);
  if (x_TD.empty()) return;
  const float* const bias = bias_D.empty() ? nullptr : bias_D.data();
  parallel_for(x_TD.rows, kRowBlock, [&](Index begin, Index end) {
    HWY_DYNAMIC_DISPATCH(layer_norm_rows)(x_TD, weight_D.data(), bias, eps, y_TD, begin, end);
  });
}

void layer_norm_backward(ConstMatrix x_TD, std::span<const float> weight_D, float eps, ConstMatrix d_y_TD,
                         Matrix d_x_TD, std::span<float> d_weight_D, std::span<float> d_bias_D) {
  check_same("d_y", d_y_TD, x_TD);
  check_same("d_x", d_x_TD, x_TD);
  check_size("weight", weight_D.size(), x_TD.cols);
  if (!d_weight_D.empty()) check_size("d_weight", d_weight_D.size(), x_TD.cols);
  if (!d_bias_D.empty()) check_size("d_bias", d_bias_D.size(), x_TD.cols);
  if (x_TD.empty()) return;
  const Index blocks = ceil_div(x_TD.rows, kRowBlock), cols = x_TD.cols;
  const auto floats = static_cast<std::size_t>(blocks * cols);
  std::vector<float> weight_parts(d_weight_D.empty() ? 0 : floats, 0.0F);
  std::vector<float> bias_parts(d_bias_D.empty() ? 0 : floats, 0.0F);
  const auto part = [cols](std::vector<float>& parts, Index block) {
    return parts.empty() ? nullptr : parts.data() + block * cols;
  };
  parallel_for(blocks, 1, [&](Index begin, Index end) {
    for (Index block = begin; block < end; ++block) HWY_DYNAMIC_DISPATCH(layer_norm_backward_rows)
    (x_TD, weight_D.data(), eps, d_y_TD, d_x_TD, part(weight_parts, block), part(bias_parts, block), block * kRowBlock,
     std::min((block + 1) * kRowBlock, x_TD.rows));
  });
  add_parts(weight_parts, d_weight_D);
  add_parts(bias_parts, d_bias_D);
}

}  // namespace switchyard::kernels
#endif  // HWY_ONCE
