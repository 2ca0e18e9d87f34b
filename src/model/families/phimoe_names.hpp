#pragma once
// Tensor names of Phi-3.5-MoE.

#include "family.hpp"
#include "llama_names.hpp"

namespace switchyard::model {

inline constexpr std::array kNormBiasNames = {
    TensorRule{"layers.{i}.attention_norm_bias", "model.layers.{i}.input_layernorm.bias"},
    TensorRule{"layers.{i}.ffn_norm_bias", "model.layers.{i}.post_attention_layernorm.bias"},
    TensorRule{"final_norm_bias", "model.norm.bias"},
    TensorRule{"output_bias", "lm_head.bias"},
};

// transformers 5 calls the block mlp and its router router; the experts may be one by one or stacked.
inline constexpr std::array kPhimoeLaterNames = {
    TensorRule{"layers.{i}.moe.router", "model.layers.{i}.mlp.router.weight"},
    TensorRule{"layers.{i}.moe.experts.gate", "model.layers.{i}.mlp.experts.{e}.w1.weight", Layout::kPerExpert},
    TensorRule{"layers.{i}.moe.experts.up", "model.layers.{i}.mlp.experts.{e}.w3.weight", Layout::kPerExpert},
    TensorRule{"layers.{i}.moe.experts.down", "model.layers.{i}.mlp.experts.{e}.w2.weight", Layout::kPerExpert},
    TensorRule{"layers.{i}.moe.experts.gate", "model.layers.{i}.mlp.experts.gate_up_proj"},
    TensorRule{"layers.{i}.moe.experts.up", "model.layers.{i}.mlp.experts.gate_up_proj"},
    TensorRule{"layers.{i}.moe.experts.down", "model.layers.{i}.mlp.experts.down_proj"},
};

inline constexpr auto kPhimoeNames = join(kLlamaNames, kNormBiasNames, kBlockExpertNames, kPhimoeLaterNames);

}  // namespace switchyard::model
