#pragma once
// Tensor names of DeepSeek-V2: multi-head latent attention.

#include "family.hpp"
#include "llama_names.hpp"

namespace switchyard::model {

// q_proj, where the query has no low rank, and o_proj are called as in Llama.
inline constexpr std::array kLatentNames = {
    TensorRule{"layers.{i}.attention.q_a", "model.layers.{i}.self_attn.q_a_proj.weight"},
    TensorRule{"layers.{i}.attention.q_a_bias", "model.layers.{i}.self_attn.q_a_proj.bias"},
    TensorRule{"layers.{i}.attention.q_a_norm", "model.layers.{i}.self_attn.q_a_layernorm.weight"},
    TensorRule{"layers.{i}.attention.q_b", "model.layers.{i}.self_attn.q_b_proj.weight"},
    TensorRule{"layers.{i}.attention.kv_a", "model.layers.{i}.self_attn.kv_a_proj_with_mqa.weight"},
    TensorRule{"layers.{i}.attention.kv_a_bias", "model.layers.{i}.self_attn.kv_a_proj_with_mqa.bias"},
    TensorRule{"layers.{i}.attention.kv_a_norm", "model.layers.{i}.self_attn.kv_a_layernorm.weight"},
    TensorRule{"layers.{i}.attention.kv_b", "model.layers.{i}.self_attn.kv_b_proj.weight"},
};

inline constexpr auto kDeepseekV2Names = join(kLlamaNames, kLatentNames, kExpertNames, kSharedExpertsNames);

}  // namespace switchyard::model
