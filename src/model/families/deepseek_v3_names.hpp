#pragma once
// Tensor names of DeepSeek-V3, R1 and Kimi-K2.

#include "deepseek_v2_names.hpp"

namespace switchyard::model {

inline constexpr auto kDeepseekV3Names = join(kDeepseekV2Names, kSelectionBiasNames, kPredictionNames);

}  // namespace switchyard::model
