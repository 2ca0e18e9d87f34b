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

}  // namespace switchyard::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace switchyard::kernels {
namespace {

HWY_EXPORT(rms_norm_rows);
HWY_EXPORT(rms_norm_backward_rows);

constexpr Index kRowBlock = 32;  // rows whose part of d_weight is summed before the blocks are

void check_same(const char* name, ConstMatrix m, ConstMatrix x) {
  require(m.rows == x.rows && m.cols == x.cols, "rms_norm: {} is [{}, {}], x is [{}, {}]", name, m.rows, m.cols, x.rows,
          x.cols);
}

void check_size(const char* name, std::size_t found, Index expected) {
  require(static_cast<Index>(found) == expected, "rms_norm: {} has {} values, expected {}", name, found, expected);
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
  if (parts.empty()) return;
  parallel_for(cols, 256, [&](Index begin, Index end) {
    for (Index block = 0; block < blocks; ++block)
      for (Index i = begin; i < end; ++i)
        d_weight_D[static_cast<std::size_t>(i)] += parts[static_cast<std::size_t>(block * cols + i)];
  });
}

}  // namespace switchyard::kernels
#endif  // HWY_ONCE
