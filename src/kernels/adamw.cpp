#include "switchyard/kernels/adamw.hpp"

#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "adamw.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace switchyard::kernels::HWY_NAMESPACE {

void update(const AdamWStep& s, float* value, float* gradient, float* first, float* second, Index count) {
  for_each_vector(count, [&](auto d, Index i) HWY_ATTR {
    const auto g = hn::Mul(hn::LoadU(d, gradient + i), hn::Set(d, s.gradient_scale));
    const auto m = hn::MulAdd(hn::Set(d, s.beta1), hn::LoadU(d, first + i), hn::Mul(hn::Set(d, 1.0F - s.beta1), g));
    const auto v =
        hn::MulAdd(hn::Set(d, s.beta2), hn::LoadU(d, second + i), hn::Mul(hn::Set(d, 1.0F - s.beta2), hn::Mul(g, g)));
    const auto size = hn::Add(hn::Sqrt(hn::Mul(v, hn::Set(d, s.second_correction))), hn::Set(d, s.epsilon));
    const auto change = hn::Div(hn::Mul(hn::Set(d, s.step_size), m), size);
    hn::StoreU(hn::Sub(hn::Mul(hn::LoadU(d, value + i), hn::Set(d, s.keep)), change), d, value + i);
    hn::StoreU(m, d, first + i);
    hn::StoreU(v, d, second + i);
    hn::StoreU(hn::Zero(d), d, gradient + i);
  });
}

}  // namespace switchyard::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace switchyard::kernels {

HWY_EXPORT(update);

void adamw_update(const AdamWStep& step, std::span<float> value, std::span<float> gradient, std::span<float> first,
                  std::span<float> second) {
  require(gradient.size() == value.size() && first.size() == value.size() && second.size() == value.size(),
          "an update of {} values with {} gradients and {}, {} moments", value.size(), gradient.size(), first.size(),
          second.size());
  parallel_for(static_cast<Index>(value.size()), 16384, [&](Index begin, Index end) {
    HWY_DYNAMIC_DISPATCH(update)
    (step, value.data() + begin, gradient.data() + begin, first.data() + begin, second.data() + begin, end - begin);
  });
}

}  // namespace switchyard::kernels
#endif  // HWY_ONCE
