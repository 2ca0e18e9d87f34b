#include "switchyard/kernels/activation.hpp"

#include "activation_kernels.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "activation.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "simd-inl.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

HWY_BEFORE_NAMESPACE();
namespace switchyard::kernels::HWY_NAMESPACE {
namespace {

constexpr float kTailPolynomial[11] = {0.849695772F,   -0.0230092059F,   -0.0963799898F,  0.128907167F,
                                       -0.0952604635F, 0.044374035F,     -0.0105098573F,  -0.00124992487F,
                                       0.0015564264F,  -7.51411807e-05F, -0.000154960534F};

// sigmoid(x) and 1 - sigmoid(x), both to full relative accuracy: e^-|x| never overflows and nothing cancels.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void sigmoid(D d, V x, V& s, V& complement) {
  const V one = hn::Set(d, 1.0F);
  const V e = exp_fast(d, hn::Neg(hn::Abs(x)));
  const V larger = hn::Div(one, hn::Add(one, e));
  const V smaller = hn::Mul(e, larger);
  const auto negative = hn::Lt(x, hn::Zero(d));
  s = hn::IfThenElse(negative, smaller, larger);
  complement = hn::IfThenElse(negative, larger, smaller);
}

// e^(-x^2 / 2). x^2 is split into an exact square and a small rest, since rounding it would cost x^2 / 2 ulp.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V gauss(D d, V x) {
  const hn::RebindToUnsigned<D> du;
  const V high = hn::BitCast(d, hn::And(hn::BitCast(du, x), hn::Set(du, 0xFFFFF000U)));
  const V square = hn::Mul(hn::Mul(high, high), hn::Set(d, 0.5F));
  const V rest = hn::Mul(hn::Mul(hn::Sub(x, high), hn::Add(x, high)), hn::Set(d, 0.5F));
  const V y = hn::Neg(hn::Add(square, rest));
  const V shifted = hn::MulAdd(y, hn::Set(d, 1.44269504F), hn::Set(d, kRoundShift));
  const V n = hn::Sub(shifted, hn::Set(d, kRoundShift));
  V r = hn::Sub(hn::NegMulAdd(n, hn::Set(d, 0.693145752F), hn::Neg(square)), rest);
  r = hn::NegMulAdd(n, hn::Set(d, 1.42860677e-6F), r);
  return hn::IfThenZeroElse(hn::Lt(y, hn::Set(d, -87.3F)), scaled_exp(d, shifted, r));
}

// Phi(x) = (1 + erf(x / sqrt 2)) / 2, the normal distribution, to full relative accuracy also in the left tail, and
// e^(-x^2 / 2). Phi(-a) = e^(-a^2/2) P(q) / (1 + 2a) with q = (a - 4) / (a + 4): P is a Chebyshev fit within 6e-9 of
// the exact function on 0 <= a <= 14.5, beyond which Phi(-a) underflows.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V normal_distribution(D d, V x, V& e) {
  const V one = hn::Set(d, 1.0F);
  const V a = hn::Min(hn::Abs(x), hn::Set(d, 14.0F));
  e = gauss(d, a);
  const V q = hn::Div(hn::Sub(a, hn::Set(d, 4.0F)), hn::Add(a, hn::Set(d, 4.0F)));
  V p = hn::Set(d, kTailPolynomial[10]);
  for (int i = 9; i >= 0; --i) p = hn::MulAdd(p, q, hn::Set(d, kTailPolynomial[i]));
  const V tail = hn::Mul(e, hn::Div(p, hn::MulAdd(a, hn::Set(d, 2.0F), one)));
  return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(one, tail));
}

// The two factors of the clamped SwiGLU. z is the slope times the clamped gate, or its lower bound. NaN stays.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V clamped_gate(D d, Activation activation, V gate, V& z, V& s, V& complement) {
  const V limit = hn::Set(d, activation.limit);
  const V x = hn::IfThenElse(hn::Gt(gate, limit), limit, gate);
  const V lowest = hn::Set(d, -1000.0F);  // its sigmoid is 0; anything finite keeps 0 * z from being NaN
  z = hn::Mul(x, hn::Set(d, activation.slope));
  z = hn::IfThenElse(hn::Lt(z, lowest), lowest, z);
  sigmoid(d, z, s, complement);
  return hn::Mul(x, s);
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V clamped_up(D d, Activation activation, V up) {
  const V limit = hn::Set(d, activation.limit);
  const V clamped = hn::IfThenElse(hn::Gt(hn::Abs(up), limit), hn::CopySign(limit, up), up);
  return hn::Add(clamped, hn::Set(d, 1.0F));
}

constexpr float kTanhLinear = 1.59576912F, kTanhCubic = 0.0713548163F;  // 2 sqrt(2/pi), and 0.044715 times that

