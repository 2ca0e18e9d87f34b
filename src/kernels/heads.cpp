#include "switchyard/kernels/heads.hpp"

#include <algorithm>
#include <cmath>

#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::kernels {
namespace {

constexpr Index kGrain = 16384;  // elements a task at least

template <class F>
void for_each_row(Index rows, Index cols, const F& f) {
  parallel_for(rows, ceil_div(kGrain, std::max<Index>(cols, 1)), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) f(t);
  });
}

void check_latent(Index heads, Index value_dim, ConstMatrix kv, ConstMatrix rope, ConstMatrix k, ConstMatrix v) {
  const Index key_dim = heads > 0 ? kv.cols / heads - value_dim : 0;
  const auto fits = [&](ConstMatrix m, Index head_width) { return m.rows == kv.rows && m.cols == heads * head_width; };
  require(
      heads >= 1 && key_dim >= 0 && value_dim >= 0 && kv.cols % heads == 0 && rope.rows == kv.rows &&
          (k.empty() || fits(k, key_dim + rope.cols)) && (v.empty() || fits(v, value_dim)),
      "latent keys and values: kv [{}, {}], rope [{}, {}], k [{}, {}], v [{}, {}], {} heads and values of {} do not "
      "fit together",
      kv.rows, kv.cols, rope.rows, rope.cols, k.rows, k.cols, v.rows, v.cols, heads, value_dim);
}

}  // namespace

void clamp(float limit, std::span<const float> x, std::span<float> y) {
  require(limit >= 0.0F && x.size() == y.size(), "clamp: limit {}, {} results for {} values", limit, y.size(),
          x.size());
  parallel_for(static_cast<Index>(x.size()), kGrain, [&](Index begin, Index end) {
    std::transform(x.begin() + begin, x.begin() + end, y.begin() + begin, [limit](float value) {
      return value > limit ? limit : value < -limit ? -limit : value;
    });
  });
}

void clamp_backward(float limit, std::span<const float> x, std::span<const float> d_y, std::span<float> d_x) {
  require(limit >= 0.0F && x.size() == d_y.size() && x.size() == d_x.size(),
          "clamp gradient: limit {}, {} results for {} values and {} gradients", limit, d_x.size(), x.size(),
          d_y.size());
  parallel_for(static_cast<Index>(x.size()), kGrain, [&](Index begin, Index end) {
    std::transform(x.begin() + begin, x.begin() + end, d_y.begin() + begin, d_x.begin() + begin,
                   [limit](float value, float d) { return std::abs(value) <= limit ? d : 0.0F; });
  });
}

void copy_matrix(ConstMatrix from, Matrix to) {
  require(from.rows == to.rows && from.cols == to.cols, "copy of [{}, {}] to [{}, {}]", from.rows, from.cols, to.rows,
          to.cols);
  for_each_row(from.rows, from.cols, [&](Index t) { std::copy_n(from.row(t), from.cols, to.row(t)); });
}

void latent_keys_values(Index heads, Index value_dim, ConstMatrix kv_THX, ConstMatrix rope_TR, Matrix k_THC,
                        Matrix v_THC) {
  check_latent(heads, value_dim, kv_THX, rope_TR, k_THC, v_THC);
  const Index key_dim = kv_THX.cols / heads - value_dim, turned = rope_TR.cols;
  for_each_row(kv_THX.rows, kv_THX.cols, [&](Index t) {
    const float* from = kv_THX.row(t);
    float* k = k_THC.row(t);
    float* v = v_THC.row(t);
    for (Index h = 0; h < heads; ++h) {
      k = std::copy_n(from, key_dim, k);
      k = std::copy_n(rope_TR.row(t), turned, k);
      v = std::copy_n(from + key_dim, value_dim, v);
      from += key_dim + value_dim;
    }
  });
}

void latent_keys_values_backward(Index heads, Index value_dim, ConstMatrix d_k_THC, ConstMatrix d_v_THC,
                                 Matrix d_kv_THX, Matrix d_rope_TR) {
  check_latent(heads, value_dim, d_kv_THX, d_rope_TR, d_k_THC, d_v_THC);
  const Index key_dim = d_kv_THX.cols / heads - value_dim, turned = d_rope_TR.cols;
  for_each_row(d_kv_THX.rows, d_kv_THX.cols, [&](Index t) {
    float* to = d_kv_THX.row(t);
    float* const d_rope = d_rope_TR.row(t);
    std::fill_n(d_rope, turned, 0.0F);
    for (Index h = 0; h < heads; ++h) {
      if (d_k_THC.empty()) {
        to = std::fill_n(to, key_dim, 0.0F);
      } else {
        const float* const d_k = d_k_THC.row(t) + h * (key_dim + turned);
        to = std::copy_n(d_k, key_dim, to);
        for (Index i = 0; i < turned; ++i) d_rope[i] += d_k[key_dim + i];
      }
      if (d_v_THC.empty()) {
        to = std::fill_n(to, value_dim, 0.0F);
      } else {
        to = std::copy_n(d_v_THC.row(t) + h * value_dim, value_dim, to);
      }
    }
  });
}

}  // namespace switchyard::kernels
