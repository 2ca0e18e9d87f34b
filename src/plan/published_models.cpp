// Facts about published models. Configs hold the keys that decide shapes, under their published names; the scaling of
// rotary embeddings, which decides none, is left out.

#include <array>

#include "switchyard/plan/published.hpp"

namespace switchyard::plan {
namespace {

constexpr std::array kModels = {
    PublishedModel{"Mixtral-8x7B",
                   R"({"model_type": "mixtral", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
            "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8,
            "num_experts_per_tok": 2, "max_position_embeddings": 32768, "rms_norm_eps": 1e-05, "rope_theta": 1e6,
            "hidden_act": "silu", "tie_word_embeddings": false})",
                   46.7e9, 12.9e9, 0.0, 0.0, "", "arXiv 2401.04088; tokens not published"},
    PublishedModel{"Mixtral-8x22B",
                   R"({"model_type": "mixtral", "vocab_size": 32000, "hidden_size": 6144, "intermediate_size": 16384,
            "num_hidden_layers": 56, "num_attention_heads": 48, "num_key_value_heads": 8, "num_local_experts": 8,
            "num_experts_per_tok": 2, "max_position_embeddings": 65536, "rms_norm_eps": 1e-05, "rope_theta": 1e6,
            "hidden_act": "silu", "tie_word_embeddings": false})",
                   141e9, 39e9, 0.0, 0.0, "", "tokens not published"},
    PublishedModel{"Qwen1.5-MoE-A2.7B",
                   R"({"model_type": "qwen2_moe", "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5632,
            "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632, "num_hidden_layers": 24,
            "num_attention_heads": 16, "num_key_value_heads": 16, "num_experts": 60, "num_experts_per_tok": 4,
            "norm_topk_prob": false, "max_position_embeddings": 8192, "rms_norm_eps": 1e-06, "rope_theta": 1e6,
            "hidden_act": "silu", "use_sliding_window": false, "tie_word_embeddings": false})",
                   14.3e9, 2.7e9, 0.0, 0.0, "", "upcycled from a dense model; tokens not published"},
    PublishedModel{"Qwen2-57B-A14B",
                   R"({"model_type": "qwen2_moe", "vocab_size": 151936, "hidden_size": 3584, "intermediate_size": 18944,
            "moe_intermediate_size": 2560, "shared_expert_intermediate_size": 20480, "num_hidden_layers": 28,
            "num_attention_heads": 28, "num_key_value_heads": 4, "num_experts": 64, "num_experts_per_tok": 8,
            "norm_topk_prob": false, "max_position_embeddings": 131072, "rms_norm_eps": 1e-06, "rope_theta": 1e6,
            "hidden_act": "silu", "use_sliding_window": false, "tie_word_embeddings": false})",
                   57.4e9, 14e9, 4.5e12, 0.0, "", "arXiv 2407.10671: 4.5 T tokens on top of an upcycled dense model"},
    PublishedModel{"Qwen3-30B-A3B",
                   R"({"model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144,
            "moe_intermediate_size": 768, "num_hidden_layers": 48, "num_attention_heads": 32,
            "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8,
            "norm_topk_prob": true, "max_position_embeddings": 40960, "rms_norm_eps": 1e-06, "rope_theta": 1e6,
            "hidden_act": "silu", "tie_word_embeddings": false})",
                   30.5e9, 3.3e9, 36e12, 0.0, "", "arXiv 2505.09388"},
    PublishedModel{"Qwen3-235B-A22B",
                   R"({"model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 12288,
            "moe_intermediate_size": 1536, "num_hidden_layers": 94, "num_attention_heads": 64,
            "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8,
            "norm_topk_prob": true, "max_position_embeddings": 40960, "rms_norm_eps": 1e-06, "rope_theta": 1e6,
            "hidden_act": "silu", "tie_word_embeddings": false})",
                   235e9, 22e9, 36e12, 0.0, "", "arXiv 2505.09388"},
    PublishedModel{"Qwen3-Coder-480B-A35B",
                   R"({"model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 6144, "intermediate_size": 8192,
            "moe_intermediate_size": 2560, "num_hidden_layers": 62, "num_attention_heads": 96,
            "num_key_value_heads": 8, "head_dim": 128, "num_experts": 160, "num_experts_per_tok": 8,
            "norm_topk_prob": true, "max_position_embeddings": 262144, "rms_norm_eps": 1e-06, "rope_theta": 1e7,
            "hidden_act": "silu", "tie_word_embeddings": false})",
                   480e9, 35e9, 7.5e12, 0.0, "", "publisher's announcement, 2025"},
    PublishedModel{"DeepSeekMoE-16B",
                   R"({"model_type": "deepseek", "vocab_size": 102400, "hidden_size": 2048, "intermediate_size": 10944,
            "moe_intermediate_size": 1408, "num_hidden_layers": 28, "num_attention_heads": 16,
            "num_key_value_heads": 16, "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6,
            "first_k_dense_replace": 1, "moe_layer_freq": 1, "norm_topk_prob": false, "scoring_func": "softmax",
            "max_position_embeddings": 4096, "rms_norm_eps": 1e-06, "rope_theta": 10000, "hidden_act": "silu",
            "tie_word_embeddings": false})",
                   16.4e9, 2.8e9, 2e12, 0.0, "", "arXiv 2401.06066"},
    PublishedModel{
        "DeepSeek-V2-Lite",
        R"({"model_type": "deepseek_v2", "vocab_size": 102400, "hidden_size": 2048, "intermediate_size": 10944,
            "moe_intermediate_size": 1408, "num_hidden_layers": 27, "num_attention_heads": 16,
            "num_key_value_heads": 16, "q_lora_rank": null, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 64, "n_shared_experts": 2,
            "num_experts_per_tok": 6, "first_k_dense_replace": 1, "moe_layer_freq": 1, "topk_method": "greedy",
            "n_group": 1, "topk_group": 1, "norm_topk_prob": false, "routed_scaling_factor": 1.0,
            "scoring_func": "softmax", "max_position_embeddings": 163840, "rms_norm_eps": 1e-06,
            "rope_theta": 10000, "hidden_act": "silu", "tie_word_embeddings": false})",
        15.7e9, 2.4e9, 5.7e12, 0.0, "", "arXiv 2405.04434, appendix B"},
    PublishedModel{
        "DeepSeek-V2",
        R"({"model_type": "deepseek_v2", "vocab_size": 102400, "hidden_size": 5120, "intermediate_size": 12288,
            "moe_intermediate_size": 1536, "num_hidden_layers": 60, "num_attention_heads": 128,
            "num_key_value_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 160, "n_shared_experts": 2,
            "num_experts_per_tok": 6, "first_k_dense_replace": 1, "moe_layer_freq": 1,
            "topk_method": "group_limited_greedy", "n_group": 8, "topk_group": 3, "norm_topk_prob": false,
            "routed_scaling_factor": 16.0, "scoring_func": "softmax", "max_position_embeddings": 163840,
            "rms_norm_eps": 1e-06, "rope_theta": 10000, "hidden_act": "silu", "tie_word_embeddings": false})",
        236e9, 21e9, 8.1e12, 8.1 * 172.8e3, "H800",
        "arXiv 2405.04434: 172.8 thousand GPU-hours for a trillion tokens, times 8.1"},
    PublishedModel{
        "DeepSeek-V3",
        R"({"model_type": "deepseek_v3", "vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432,
            "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128,
            "num_key_value_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 256, "n_shared_experts": 1,
            "num_experts_per_tok": 8, "first_k_dense_replace": 3, "moe_layer_freq": 1, "topk_method": "noaux_tc",
            "n_group": 8, "topk_group": 4, "norm_topk_prob": true, "routed_scaling_factor": 2.5,
            "scoring_func": "sigmoid", "max_position_embeddings": 163840, "rms_norm_eps": 1e-06,
            "rope_theta": 10000, "hidden_act": "silu", "tie_word_embeddings": false,
            "num_nextn_predict_layers": 1})",
        671e9, 37e9, 14.8e12, 2.788e6, "H800",
        "arXiv 2412.19437: all stages together; pre-training alone 2.664 M. Products in fp8, whose peak is twice "
        "bf16's"},
    PublishedModel{"Kimi-K2",
                   R"({"model_type": "kimi_k2", "vocab_size": 163840, "hidden_size": 7168, "intermediate_size": 18432,
            "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 64,
            "num_key_value_heads": 64, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 384, "n_shared_experts": 1,
            "num_experts_per_tok": 8, "first_k_dense_replace": 1, "moe_layer_freq": 1, "topk_method": "noaux_tc",
            "n_group": 1, "topk_group": 1, "norm_topk_prob": true, "routed_scaling_factor": 2.827,
            "scoring_func": "sigmoid", "max_position_embeddings": 131072, "rms_norm_eps": 1e-06,
            "rope_theta": 50000, "hidden_act": "silu", "tie_word_embeddings": false})",
                   1e12, 32e9, 15.5e12, 0.0, "", "arXiv 2507.20534"},
    PublishedModel{"OLMoE-1B-7B",
                   R"({"model_type": "olmoe", "vocab_size": 50304, "hidden_size": 2048, "intermediate_size": 1024,
            "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 16, "num_experts": 64,
            "num_experts_per_tok": 8, "norm_topk_prob": false, "clip_qkv": null, "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-05, "rope_theta": 10000, "hidden_act": "silu", "tie_word_embeddings": false})",
                   6.9e9, 1.3e9, 5.1e12, 0.0, "", "arXiv 2409.02060"},
    PublishedModel{"DBRX",
                   R"({"model_type": "dbrx", "vocab_size": 100352, "d_model": 6144, "n_heads": 48, "n_layers": 40,
            "max_seq_len": 32768, "attn_config": {"clip_qkv": 8, "kv_n_heads": 8, "rope_theta": 500000},
            "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4},
            "tie_word_embeddings": false})",
                   132e9, 36e9, 12e12, 0.0, "", "publisher's announcement, 2024"},
    PublishedModel{"Grok-1",
                   R"({"model_type": "grok-1", "vocab_size": 131072, "hidden_size": 6144, "intermediate_size": 32768,
            "num_hidden_layers": 64, "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128,
            "num_experts": 8, "num_experts_per_tok": 2, "max_position_embeddings": 8192, "rms_norm_eps": 1e-05,
            "rope_theta": 10000, "hidden_act": "gelu_pytorch_tanh", "attn_output_multiplier": 0.08838834764831845,
            "embedding_multiplier_scale": 78.38367176906169, "output_multiplier_scale": 0.5773502691896257,
            "max_attn_value": 30.0, "tie_word_embeddings": true})",
                   314e9, 0.0, 0.0, 0.0, "", "active published only as \"25 % of the weights\"; tokens not published"},
    PublishedModel{"gpt-oss-20b",
                   R"({"model_type": "gpt_oss", "vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880,
            "num_hidden_layers": 24, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64,
            "num_local_experts": 32, "num_experts_per_tok": 4, "sliding_window": 128, "attention_bias": true,
            "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "rope_theta": 150000, "hidden_act": "silu",
            "swiglu_limit": 7.0, "tie_word_embeddings": false})",
                   20.9e9, 3.6e9, 0.0, 0.0, "", "tokens not published (\"trillions\")"},
    PublishedModel{"gpt-oss-120b",
                   R"({"model_type": "gpt_oss", "vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880,
            "num_hidden_layers": 36, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64,
            "num_local_experts": 128, "num_experts_per_tok": 4, "sliding_window": 128, "attention_bias": true,
            "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "rope_theta": 150000, "hidden_act": "silu",
            "swiglu_limit": 7.0, "tie_word_embeddings": false})",
                   116.8e9, 5.1e9, 0.0, 2.1e6, "H100", "arXiv 2508.10925; tokens not published (\"trillions\")"},
    PublishedModel{"Phi-3.5-MoE",
                   R"({"model_type": "phimoe", "vocab_size": 32064, "hidden_size": 4096, "intermediate_size": 6400,
            "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 16,
            "num_experts_per_tok": 2, "attention_bias": true, "lm_head_bias": true, "router_jitter_noise": 0.01,
            "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "rope_theta": 10000, "hidden_act": "silu",
            "tie_word_embeddings": false})",
                   41.9e9, 6.6e9, 4.9e12, 0.0, "", "publisher's model card, 2024"},
    PublishedModel{"Granite-3.0-3b-a800m",
                   R"({"model_type": "granitemoe", "vocab_size": 49155, "hidden_size": 1536, "intermediate_size": 512,
            "num_hidden_layers": 32, "num_attention_heads": 24, "num_key_value_heads": 8, "num_local_experts": 40,
            "num_experts_per_tok": 8, "embedding_multiplier": 12.0, "attention_multiplier": 0.015625,
            "residual_multiplier": 0.22, "logits_scaling": 6.0, "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-06, "rope_theta": 10000, "hidden_act": "silu", "tie_word_embeddings": true})",
                   3.3e9, 800e6, 10e12, 0.0, "", "publisher's model card, 2024"},
    PublishedModel{"Granite-3.0-1b-a400m",
                   R"({"model_type": "granitemoe", "vocab_size": 49155, "hidden_size": 1024, "intermediate_size": 512,
            "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 8, "num_local_experts": 32,
            "num_experts_per_tok": 8, "embedding_multiplier": 12.0, "attention_multiplier": 0.015625,
            "residual_multiplier": 0.22, "logits_scaling": 6.0, "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-06, "rope_theta": 10000, "hidden_act": "silu", "tie_word_embeddings": true})",
                   1.3e9, 400e6, 10e12, 0.0, "", "publisher's model card, 2024"},
    PublishedModel{"GLM-4.5",
                   R"({"model_type": "glm4_moe", "vocab_size": 151552, "hidden_size": 5120, "intermediate_size": 12288,
            "moe_intermediate_size": 1536, "num_hidden_layers": 92, "num_attention_heads": 96,
            "num_key_value_heads": 8, "head_dim": 128, "n_routed_experts": 160, "n_shared_experts": 1,
            "num_experts_per_tok": 8, "first_k_dense_replace": 3, "n_group": 1, "topk_group": 1,
            "norm_topk_prob": true, "routed_scaling_factor": 2.5, "attention_bias": true, "use_qk_norm": true,
            "partial_rotary_factor": 0.5, "max_position_embeddings": 131072, "rms_norm_eps": 1e-05,
            "rope_theta": 1000000, "hidden_act": "silu", "tie_word_embeddings": false,
            "num_nextn_predict_layers": 1})",
                   355e9, 32e9, 23e12, 0.0, "",
                   "arXiv 2508.06471; the published total counts the multi-token prediction layer"},
    PublishedModel{"GLM-4.5-Air",
                   R"({"model_type": "glm4_moe", "vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 10944,
            "moe_intermediate_size": 1408, "num_hidden_layers": 46, "num_attention_heads": 96,
            "num_key_value_heads": 8, "head_dim": 128, "n_routed_experts": 128, "n_shared_experts": 1,
            "num_experts_per_tok": 8, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
            "norm_topk_prob": true, "routed_scaling_factor": 1.0, "attention_bias": true, "use_qk_norm": false,
            "partial_rotary_factor": 0.5, "max_position_embeddings": 131072, "rms_norm_eps": 1e-05,
            "rope_theta": 1000000, "hidden_act": "silu", "tie_word_embeddings": false,
            "num_nextn_predict_layers": 1})",
                   106e9, 12e9, 0.0, 0.0, "", "tokens not published for this size"},
    PublishedModel{"MiniMax-M2",
                   R"({"model_type": "minimax_m2", "vocab_size": 200064, "hidden_size": 3072,
            "intermediate_size": 1536, "num_hidden_layers": 62, "num_attention_heads": 48, "num_key_value_heads": 8,
            "head_dim": 128, "rotary_dim": 64, "num_local_experts": 256, "num_experts_per_tok": 8,
            "scoring_func": "sigmoid", "use_routing_bias": true, "use_qk_norm": true, "qk_norm_type": "per_layer",
            "max_position_embeddings": 196608, "rms_norm_eps": 1e-06, "rope_theta": 5000000, "hidden_act": "silu",
            "tie_word_embeddings": false})",
                   230e9, 10e9, 0.0, 0.0, "", "publisher's model card, 2025; tokens not published"},
    PublishedModel{"ERNIE-4.5-21B-A3B",
                   R"({"model_type": "ernie4_5_moe", "vocab_size": 103424, "hidden_size": 2560,
            "intermediate_size": 12288, "moe_intermediate_size": 1536, "num_hidden_layers": 28,
            "num_attention_heads": 20, "num_key_value_heads": 4, "head_dim": 128, "moe_num_experts": 64, "moe_k": 6,
            "moe_num_shared_experts": 2, "moe_layer_start_index": 1, "moe_layer_end_index": -1,
            "moe_layer_interval": 1, "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "rope_theta": 500000,
            "hidden_act": "silu", "tie_word_embeddings": true})",
                   21e9, 3e9, 0.0, 0.0, "", "ERNIE 4.5 technical report, 2025; tokens not published"},
    PublishedModel{"ERNIE-4.5-300B-A47B",
                   R"({"model_type": "ernie4_5_moe", "vocab_size": 103424, "hidden_size": 8192,
            "intermediate_size": 28672, "moe_intermediate_size": 3584, "num_hidden_layers": 54,
            "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128, "moe_num_experts": 64, "moe_k": 8,
            "moe_num_shared_experts": 0, "moe_layer_start_index": 3, "moe_layer_end_index": -1,
            "moe_layer_interval": 1, "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "rope_theta": 500000,
            "hidden_act": "silu", "tie_word_embeddings": false})",
                   300e9, 47e9, 0.0, 0.0, "", "ERNIE 4.5 technical report, 2025; tokens not published"},
};