// x/2 (1 + tanh(y/2)) is x sigmoid(y) with y = x (a + b x^2), and nothing cancels. z gets x dy/dx. Beyond 100, where
// the sigmoid is 0 or 1, y and z stay as they are there, so that z is finite. NaN stays.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V tanh_gate(D d, V x, V& z, V& s, V& complement) {
  const V limit = hn::Set(d, 100.0F), linear = hn::Set(d, kTanhLinear), cubic = hn::Set(d, kTanhCubic);
  const V bounded = hn::IfThenElse(hn::Gt(hn::Abs(x), limit), hn::CopySign(limit, x), x);
  const V square = hn::Mul(bounded, bounded);
  z = hn::Mul(bounded, hn::MulAdd(hn::Mul(cubic, hn::Set(d, 3.0F)), square, linear));
  sigmoid(d, hn::Mul(bounded, hn::MulAdd(cubic, square, linear)), s, complement);
  return hn::Mul(x, s);
}

void forward(Activation activation, const float* gate, const float* up, float* h, Index n) {
  switch (activation.kind) {
    case Activation::Kind::kSwiGLU:
      for_each_vector(n, [=](auto d, Index i) HWY_ATTR {
        const auto x = hn::LoadU(d, gate + i);
        auto s = x, complement = x;
        sigmoid(d, x, s, complement);
        hn::StoreU(hn::Mul(hn::Mul(x, s), hn::LoadU(d, up + i)), d, h + i);
      });
      break;
    case Activation::Kind::kClampedSwiGLU:
      for_each_vector(n, [=](auto d, Index i) HWY_ATTR {
        auto z = hn::LoadU(d, gate + i), s = z, complement = z;
        const auto factor = clamped_gate(d, activation, z, z, s, complement);
        hn::StoreU(hn::Mul(factor, clamped_up(d, activation, hn::LoadU(d, up + i))), d, h + i);
      });
      break;
    case Activation::Kind::kGatedGeluTanh:
      for_each_vector(n, [=](auto d, Index i) HWY_ATTR {
        auto z = hn::LoadU(d, gate + i), s = z, complement = z;
        const auto factor = tanh_gate(d, z, z, s, complement);
        hn::StoreU(hn::Mul(factor, hn::LoadU(d, up + i)), d, h + i);
      });
      break;
    case Activation::Kind::kGELU:
      for_each_vector(n, [=](auto d, Index i) HWY_ATTR {
        const auto x = hn::LoadU(d, up + i);
        auto e = x;
        hn::StoreU(hn::Mul(x, normal_distribution(d, x, e)), d, h + i);
      });
      break;
    case Activation::Kind::kReLU:
      for_each_vector(n, [=](auto d, Index i) HWY_ATTR {
        const auto x = hn::LoadU(d, up + i);
        hn::StoreU(hn::IfThenZeroElse(hn::Le(x, hn::Zero(d)), x), d, h + i);  // NaN stays
      });
      break;
  }
}

void backward(Activation activation, const float* gate, const float* up, const float* d_h, float* d_gate, float* d_up,
              Index n) {
  switch (activation.kind) {
    case Activation::Kind::kSwiGLU:
      for_each_vector(n, [=](auto d, Index i) HWY_ATTR {
        const auto x = hn::LoadU(d, gate + i);
        const auto u = hn::LoadU(d, up + i);
        const auto dh = hn::LoadU(d, d_h + i);
        auto s = x, complement = x;
        sigmoid(d, x, s, complement);
        const auto slope = hn::Mul(s, hn::MulAdd(x, complement, hn::Set(d, 1.0F)));
        hn::StoreU(hn::Mul(hn::Mul(dh, u), slope), d, d_gate + i);
        hn::StoreU(hn::Mul(dh, hn::Mul(x, s)), d, d_up + i);
      });
      break;
    case Activation::Kind::kClampedSwiGLU:
      for_each_vector(n, [=](auto d, Index i) HWY_ATTR {
        const auto limit = hn::Set(d, activation.limit);
        const auto x = hn::LoadU(d, gate + i);
        const auto u = hn::LoadU(d, up + i);
        const auto dh = hn::LoadU(d, d_h + i);
        auto z = x, s = x, complement = x;
        const auto factor = clamped_gate(d, activation, x, z, s, complement);
        const auto slope = hn::Mul(s, hn::MulAdd(z, complement, hn::Set(d, 1.0F)));
        const auto of_gate = hn::Mul(hn::Mul(dh, clamped_up(d, activation, u)), slope);
        hn::StoreU(hn::IfThenZeroElse(hn::Gt(x, limit), of_gate), d, d_gate + i);
        hn::StoreU(hn::IfThenZeroElse(hn::Gt(hn::Abs(u), limit), hn::Mul(dh, factor)), d, d_up + i);
      });
      break;
    case Activation::Kind::kGatedGeluTanh:
      for_each_vector(n, [=](auto d, Index i) HWY_ATTR {
        const auto u = hn::LoadU(d, up + i);
        const auto dh = hn::LoadU(d, d_h + i);
        auto z = hn::LoadU(d, gate + i), s = z, complement = z;
        const auto factor = tanh_gate(d, z, z, s, complement);
        const auto slope = hn::Mul(s, hn::MulAdd(z, complement, hn::Set(d, 1.0F)));
        hn::StoreU(hn::Mul(hn::Mul(dh, u), slope), d, d_gate + i);
        hn::StoreU(hn::Mul(dh, factor), d, d_up + i);
      });
      break;
    case Activation::Kind::kGELU:
      for_each_vector(n, [=](auto d, Index i) HWY_ATTR {
        const auto x = hn::LoadU(d, up + i);
        auto e = x;
        const auto p = normal_distribution(d, x, e);
        const auto density = hn::Mul(e, hn::Set(d, 0.398942280F));  // 1 / sqrt(2 pi)
        hn::StoreU(hn::Mul(hn::LoadU(d, d_h + i), hn::MulAdd(x, density, p)), d, d_up + i);
      });
      break;
    case Activation::Kind::kReLU:
      for_each_vector(n, [=](auto d, Index i) HWY_ATTR {
        const auto x = hn::LoadU(d, up + i);
        hn::StoreU(hn::IfThenZeroElse(hn::Le(x, hn::Zero(d)), hn::LoadU(d, d_h + i)), d, d_up + i);
      });
      break;
  }
}

}  // namespace

