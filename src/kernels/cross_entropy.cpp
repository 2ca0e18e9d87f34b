#include "switchyard/kernels/cross_entropy.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/elementwise.hpp"
#include "switchyard/kernels/matmul.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cross_entropy.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "simd-inl.hpp"

#ifndef SWITCHYARD_KERNELS_CROSS_ENTROPY_TYPES
#define SWITCHYARD_KERNELS_CROSS_ENTROPY_TYPES
namespace switchyard::kernels {
namespace {

// Of the logits of one token seen so far: the largest, and the sum of e^(logit - largest). The target's logit is
// kept beside them, because loss = (largest - target) + log(sum) loses nothing where both logits are large.
struct OnlineSum {
  float largest = -std::numeric_limits<float>::infinity();
  double sum = 0.0;
  float target = 0.0F;
};

}  // namespace
}  // namespace switchyard::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace switchyard::kernels::HWY_NAMESPACE {

void add_logits(const float* logits, Index count, OnlineSum& online) {
  const FloatTag tag;
  auto top = hn::Set(tag, online.largest);
  float largest = online.largest;
  Index i = 0;
  for (; i + lanes(tag) <= count; i += lanes(tag)) top = hn::Max(top, hn::LoadU(tag, logits + i));
  for (; i < count; ++i) largest = std::max(largest, logits[i]);
  largest = std::max(largest, hn::GetLane(hn::MaxOfLanes(tag, top)));
  const float sum = sum_of(count, [=](auto d, Index j, auto s) HWY_ATTR {
    return hn::Add(s, exp_fast(d, hn::Sub(hn::LoadU(d, logits + j), hn::Set(d, largest))));
  });
  online.sum = online.sum * std::exp(static_cast<double>(online.largest) - static_cast<double>(largest)) +
               static_cast<double>(sum);
  online.largest = largest;
}

// logit -> factor * e^(logit - log_sum)
void logits_to_gradient(float* logits, Index count, float log_sum, float factor) {
  for_each_vector(count, [=](auto d, Index i) HWY_ATTR {
    const auto p = exp_fast(d, hn::Sub(hn::LoadU(d, logits + i), hn::Set(d, log_sum)));
    hn::StoreU(hn::Mul(hn::Set(d, factor), p), d, logits + i);
  });
}

}  // namespace switchyard::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace switchyard::kernels {
namespace {

HWY_EXPORT(add_logits);
HWY_EXPORT(logits_to_gradient);

void check(ConstMatrix x_TD, const WeightView& w_VD, std::span<const float> bias_V,
           std::span<const std::int32_t> target_T, std::size_t losses, Index chunk) {
  require(bias_V.empty() || std::ssize(bias_V) == w_VD.rows, "cross entropy: a bias of {} for {} words", bias_V.size(),
          w_VD.rows);
  require(x_TD.cols == w_VD.cols && w_VD.rows >= 1 && chunk >= 1,
          "cross entropy: x is [{}, {}], w is [{}, {}], chunk is {}", x_TD.rows, x_TD.cols, w_VD.rows, w_VD.cols,
          chunk);
  require(std::ssize(target_T) == x_TD.rows && static_cast<Index>(losses) == x_TD.rows,
          "cross entropy: {} targets and {} losses for {} tokens", target_T.size(), losses, x_TD.rows);
  for (std::size_t t = 0; t < target_T.size(); ++t)
    if (target_T[t] != kIgnoreTarget && (target_T[t] < 0 || target_T[t] >= w_VD.rows))
      fail(ErrorKind::kBadInput, "target id {} at position {} is outside the vocabulary of {}", target_T[t], t,
           w_VD.rows);
}

// Tokens a task, for rows of `cols` logits.
Index grain(Index cols) { return std::max<Index>(1, 4096 / cols); }

// The logits of words [first, first + logits_TV.cols).
void chunk_logits(ConstMatrix x_TD, const WeightView& w_VD, std::span<const float> bias_V, Index first,
                  Matrix logits_TV) {
  matmul_nt(x_TD, w_VD.slice_rows(first, logits_TV.cols), logits_TV);
  if (!bias_V.empty())
    add_bias(logits_TV, bias_V.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(logits_TV.cols)));
}

// The rows [begin, begin + count) of a chunk that starts at `begin`; the last chunk is shorter.
Index chunk_rows(const WeightView& w_VD, Index begin, Index chunk) { return std::min(chunk, w_VD.rows - begin); }

}  // namespace

