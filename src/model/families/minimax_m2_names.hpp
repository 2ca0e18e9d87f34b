#pragma once
// Tensor names of MiniMax-M2.

#include <array>

#include "family.hpp"
#include "llama_names.hpp"

namespace switchyard::model {

inline constexpr auto kMinimaxM2Names =
    join(kLlamaNames, kBlockExpertNames,
         std::array{
             TensorRule{"layers.{i}.moe.selection_bias", "model.layers.{i}.block_sparse_moe.e_score_correction_bias"}});

}  // namespace switchyard::model