const ActivationKernels& activations_of_target() {
  static constexpr ActivationKernels kKernels = {&forward, &backward};
  return kKernels;
}

}  // namespace switchyard::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace switchyard::kernels {

HWY_EXPORT(activations_of_target);

const ActivationKernels& activation_kernels() { return HWY_DYNAMIC_DISPATCH(activations_of_target)(); }

namespace {

constexpr Index kGrain = 16384;  // elements a task: some 10 us of work

struct Name {
  Activation::Kind kind;
  std::string_view name;
};
constexpr Name kNames[] = {{Activation::Kind::kSwiGLU, "swiglu"},
                           {Activation::Kind::kClampedSwiGLU, "clamped-swiglu"},
                           {Activation::Kind::kGatedGeluTanh, "geglu-tanh"},
                           {Activation::Kind::kGELU, "gelu"},
                           {Activation::Kind::kReLU, "relu"}};

void check_gate(Activation activation, std::span<const float> gate, std::span<const float> up) {
  require(gate.size() == (is_gated(activation) ? up.size() : 0), "activation {}: a gate of {} elements for {}",
          activation_name(activation), gate.size(), up.size());
}

}  // namespace

bool is_gated(Activation activation) {
  return activation.kind != Activation::Kind::kGELU && activation.kind != Activation::Kind::kReLU;
}

std::string_view activation_name(Activation activation) {
  for (const Name& n : kNames)
    if (n.kind == activation.kind) return n.name;
  fail(ErrorKind::kInternal, "activation {} has no name", static_cast<int>(activation.kind));
}

Activation parse_activation(std::string_view name) {
  for (const Name& n : kNames)
    if (n.name == name) return {n.kind};
  std::string names;
  for (const Name& n : kNames) fmt::format_to(std::back_inserter(names), "{}{}", names.empty() ? "" : ", ", n.name);
  fail(ErrorKind::kBadInput, "unknown activation '{}', expected one of {}", name, names);
}

void activate(Activation activation, std::span<const float> gate, std::span<const float> up, std::span<float> h) {
  check_gate(activation, gate, up);
  require(h.size() == up.size(), "activation: {} results for {} inputs", h.size(), up.size());
  const auto run = activation_kernels().forward;
  const bool gated = is_gated(activation);
  parallel_for(static_cast<Index>(up.size()), kGrain, [&](Index begin, Index end) {
    run(activation, gated ? gate.data() + begin : nullptr, up.data() + begin, h.data() + begin, end - begin);
  });
}

void activate_backward(Activation activation, std::span<const float> gate, std::span<const float> up,
                       std::span<const float> d_h, std::span<float> d_gate, std::span<float> d_up) {
  check_gate(activation, gate, up);
  require(d_h.size() == up.size() && d_up.size() == up.size() && d_gate.size() == gate.size(),
          "activation gradient: {} and {} results for {} gradients and {} inputs", d_gate.size(), d_up.size(),
          d_h.size(), up.size());
  const auto run = activation_kernels().backward;
  const bool gated = is_gated(activation);
  parallel_for(static_cast<Index>(up.size()), kGrain, [&](Index begin, Index end) {
    run(activation, gated ? gate.data() + begin : nullptr, up.data() + begin, d_h.data() + begin,
        gated ? d_gate.data() + begin : nullptr, d_up.data() + begin, end - begin);
  });
}

}  // namespace switchyard::kernels
#endif  // HWY_ONCE
