#pragma once
// Tensor names of DBRX.

#include "family.hpp"
#include "llama_names.hpp"

namespace switchyard::model {

// q, k and v are the rows of one matrix. The experts' rows follow each other; w2 is multiplied from the other side than
// w1 and v1.
inline constexpr std::array kDbrxNames = {
    TensorRule{"embedding", "transformer.wte.weight"},
    TensorRule{"layers.{i}.attention_norm", "transformer.blocks.{i}.norm_attn_norm.norm_1.weight"},
    TensorRule{"layers.{i}.attention.q", "transformer.blocks.{i}.norm_attn_norm.attn.Wqkv.weight"},
    TensorRule{"layers.{i}.attention.k", "transformer.blocks.{i}.norm_attn_norm.attn.Wqkv.weight"},
    TensorRule{"layers.{i}.attention.v", "transformer.blocks.{i}.norm_attn_norm.attn.Wqkv.weight"},
    TensorRule{"layers.{i}.attention.o", "transformer.blocks.{i}.norm_attn_norm.attn.out_proj.weight"},
    TensorRule{"layers.{i}.ffn_norm", "transformer.blocks.{i}.norm_attn_norm.norm_2.weight"},
    TensorRule{"layers.{i}.moe.router", "transformer.blocks.{i}.ffn.router.layer.weight"},
    TensorRule{"layers.{i}.moe.experts.gate", "transformer.blocks.{i}.ffn.experts.mlp.w1", Layout::kFlat},
    TensorRule{"layers.{i}.moe.experts.up", "transformer.blocks.{i}.ffn.experts.mlp.v1", Layout::kFlat},
    TensorRule{"layers.{i}.moe.experts.down", "transformer.blocks.{i}.ffn.experts.mlp.w2", Layout::kFlat, true},
    TensorRule{"final_norm", "transformer.norm_f.weight"},
    TensorRule{"output", "lm_head.weight"},
};

}  // namespace switchyard::model
