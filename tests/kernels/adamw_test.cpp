#include "switchyard/kernels/adamw.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "each_target.hpp"
#include "switchyard/base/index.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/base/random.hpp"

namespace switchyard::kernels {
namespace {

struct State {
  explicit State(std::size_t n) : value(n), gradient(n), first(n), second(n) {
    const RandomStream random(1, RandomPurpose::kTest);
    for (std::size_t i = 0; i < n; ++i) {
      value[i] = random.normal(4 * i);
      gradient[i] = random.normal(4 * i + 1);
      first[i] = 0.1F * random.normal(4 * i + 2);
      second[i] = random.uniform(4 * i + 3);
    }
  }
  std::vector<float> value, gradient, first, second;
};

AdamWStep some_step() {
  AdamWStep step;
  step.gradient_scale = 0.5F;
  step.step_size = 0.01F;
  step.second_correction = 1.25F;
  step.keep = 0.999F;
  return step;
}

TEST(AdamW, AgreesWithTheFormulaInDoubleOnEveryTarget) {
  on_each_target([] {
    for (const std::size_t n : {0U, 1U, 2U, 7U, 8U, 9U, 31U, 33U, 1000U}) {
      const State before(n);
      State after(n);
      const AdamWStep s = some_step();
      adamw_update(s, after.value, after.gradient, after.first, after.second);
      for (std::size_t i = 0; i < n; ++i) {
        const double g = static_cast<double>(before.gradient[i]) * static_cast<double>(s.gradient_scale);
        const double beta1 = static_cast<double>(s.beta1), beta2 = static_cast<double>(s.beta2);
        const double m = beta1 * static_cast<double>(before.first[i]) + (1.0 - beta1) * g;
        const double v = beta2 * static_cast<double>(before.second[i]) + (1.0 - beta2) * g * g;
        const double change =
            static_cast<double>(s.step_size) * m /
            (std::sqrt(v * static_cast<double>(s.second_correction)) + static_cast<double>(s.epsilon));
        const double value = static_cast<double>(before.value[i]) * static_cast<double>(s.keep) - change;
        // A handful of roundings, each within half an ulp of the largest term.
        const double eps = 6.0 * 0x1.0p-24;
        EXPECT_NEAR(static_cast<double>(after.first[i]), m, eps * (std::abs(m) + std::abs(g))) << i;
        EXPECT_NEAR(static_cast<double>(after.second[i]), v, eps * v) << i;
        EXPECT_NEAR(
            static_cast<double>(after.value[i]), value,
            eps * (std::abs(static_cast<double>(before.value[i])) + 4.0 * std::abs(change) + 0.01 * std::abs(g)))
            << i;
        EXPECT_EQ(after.gradient[i], 0.0F);
      }
    }
  });
}

TEST(AdamW, SameBitsAtAnyThreadCount) {
  const std::size_t n = 100'003;
  State alone(n);
  ThreadArena(1).run([&] { adamw_update(some_step(), alone.value, alone.gradient, alone.first, alone.second); });
  for (const int threads : {2, 3, 4}) {
    State together(n);
    ThreadArena(threads).run(
        [&] { adamw_update(some_step(), together.value, together.gradient, together.first, together.second); });
    EXPECT_EQ(alone.value, together.value);
    EXPECT_EQ(alone.first, together.first);
    EXPECT_EQ(alone.second, together.second);
  }
}

}  // namespace
}  // namespace switchyard::kernels
