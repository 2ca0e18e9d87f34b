#pragma once
// The names that the llama-like families share (docs/formats/checkpoint.md).

#include <array>
#include <cstddef>

#include "family.hpp"

namespace switchyard::model {

inline constexpr std::array kLlamaNames = {
    TensorRule{"embedding", "model.embed_tokens.weight"},
    TensorRule{"layers.{i}.attention_norm", "model.layers.{i}.input_layernorm.weight"},
    TensorRule{"layers.{i}.attention.q", "model.layers.{i}.self_attn.q_proj.weight"},
    TensorRule{"layers.{i}.attention.k", "model.layers.{i}.self_attn.k_proj.weight"},
    TensorRule{"layers.{i}.attention.v", "model.layers.{i}.self_attn.v_proj.weight"},
    TensorRule{"layers.{i}.attention.o", "model.layers.{i}.self_attn.o_proj.weight"},
    TensorRule{"layers.{i}.attention.q_bias", "model.layers.{i}.self_attn.q_proj.bias"},
    TensorRule{"layers.{i}.attention.k_bias", "model.layers.{i}.self_attn.k_proj.bias"},
    TensorRule{"layers.{i}.attention.v_bias", "model.layers.{i}.self_attn.v_proj.bias"},
    TensorRule{"layers.{i}.attention.o_bias", "model.layers.{i}.self_attn.o_proj.bias"},
    TensorRule{"layers.{i}.attention.q_norm", "model.layers.{i}.self_attn.q_norm.weight"},
    TensorRule{"layers.{i}.attention.k_norm", "model.layers.{i}.self_attn.k_norm.weight"},
    TensorRule{"layers.{i}.ffn_norm", "model.layers.{i}.post_attention_layernorm.weight"},
    TensorRule{"layers.{i}.ffn.gate", "model.layers.{i}.mlp.gate_proj.weight"},
    TensorRule{"layers.{i}.ffn.up", "model.layers.{i}.mlp.up_proj.weight"},
    TensorRule{"layers.{i}.ffn.down", "model.layers.{i}.mlp.down_proj.weight"},
    TensorRule{"final_norm", "model.norm.weight"},
    TensorRule{"output", "lm_head.weight"},
};

// Experts as Qwen and DeepSeek name them, and the stacked form that transformers 5 has in memory.
inline constexpr std::array kExpertNames = {
    TensorRule{"layers.{i}.moe.router", "model.layers.{i}.mlp.gate.weight"},
    TensorRule{"layers.{i}.moe.experts.gate", "model.layers.{i}.mlp.experts.{e}.gate_proj.weight", Layout::kPerExpert},
    TensorRule{"layers.{i}.moe.experts.up", "model.layers.{i}.mlp.experts.{e}.up_proj.weight", Layout::kPerExpert},
    TensorRule{"layers.{i}.moe.experts.down", "model.layers.{i}.mlp.experts.{e}.down_proj.weight", Layout::kPerExpert},
    TensorRule{"layers.{i}.moe.experts.gate", "model.layers.{i}.mlp.experts.gate_up_proj"},
    TensorRule{"layers.{i}.moe.experts.up", "model.layers.{i}.mlp.experts.gate_up_proj"},
    TensorRule{"layers.{i}.moe.experts.down", "model.layers.{i}.mlp.experts.down_proj"},
};

// Experts as Mixtral and Phi-3.5-MoE name them.
inline constexpr std::array kBlockExpertNames = {
    TensorRule{"layers.{i}.moe.router", "model.layers.{i}.block_sparse_moe.gate.weight"},
    TensorRule{"layers.{i}.moe.experts.gate", "model.layers.{i}.block_sparse_moe.experts.{e}.w1.weight",
               Layout::kPerExpert},
    TensorRule{"layers.{i}.moe.experts.up", "model.layers.{i}.block_sparse_moe.experts.{e}.w3.weight",
               Layout::kPerExpert},
    TensorRule{"layers.{i}.moe.experts.down", "model.layers.{i}.block_sparse_moe.experts.{e}.w2.weight",
               Layout::kPerExpert},
};

// The bias of selection of DeepSeek-V3's router.
inline constexpr std::array kSelectionBiasNames = {
    TensorRule{"layers.{i}.moe.selection_bias", "model.layers.{i}.mlp.gate.e_score_correction_bias"},
};

// A shared expert as DeepSeek names it.
inline constexpr std::array kSharedExpertsNames = {
    TensorRule{"layers.{i}.moe.shared.gate", "model.layers.{i}.mlp.shared_experts.gate_proj.weight"},
    TensorRule{"layers.{i}.moe.shared.up", "model.layers.{i}.mlp.shared_experts.up_proj.weight"},
    TensorRule{"layers.{i}.moe.shared.down", "model.layers.{i}.mlp.shared_experts.down_proj.weight"},
};

// What a layer for multi-token prediction has besides, as DeepSeek-V3 and GLM-4.5 name it.
inline constexpr std::array kPredictionNames = {
    TensorRule{"layers.{i}.prediction.embedding", "model.layers.{i}.embed_tokens.weight"},
    TensorRule{"layers.{i}.prediction.embedding_norm", "model.layers.{i}.enorm.weight"},
    TensorRule{"layers.{i}.prediction.hidden_norm", "model.layers.{i}.hnorm.weight"},
    TensorRule{"layers.{i}.prediction.projection", "model.layers.{i}.eh_proj.weight"},
    TensorRule{"layers.{i}.prediction.final_norm", "model.layers.{i}.shared_head.norm.weight"},
    TensorRule{"layers.{i}.prediction.output", "model.layers.{i}.shared_head.head.weight"},
};

template <std::size_t... N>
constexpr auto join(const std::array<TensorRule, N>&... tables) {
  std::array<TensorRule, (N + ...)> all{};
  std::size_t used = 0;
  const auto append = [&](const auto& table) {
    for (const TensorRule& rule : table) all[used++] = rule;
  };
  (append(tables), ...);
  return all;
}

}  // namespace switchyard::model
