#pragma once
// Tensor names of Grok-1. xAI published a JAX checkpoint; these are the names of its conversions.

#include "family.hpp"
#include "llama_names.hpp"

namespace switchyard::model {

// hpcai-tech/grok-1, which is also what vLLM reads.
inline constexpr std::array kGrokPortNames = {
    TensorRule{"embedding", "model.embed_tokens.weight"},
    TensorRule{"layers.{i}.attention_norm", "model.layers.{i}.pre_attn_norm.scale"},
    TensorRule{"layers.{i}.attention.q", "model.layers.{i}.attn.q_proj.weight"},
    TensorRule{"layers.{i}.attention.k", "model.layers.{i}.attn.k_proj.weight"},
    TensorRule{"layers.{i}.attention.v", "model.layers.{i}.attn.v_proj.weight"},
    TensorRule{"layers.{i}.attention.o", "model.layers.{i}.attn.o_proj.weight"},
    TensorRule{"layers.{i}.attention_post_norm", "model.layers.{i}.post_attn_norm.scale"},
    TensorRule{"layers.{i}.ffn_norm", "model.layers.{i}.pre_moe_norm.scale"},
    TensorRule{"layers.{i}.ffn_post_norm", "model.layers.{i}.post_moe_norm.scale"},
    TensorRule{"layers.{i}.moe.router", "model.layers.{i}.moe_block.gate.weight"},
    TensorRule{"layers.{i}.moe.experts.gate", "model.layers.{i}.moe_block.experts.{e}.linear.weight",
               Layout::kPerExpert},
    TensorRule{"layers.{i}.moe.experts.up", "model.layers.{i}.moe_block.experts.{e}.linear_v.weight",
               Layout::kPerExpert},
    TensorRule{"layers.{i}.moe.experts.down", "model.layers.{i}.moe_block.experts.{e}.linear_1.weight",
               Layout::kPerExpert},
    TensorRule{"final_norm", "model.norm.scale"},
    TensorRule{"output", "lm_head.weight"},
};

// As SGLang reads it, with experts named like Mixtral's.
inline constexpr std::array kGrokBlockNames = {
    TensorRule{"layers.{i}.attention_norm", "model.layers.{i}.pre_attn_norm.weight"},
    TensorRule{"layers.{i}.attention.q", "model.layers.{i}.self_attn.q_proj.weight"},
    TensorRule{"layers.{i}.attention.k", "model.layers.{i}.self_attn.k_proj.weight"},
    TensorRule{"layers.{i}.attention.v", "model.layers.{i}.self_attn.v_proj.weight"},
    TensorRule{"layers.{i}.attention.o", "model.layers.{i}.self_attn.o_proj.weight"},
    TensorRule{"layers.{i}.attention_post_norm", "model.layers.{i}.post_attn_norm.weight"},
    TensorRule{"layers.{i}.ffn_norm", "model.layers.{i}.pre_moe_norm.weight"},
    TensorRule{"layers.{i}.ffn_post_norm", "model.layers.{i}.post_moe_norm.weight"},
    TensorRule{"final_norm", "model.norm.weight"},
};

// The names of the JAX checkpoint with / turned into ., as the converter of llama.cpp takes them.
inline constexpr std::array kGrokJaxNames = {
    TensorRule{"embedding", "transformer.in_out_embed.weight"},
    TensorRule{"layers.{i}.attention_norm", "transformer.decoder_layer.{i}.rms_norm.weight"},
    TensorRule{"layers.{i}.attention.q", "transformer.decoder_layer.{i}.multi_head_attention.query.weight"},
    TensorRule{"layers.{i}.attention.k", "transformer.decoder_layer.{i}.multi_head_attention.key.weight"},
    TensorRule{"layers.{i}.attention.v", "transformer.decoder_layer.{i}.multi_head_attention.value.weight"},
    TensorRule{"layers.{i}.attention.o", "transformer.decoder_layer.{i}.multi_head_attention.linear.weight"},
    TensorRule{"layers.{i}.attention_post_norm", "transformer.decoder_layer.{i}.rms_norm_1.weight"},
    TensorRule{"layers.{i}.ffn_norm", "transformer.decoder_layer.{i}.rms_norm_2.weight"},
    TensorRule{"layers.{i}.ffn_post_norm", "transformer.decoder_layer.{i}.rms_norm_3.weight"},
    TensorRule{"layers.{i}.moe.router", "transformer.decoder_layer.{i}.router.weight"},
    TensorRule{"layers.{i}.moe.experts.gate", "transformer.decoder_layer.{i}.moe.{e}.linear.weight",
               Layout::kPerExpert},
    TensorRule{"layers.{i}.moe.experts.up", "transformer.decoder_layer.{i}.moe.{e}.linear_v.weight",
               Layout::kPerExpert},
    TensorRule{"layers.{i}.moe.experts.down", "transformer.decoder_layer.{i}.moe.{e}.linear_1.weight",
               Layout::kPerExpert},
    TensorRule{"final_norm", "transformer.rms_norm.weight"},
};

inline constexpr auto kGrokNames = join(kGrokPortNames, kGrokBlockNames, kBlockExpertNames, kGrokJaxNames);

}  // namespace switchyard::model
