#pragma once
// Tensor names of ERNIE-4.5.

#include <array>

#include "family.hpp"
#include "llama_names.hpp"

namespace switchyard::model {

inline constexpr auto kErnieMoeNames =
    join(kLlamaNames, kExpertNames, kSharedExpertsNames,
         std::array{TensorRule{"layers.{i}.moe.selection_bias",
                               "model.layers.{i}.mlp.moe_statics.e_score_correction_bias", Layout::kRow}});

}  // namespace switchyard::model
