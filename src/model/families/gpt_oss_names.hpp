#pragma once
// Tensor names of gpt-oss.

#include "family.hpp"
#include "llama_names.hpp"

namespace switchyard::model {

// As transformers writes it in float types: x W, with gate and up in every other column. The published files have the
// matrices in MXFP4 instead, under these names with _blocks and _scales.
inline constexpr std::array kGptOssOwnNames = {
    TensorRule{"layers.{i}.attention.sinks", "model.layers.{i}.self_attn.sinks"},
    TensorRule{"layers.{i}.moe.router", "model.layers.{i}.mlp.router.weight"},
    TensorRule{"layers.{i}.moe.router_bias", "model.layers.{i}.mlp.router.bias"},
    TensorRule{"layers.{i}.moe.experts.gate", "model.layers.{i}.mlp.experts.gate_up_proj", Layout::kSame, true, true},
    TensorRule{"layers.{i}.moe.experts.up", "model.layers.{i}.mlp.experts.gate_up_proj", Layout::kSame, true, true},
    TensorRule{"layers.{i}.moe.experts.down", "model.layers.{i}.mlp.experts.down_proj", Layout::kSame, true},
    TensorRule{"layers.{i}.moe.experts.gate_bias", "model.layers.{i}.mlp.experts.gate_up_proj_bias", Layout::kSame,
               false, true},
    TensorRule{"layers.{i}.moe.experts.up_bias", "model.layers.{i}.mlp.experts.gate_up_proj_bias", Layout::kSame, false,
               true},
    TensorRule{"layers.{i}.moe.experts.down_bias", "model.layers.{i}.mlp.experts.down_proj_bias"},
};

inline constexpr auto kGptOssNames = join(kLlamaNames, kGptOssOwnNames);

}  // namespace switchyard::model
