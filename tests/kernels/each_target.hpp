#pragma once
// Runs a check on every instruction set that was compiled and that this CPU has.

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cstdint>

namespace switchyard {

template <class F>
void on_each_target(F&& check) {
  int targets_run = 0;
  for (std::int64_t left = hwy::SupportedTargets() & HWY_TARGETS; left != 0; left &= left - 1) {
    const std::int64_t target = left & -left;
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    check();
    ++targets_run;
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
  EXPECT_GE(targets_run, 1);
}

}  // namespace switchyard