void cross_entropy_forward(ConstMatrix x_TD, const WeightView& w_VD, std::span<const float> bias_V,
                           std::span<const std::int32_t> target_T, std::span<float> loss_T, CrossEntropySaved* saved,
                           Index chunk) {
  check(x_TD, w_VD, bias_V, target_T, loss_T.size(), chunk);
  const Index tokens = x_TD.rows, vocabulary = w_VD.rows;
  Tensor logits = Tensor::uninitialized(DType::kF32, {tokens * std::min(chunk, vocabulary)});
  std::vector<OnlineSum> online(static_cast<std::size_t>(tokens));
  for (Index first = 0; first < vocabulary; first += chunk) {
    const Index count = chunk_rows(w_VD, first, chunk);
    const Matrix logits_TV(logits.f32().data(), tokens, count);
    chunk_logits(x_TD, w_VD, bias_V, first, logits_TV);
    parallel_for(tokens, grain(count), [&](Index begin, Index end) {
      for (Index t = begin; t < end; ++t) {
        const auto at = static_cast<std::size_t>(t);
        HWY_DYNAMIC_DISPATCH(add_logits)(logits_TV.row(t), count, online[at]);
        const Index target = target_T[at] - first;
        if (target_T[at] != kIgnoreTarget && target >= 0 && target < count) online[at].target = logits_TV(t, target);
      }
    });
  }
  for (std::size_t t = 0; t < online.size(); ++t) {
    const OnlineSum& o = online[t];
    const double loss = static_cast<double>(o.largest) - static_cast<double>(o.target) + std::log(o.sum);
    loss_T[t] = target_T[t] == kIgnoreTarget ? 0.0F : static_cast<float>(loss);
  }
  if (saved == nullptr) return;
  saved->log_sum_exp_T = Tensor::uninitialized(DType::kF32, {tokens});
  for (std::size_t t = 0; t < online.size(); ++t)
    saved->log_sum_exp_T.f32()[t] =
        static_cast<float>(static_cast<double>(online[t].largest) + std::log(online[t].sum));
  saved->logits_TV = Tensor();
  if (vocabulary > chunk) return;
  logits.reshape({tokens, vocabulary});
  saved->logits_TV = std::move(logits);
}

void cross_entropy_backward(ConstMatrix x_TD, ConstMatrix w_VD, std::span<const float> bias_V,
                            std::span<const std::int32_t> target_T, std::span<const float> d_loss_T,
                            CrossEntropySaved& saved, Matrix d_x_TD, Matrix d_w_VD, std::span<float> d_bias_V,
                            Index chunk) {
  check(x_TD, w_VD, bias_V, target_T, d_loss_T.size(), chunk);
  const Index tokens = x_TD.rows, vocabulary = w_VD.rows;
  require(saved.log_sum_exp_T.defined() && saved.log_sum_exp_T.numel() == tokens,
          "cross entropy backward: nothing was saved for these {} tokens", tokens);
  require(d_x_TD.rows == tokens && d_x_TD.cols == x_TD.cols &&
              (d_w_VD.empty() || (d_w_VD.rows == vocabulary && d_w_VD.cols == w_VD.cols)),
          "cross entropy backward: d_x is [{}, {}] and d_w [{}, {}], expected [{}, {}] and [{}, {}]", d_x_TD.rows,
          d_x_TD.cols, d_w_VD.rows, d_w_VD.cols, tokens, x_TD.cols, vocabulary, w_VD.cols);
  require(d_bias_V.empty() || std::ssize(d_bias_V) == vocabulary,
          "cross entropy backward: d_bias has {} values, expected {}", d_bias_V.size(), vocabulary);
  // Logits that were kept are one chunk, whatever `chunk` says now.
  const bool kept = saved.logits_TV.defined();
  require(!kept || saved.logits_TV.numel() == tokens * vocabulary,
          "cross entropy backward: logits of shape {} were saved, expected [{}, {}]",
          saved.logits_TV.shape().to_string(), tokens, vocabulary);
  const Index step = kept ? vocabulary : std::min(chunk, vocabulary);
  Tensor logits = kept ? std::move(saved.logits_TV) : Tensor::uninitialized(DType::kF32, {tokens * step});
  const std::span<const float> log_sum_exp = std::as_const(saved.log_sum_exp_T).f32();
  for (Index first = 0; first < vocabulary; first += step) {
    const Index count = chunk_rows(w_VD, first, step);
    const ConstMatrix w = w_VD.slice_rows(first, count);
    const Matrix d_logits_TV(logits.f32().data(), tokens, count);
    if (!kept) chunk_logits(x_TD, w_VD, bias_V, first, d_logits_TV);
    parallel_for(tokens, grain(count), [&](Index begin, Index end) {
      for (Index t = begin; t < end; ++t) {
        const auto at = static_cast<std::size_t>(t);
        float* const row = d_logits_TV.row(t);
        if (target_T[at] == kIgnoreTarget) {
          std::fill_n(row, count, 0.0F);
          continue;
        }
        HWY_DYNAMIC_DISPATCH(logits_to_gradient)(row, count, log_sum_exp[at], d_loss_T[at]);
        const Index target = target_T[at] - first;
        if (target >= 0 && target < count) row[target] -= d_loss_T[at];
      }
    });
    matmul_nn(d_logits_TV, w, d_x_TD, first == 0 ? Store::kOverwrite : Store::kAdd);
    if (!d_w_VD.empty()) matmul_tn(d_logits_TV, x_TD, d_w_VD.slice_rows(first, count), Store::kAdd);
    if (!d_bias_V.empty())
      add_bias_backward(d_logits_TV,
                        d_bias_V.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)));
  }
  saved = CrossEntropySaved();
}

}  // namespace switchyard::kernels
#endif  // HWY_ONCE
