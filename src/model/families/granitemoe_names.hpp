#pragma once
// Tensor names of Granite-MoE.

#include "family.hpp"
#include "llama_names.hpp"

namespace switchyard::model {

inline constexpr std::array kGraniteExpertNames = {
    TensorRule{"layers.{i}.moe.router", "model.layers.{i}.block_sparse_moe.router.layer.weight"},
    TensorRule{"layers.{i}.moe.experts.gate", "model.layers.{i}.block_sparse_moe.input_linear.weight"},
    TensorRule{"layers.{i}.moe.experts.up", "model.layers.{i}.block_sparse_moe.input_linear.weight"},
    TensorRule{"layers.{i}.moe.experts.down", "model.layers.{i}.block_sparse_moe.output_linear.weight"},
};

inline constexpr auto kGraniteMoeNames = join(kLlamaNames, kGraniteExpertNames);

}  // namespace switchyard::model