constexpr std::array<std::string_view, 2> kNotPublic = {"GPT-4", "Gemini 1.5"};

}  // namespace

std::span<const PublishedModel> published_models() { return kModels; }
std::span<const std::string_view> models_not_public() { return kNotPublic; }

std::vector<TableRow> published_table(const GpuAssumptions& gpu, double tokens) {
  std::vector<TableRow> rows;
  for (const PublishedModel& published : kModels) {
    const model::ConfigFile file = model::parse_config(published.config, std::string(published.name));
    TableRow row;
    row.model = &published;
    row.counts = model::count_parameters(file.config);
    row.layers = static_cast<Index>(file.config.layers.size());
    for (const model::LayerConfig& layer : file.config.layers) {
      if (!layer.moe) continue;
      ++row.moe_layers;
      row.experts = layer.moe->router.experts;
      row.top_k = layer.moe->router.top_k;
    }
    row.tokens_published = published.tokens > 0.0;
    row.tokens = row.tokens_published ? published.tokens : tokens;
    row.flops = training_flops(row.counts, row.tokens);
    row.gpu_hours = gpu_hours(row.flops, gpu);
    // Hours with somebody's guess of the tokens would imply nothing.
    if (row.tokens_published && published.gpu_hours > 0.0)
      row.implied_utilisation = implied_utilisation(row.flops, published.gpu_hours, gpu);
    rows.push_back(row);
  }
  return rows;
}

}  // namespace switchyard::plan
