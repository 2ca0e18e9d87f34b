#pragma once
// Tensor names of OLMoE.

#include "family.hpp"
#include "llama_names.hpp"

namespace switchyard::model {

inline constexpr auto kOlmoeNames = join(kLlamaNames, kExpertNames);

}  // namespace switchyard::model
