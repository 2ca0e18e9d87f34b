#pragma once
// Names of tensors in GGUF files.

#include "families/llama_names.hpp"

namespace switchyard::model {

inline constexpr std::array kGgufGlobalNames = {
    TensorRule{"embedding", "token_embd.weight"},
    TensorRule{"layers.{i}.attention_norm", "blk.{i}.attn_norm.weight"},
    TensorRule{"layers.{i}.attention.o", "blk.{i}.attn_output.weight"},
    TensorRule{"layers.{i}.attention.o_bias", "blk.{i}.attn_output.bias"},
    TensorRule{"final_norm", "output_norm.weight"},
    TensorRule{"output", "output.weight"},
};

inline constexpr std::array kGgufPlainAttention = {
    TensorRule{"layers.{i}.attention.q", "blk.{i}.attn_q.weight"},
    TensorRule{"layers.{i}.attention.k", "blk.{i}.attn_k.weight"},
    TensorRule{"layers.{i}.attention.v", "blk.{i}.attn_v.weight"},
    TensorRule{"layers.{i}.attention.q_bias", "blk.{i}.attn_q.bias"},
    TensorRule{"layers.{i}.attention.k_bias", "blk.{i}.attn_k.bias"},
    TensorRule{"layers.{i}.attention.v_bias", "blk.{i}.attn_v.bias"},
};

// Of architectures whose RoPE turns neighbours, while that of the published weights does not.
inline constexpr std::array kGgufPairedAttention = {
    TensorRule{"layers.{i}.attention.q", "blk.{i}.attn_q.weight", Layout::kPairedRows},
    TensorRule{"layers.{i}.attention.k", "blk.{i}.attn_k.weight", Layout::kPairedRows},
    TensorRule{"layers.{i}.attention.v", "blk.{i}.attn_v.weight"},
    TensorRule{"layers.{i}.attention.q_bias", "blk.{i}.attn_q.bias", Layout::kPairedRows},
    TensorRule{"layers.{i}.attention.k_bias", "blk.{i}.attn_k.bias", Layout::kPairedRows},
    TensorRule{"layers.{i}.attention.v_bias", "blk.{i}.attn_v.bias"},
};

// q, k and v as the rows of one matrix.
inline constexpr std::array kGgufFusedAttention = {
    TensorRule{"layers.{i}.attention.q", "blk.{i}.attn_qkv.weight"},
    TensorRule{"layers.{i}.attention.k", "blk.{i}.attn_qkv.weight"},
    TensorRule{"layers.{i}.attention.v", "blk.{i}.attn_qkv.weight"},
};

inline constexpr std::array kGgufFusedToo = {
    TensorRule{.native = "layers.{i}.attention.q", .published = "blk.{i}.attn_qkv.weight", .written = false},
    TensorRule{.native = "layers.{i}.attention.k", .published = "blk.{i}.attn_qkv.weight", .written = false},
    TensorRule{.native = "layers.{i}.attention.v", .published = "blk.{i}.attn_qkv.weight", .written = false},
    TensorRule{.native = "layers.{i}.attention.q_bias", .published = "blk.{i}.attn_qkv.bias", .written = false},
    TensorRule{.native = "layers.{i}.attention.k_bias", .published = "blk.{i}.attn_qkv.bias", .written = false},
    TensorRule{.native = "layers.{i}.attention.v_bias", .published = "blk.{i}.attn_qkv.bias", .written = false},
};

inline constexpr std::array kGgufHeadNorms = {
    TensorRule{"layers.{i}.attention.q_norm", "blk.{i}.attn_q_norm.weight"},
    TensorRule{"layers.{i}.attention.k_norm", "blk.{i}.attn_k_norm.weight"},
};

inline constexpr std::array kGgufLatentAttention = {
    TensorRule{"layers.{i}.attention.q", "blk.{i}.attn_q.weight"},
    TensorRule{"layers.{i}.attention.q_a", "blk.{i}.attn_q_a.weight"},
    TensorRule{"layers.{i}.attention.q_a_norm", "blk.{i}.attn_q_a_norm.weight"},
    TensorRule{"layers.{i}.attention.q_b", "blk.{i}.attn_q_b.weight"},
    TensorRule{"layers.{i}.attention.kv_a", "blk.{i}.attn_kv_a_mqa.weight"},
    TensorRule{"layers.{i}.attention.kv_a_norm", "blk.{i}.attn_kv_a_norm.weight"},
    // Older files have the matrix as it was published; some have both forms, the second in other shapes.
    TensorRule{.native = "layers.{i}.attention.kv_b", .published = "blk.{i}.attn_kv_b.weight", .written = false},
    TensorRule{.native = "layers.{i}.attention.kv_b",
               .published = "blk.{i}.attn_k_b.weight",
               .layout = Layout::kKeysValues,
               .second = "blk.{i}.attn_v_b.weight"},
};

inline constexpr std::array kGgufFfnNorm = {TensorRule{"layers.{i}.ffn_norm", "blk.{i}.ffn_norm.weight"}};
inline constexpr std::array kGgufPostAttentionNorm = {
    TensorRule{"layers.{i}.ffn_norm", "blk.{i}.post_attention_norm.weight"}};

inline constexpr std::array kGgufNormBiases = {
    TensorRule{"layers.{i}.attention_norm_bias", "blk.{i}.attn_norm.bias"},
    TensorRule{"layers.{i}.ffn_norm_bias", "blk.{i}.ffn_norm.bias"},
    TensorRule{"final_norm_bias", "output_norm.bias"},
    TensorRule{"output_bias", "output.bias"},
};

inline constexpr std::array kGgufDense = {
    TensorRule{"layers.{i}.ffn.gate", "blk.{i}.ffn_gate.weight"},
    TensorRule{"layers.{i}.ffn.up", "blk.{i}.ffn_up.weight"},
    TensorRule{"layers.{i}.ffn.down", "blk.{i}.ffn_down.weight"},
};

inline constexpr std::array kGgufExperts = {
    TensorRule{"layers.{i}.moe.router", "blk.{i}.ffn_gate_inp.weight"},
    TensorRule{"layers.{i}.moe.experts.gate", "blk.{i}.ffn_gate_exps.weight"},
    TensorRule{"layers.{i}.moe.experts.up", "blk.{i}.ffn_up_exps.weight"},
    TensorRule{"layers.{i}.moe.experts.down", "blk.{i}.ffn_down_exps.weight"},
    TensorRule{
        .native = "layers.{i}.moe.experts.gate", .published = "blk.{i}.ffn_gate_up_exps.weight", .written = false},
    TensorRule{.native = "layers.{i}.moe.experts.up", .published = "blk.{i}.ffn_gate_up_exps.weight", .written = false},
};

// As early files of Mixtral have them.
inline constexpr std::array kGgufSingleExperts = {
    TensorRule{.native = "layers.{i}.moe.experts.gate",
               .published = "blk.{i}.ffn_gate.{e}.weight",
               .layout = Layout::kPerExpert,
               .written = false},
    TensorRule{.native = "layers.{i}.moe.experts.up",
               .published = "blk.{i}.ffn_up.{e}.weight",
               .layout = Layout::kPerExpert,
               .written = false},
    TensorRule{.native = "layers.{i}.moe.experts.down",
               .published = "blk.{i}.ffn_down.{e}.weight",
               .layout = Layout::kPerExpert,
               .written = false},
};

inline constexpr std::array kGgufShared = {
    TensorRule{"layers.{i}.moe.shared.gate", "blk.{i}.ffn_gate_shexp.weight"},
    TensorRule{"layers.{i}.moe.shared.up", "blk.{i}.ffn_up_shexp.weight"},
    TensorRule{"layers.{i}.moe.shared.down", "blk.{i}.ffn_down_shexp.weight"},
};

inline constexpr std::array kGgufSharedGate = {
    TensorRule{"layers.{i}.moe.shared_gate", "blk.{i}.ffn_gate_inp_shexp.weight"},
};

inline constexpr std::array kGgufSelectionBias = {
    TensorRule{"layers.{i}.moe.selection_bias", "blk.{i}.exp_probs_b.bias"},
};

inline constexpr std::array kGgufGptOss = {
    TensorRule{"layers.{i}.attention.sinks", "blk.{i}.attn_sinks.weight"},
    TensorRule{"layers.{i}.moe.router_bias", "blk.{i}.ffn_gate_inp.bias"},
    TensorRule{"layers.{i}.moe.experts.gate_bias", "blk.{i}.ffn_gate_exps.bias"},
    TensorRule{"layers.{i}.moe.experts.up_bias", "blk.{i}.ffn_up_exps.bias"},
    TensorRule{"layers.{i}.moe.experts.down_bias", "blk.{i}.ffn_down_exps.bias"},
};

// What a layer for multi-token prediction has besides.
inline constexpr std::array kGgufPrediction = {
    TensorRule{"layers.{i}.prediction.embedding", "blk.{i}.nextn.embed_tokens.weight"},
    TensorRule{"layers.{i}.prediction.embedding_norm", "blk.{i}.nextn.enorm.weight"},
    TensorRule{"layers.{i}.prediction.hidden_norm", "blk.{i}.nextn.hnorm.weight"},
    TensorRule{"layers.{i}.prediction.projection", "blk.{i}.nextn.eh_proj.weight"},
    TensorRule{"layers.{i}.prediction.final_norm", "blk.{i}.nextn.shared_head_norm.weight"},
    TensorRule{"layers.{i}.prediction.output", "blk.{i}.nextn.shared_head_head.weight"},
};

// A norm after each branch; the second has had two names.
inline constexpr std::array kGgufGrok = {
    TensorRule{"layers.{i}.attention_post_norm", "blk.{i}.attn_output_norm.weight"},
    TensorRule{"layers.{i}.ffn_post_norm", "blk.{i}.layer_output_norm.weight"},
    TensorRule{.native = "layers.{i}.ffn_post_norm", .published = "blk.{i}.post_ffw_norm.weight", .written = false},
};

// The norm before the experts bears the name of the attention's output.
inline constexpr std::array kGgufDbrx = {
    TensorRule{"layers.{i}.ffn_norm", "blk.{i}.attn_output_norm.weight"},
};

}  // namespace switchyard::model
