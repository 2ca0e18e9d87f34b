"""The fixtures that make_families.py writes: what each is called and how its model is configured."""

import dataclasses

import fixtures


@dataclasses.dataclass
class Case:
    model: str  # of transformers: <model>Config and <model>ForCausalLM
    config: dict
    tokens: int = 13
    margin: float = fixtures.MARGIN
    published_names: bool = True  # tensors as published files name them, or as transformers 5 has them in memory
    published_config: bool = False  # config.json in the dialect of transformers 4, or as transformers 5 writes it
    extra: dict = dataclasses.field(default_factory=dict)  # keys that published files have and the class has not
    drop: tuple = ()  # keys that published files do not have
    model_type: str = ""  # where it is not that of the class
    scales: dict = dataclasses.field(default_factory=dict)  # part of a tensor name -> standard deviation
    stored: str = "float32"  # or bfloat16, fp8, mxfp4
    # Append a layer for multi-token prediction, which logits do not depend on, with embedding and output that are
    # "copies" of the model's, as in published files, or "other" ones.
    mtp: str = ""


COMMON = dict(
    vocab_size=61, max_position_embeddings=64, attn_implementation="eager", experts_implementation="eager")


def yarn(theta, factor, original, **keys):
    return dict(rope_type="yarn", rope_theta=theta, factor=factor, original_max_position_embeddings=original, **keys)


DEEPSEEK_EXTRA = dict(ep_size=1, seq_aux=True, aux_loss_alpha=0.001, moe_layer_freq=1)
V3_EXTRA = dict(DEEPSEEK_EXTRA, scoring_func="sigmoid", topk_method="noaux_tc")
V2_EXTRA = dict(DEEPSEEK_EXTRA, scoring_func="softmax")
FP8_CONFIG = dict(quantization_config=dict(
    activation_scheme="dynamic", fmt="e4m3", quant_method="fp8", weight_block_size=[128, 128]))
MXFP4_CONFIG = dict(quantization_config=dict(
    modules_to_not_convert=["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
    quant_method="mxfp4"))

CASES = {
    "mixtral/base": Case("Mixtral", dict(
        hidden_size=24, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, num_local_experts=5, num_experts_per_tok=2, rms_norm_eps=1e-5, rope_theta=1e6)),
    # The form that transformers 5 has in memory: experts stacked, gate and up in one tensor.
    "mixtral/stacked-tied": Case("Mixtral", dict(
        hidden_size=32, intermediate_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        num_local_experts=4, num_experts_per_tok=3, rms_norm_eps=1e-6, rope_theta=5e3, tie_word_embeddings=True),
        published_names=False),
    "mixtral/window": Case("Mixtral", dict(
        hidden_size=24, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        num_local_experts=4, num_experts_per_tok=2, rms_norm_eps=1e-5, rope_theta=1e4, sliding_window=6),
        tokens=23, margin=1e-3, published_config=True),
    "qwen2_moe/base": Case("Qwen2Moe", dict(
        hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        num_experts=6, num_experts_per_tok=3, moe_intermediate_size=12, shared_expert_intermediate_size=20,
        norm_topk_prob=False, rope_theta=1e6)),
    "qwen2_moe/dense-rows": Case("Qwen2Moe", dict(
        hidden_size=24, intermediate_size=28, num_hidden_layers=4, num_attention_heads=3, num_key_value_heads=1,
        num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12, shared_expert_intermediate_size=16,
        norm_topk_prob=True, decoder_sparse_step=2, mlp_only_layers=[1], qkv_bias=False, tie_word_embeddings=True)),
    # Layer 0 slides: even and below max_window_layers.
    "qwen2_moe/window": Case("Qwen2Moe", dict(
        hidden_size=24, intermediate_size=28, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8, shared_expert_intermediate_size=12,
        norm_topk_prob=False, rope_theta=1e4, use_sliding_window=True, sliding_window=5, max_window_layers=2),
        tokens=21, margin=1e-3, published_config=True, drop=("layer_types",)),
    "qwen3_moe/base": Case("Qwen3Moe", dict(
        hidden_size=24, intermediate_size=28, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=10, num_experts=6, num_experts_per_tok=4, moe_intermediate_size=12, norm_topk_prob=True,
        rope_theta=1e6)),
    "qwen3_moe/bias-dense-rows": Case("Qwen3Moe", dict(
        hidden_size=24, intermediate_size=28, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
        head_dim=6, num_experts=4, num_experts_per_tok=1, moe_intermediate_size=16, norm_topk_prob=False,
        attention_bias=True, mlp_only_layers=[0], tie_word_embeddings=True)),
    # YaRN as Qwen's model cards switch it on, past the original positions.
    "qwen3_moe/yarn": Case("Qwen3Moe", dict(
        hidden_size=24, intermediate_size=28, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=12, num_experts=5, num_experts_per_tok=2, moe_intermediate_size=12, norm_topk_prob=True,
        rope_parameters=yarn(1e3, 4.0, 16)),
        tokens=27, margin=5e-4, published_config=True),
    "glm4_moe/base": Case("Glm4Moe", dict(
        hidden_size=24, intermediate_size=28, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
        head_dim=8, n_routed_experts=6, num_experts_per_tok=3, moe_intermediate_size=12, n_shared_experts=1,
        first_k_dense_replace=1, norm_topk_prob=True, routed_scaling_factor=2.5, partial_rotary_factor=1.0,
        rope_theta=1e6, num_nextn_predict_layers=0)),
    "glm4_moe/all-moe": Case("Glm4Moe", dict(
        hidden_size=32, intermediate_size=28, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        head_dim=8, n_routed_experts=5, num_experts_per_tok=2, moe_intermediate_size=8, n_shared_experts=2,
        first_k_dense_replace=0, norm_topk_prob=False, routed_scaling_factor=1.5, partial_rotary_factor=1.0,
        attention_bias=True, use_qk_norm=True, tie_word_embeddings=True, num_nextn_predict_layers=0)),
    "glm4_moe/partial-rotary": Case("Glm4Moe", dict(
        hidden_size=24, intermediate_size=28, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=12, n_routed_experts=6, num_experts_per_tok=2, moe_intermediate_size=12, n_shared_experts=1,
        first_k_dense_replace=1, norm_topk_prob=True, routed_scaling_factor=1.0, partial_rotary_factor=0.5,
        rope_theta=1e4, num_nextn_predict_layers=0),
        tokens=19, margin=1e-3, published_config=True),
    "glm4_moe/prediction": Case("Glm4Moe", dict(
        hidden_size=28, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=12, n_routed_experts=7, num_experts_per_tok=2, moe_intermediate_size=10, n_shared_experts=1,
        first_k_dense_replace=1, norm_topk_prob=True, routed_scaling_factor=2.0, partial_rotary_factor=0.5,
        attention_bias=True, use_qk_norm=True, rope_theta=1e4, num_nextn_predict_layers=1),
        tokens=23, margin=1e-3, published_config=True, mtp="other"),
    "llama/base": Case("Llama", dict(
        hidden_size=32, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        rms_norm_eps=1e-5, rope_theta=1e4)),
    "llama/bias-tied": Case("Llama", dict(
        hidden_size=24, intermediate_size=36, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=1,
        head_dim=10, rms_norm_eps=1e-6, rope_theta=5e5, attention_bias=True, tie_word_embeddings=True)),
    # All three ranges of wavelength: kept, blended, divided.
    "llama/llama3-rope": Case("Llama", dict(
        hidden_size=32, intermediate_size=36, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        max_position_embeddings=512, rms_norm_eps=1e-5, rope_parameters=dict(
            rope_type="llama3", rope_theta=1e3, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=64)),
        tokens=29, published_config=True),
    "llama/linear-rope": Case("Llama", dict(
        hidden_size=32, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        rms_norm_eps=1e-5, rope_parameters=dict(rope_type="linear", rope_theta=1e4, factor=2.5)),
        tokens=29, published_config=True),
    "qwen3/base": Case("Qwen3", dict(
        hidden_size=24, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=10, rope_theta=1e6, tie_word_embeddings=True)),
    "qwen3/bias-window": Case("Qwen3", dict(
        hidden_size=32, intermediate_size=36, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=1,
        head_dim=8, rope_theta=1e4, attention_bias=True, use_sliding_window=True, sliding_window=7,
        max_window_layers=1),
        tokens=19, published_config=True, drop=("layer_types",)),
    "qwen2/base": Case("Qwen2", dict(
        hidden_size=24, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        rope_theta=1e6, tie_word_embeddings=True), published_config=True, drop=("layer_types",)),
    "qwen2/window": Case("Qwen2", dict(
        hidden_size=32, intermediate_size=36, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        rope_theta=1e4, use_sliding_window=True, sliding_window=6, max_window_layers=2), tokens=19),

    "deepseek_v3/base": Case("DeepseekV3", dict(
        hidden_size=24, intermediate_size=32, moe_intermediate_size=6, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, q_lora_rank=14, kv_lora_rank=12, qk_nope_head_dim=6, qk_rope_head_dim=8, v_head_dim=5,
        max_position_embeddings=128, n_routed_experts=12, n_shared_experts=1, num_experts_per_tok=3,
        first_k_dense_replace=1, n_group=4, topk_group=2, norm_topk_prob=True,
        routed_scaling_factor=2.5, num_nextn_predict_layers=1,
        rope_parameters=yarn(50.0, 8.0, 16, beta_fast=1, beta_slow=0.1, mscale=1.0, mscale_all_dim=1.0)),
        tokens=33, margin=5e-4, published_config=True, extra=V3_EXTRA, mtp="copies"),
    # A correction bias that leaves chosen scores negative: experts of other groups are out, not merely at zero.
    "deepseek_v3/no-q-lora": Case("DeepseekV3", dict(
        hidden_size=24, intermediate_size=32, moe_intermediate_size=8, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, q_lora_rank=None, kv_lora_rank=12, qk_nope_head_dim=10, qk_rope_head_dim=6,
        v_head_dim=6, n_routed_experts=8, n_shared_experts=2, num_experts_per_tok=3, first_k_dense_replace=0,
        n_group=2, topk_group=1, norm_topk_prob=False, routed_scaling_factor=1.5, attention_bias=True,
        tie_word_embeddings=True, num_nextn_predict_layers=0,
        rope_parameters=yarn(1e2, 4.0, 16, mscale=1.0, mscale_all_dim=0.6)),
        tokens=21, margin=1e-3, scales={"e_score_correction_bias": 0.5}),
    # rope_interleave: an option of the class of transformers that no published file takes.
    "deepseek_v3/half-split": Case("DeepseekV3", dict(
        hidden_size=24, intermediate_size=32, moe_intermediate_size=8, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=3, q_lora_rank=12, kv_lora_rank=8, qk_nope_head_dim=4, qk_rope_head_dim=8, v_head_dim=8,
        n_routed_experts=6, n_shared_experts=1, num_experts_per_tok=2, first_k_dense_replace=1, n_group=1,
        topk_group=1, norm_topk_prob=True, routed_scaling_factor=1.0, rope_interleave=False,
        num_nextn_predict_layers=0, rope_theta=1e4)),
    # Linear layers of more than 128 rows or columns, so that blocks have edges.
    "deepseek_v3/fp8": Case("DeepseekV3", dict(
        hidden_size=136, intermediate_size=130, moe_intermediate_size=10, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, q_lora_rank=12, kv_lora_rank=14, qk_nope_head_dim=24, qk_rope_head_dim=10,
        v_head_dim=9, n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, first_k_dense_replace=1,
        n_group=2, topk_group=1, norm_topk_prob=True, routed_scaling_factor=2.5, num_nextn_predict_layers=0,
        rope_theta=1e4), tokens=17, margin=1e-3, published_config=True, extra=dict(V3_EXTRA, **FP8_CONFIG),
        scales={"weight": 0.1}, stored="fp8"),
    "kimi_k2/base": Case("DeepseekV3", dict(
        hidden_size=32, intermediate_size=40, moe_intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, q_lora_rank=16, kv_lora_rank=12, qk_nope_head_dim=8,
        qk_rope_head_dim=8, v_head_dim=8, n_routed_experts=10, n_shared_experts=1, num_experts_per_tok=4,
        first_k_dense_replace=1, n_group=1, topk_group=1, norm_topk_prob=True, routed_scaling_factor=2.827,
        num_nextn_predict_layers=0,
        rope_parameters=yarn(50.0, 32.0, 16, beta_fast=1.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0)),
        tokens=30, margin=5e-4, published_config=True, extra=dict(V3_EXTRA, pretraining_tp=1), model_type="kimi_k2"),
    "kimi_k2/bfloat16": Case("DeepseekV3", dict(
        hidden_size=32, intermediate_size=40, moe_intermediate_size=12, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, q_lora_rank=10, kv_lora_rank=20, qk_nope_head_dim=12, qk_rope_head_dim=4, v_head_dim=6,
        n_routed_experts=7, n_shared_experts=1, num_experts_per_tok=2, first_k_dense_replace=1, n_group=1,
        topk_group=1, norm_topk_prob=True, routed_scaling_factor=2.446, num_nextn_predict_layers=0,
        rope_theta=5e4), tokens=17, margin=1e-3, published_config=True, extra=V3_EXTRA, model_type="kimi_k2",
        stored="bfloat16"),

    "gpt_oss/base": Case("GptOss", dict(
        hidden_size=24, intermediate_size=10, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, num_local_experts=6, num_experts_per_tok=3, sliding_window=5, rms_norm_eps=1e-5,
        rope_parameters=yarn(150.0, 4.0, 16, beta_fast=2.0, beta_slow=0.25, truncate=False)),
        tokens=27, margin=5e-4, extra=dict(experts_per_token=3, initial_context_length=16),
        scales={"sinks": 1.0}, published_config=True),
    # Weights large enough that the clamps act, and layers that slide in another order.
    "gpt_oss/clamped-bfloat16": Case("GptOss", dict(
        hidden_size=32, intermediate_size=12, num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2,
        head_dim=6, num_local_experts=5, num_experts_per_tok=2, sliding_window=4, rms_norm_eps=1e-5,
        swiglu_limit=1.25, layer_types=["full_attention", "sliding_attention", "sliding_attention"],
        tie_word_embeddings=True, rope_parameters=yarn(1e3, 4.0, 16, beta_fast=4.0, truncate=True)),
        tokens=21, margin=1e-3, scales={"sinks": 2.0}, stored="bfloat16"),
    "gpt_oss/mxfp4": Case("GptOss", dict(
        hidden_size=64, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1,
        head_dim=16, num_local_experts=4, num_experts_per_tok=2, sliding_window=6, rms_norm_eps=1e-5,
        max_position_embeddings=2048, swiglu_limit=7.0,
        rope_parameters=yarn(150000.0, 32.0, 64, beta_fast=32.0, beta_slow=1.0, truncate=False)),
        tokens=19, margin=1e-3, published_config=True,
        extra=dict(experts_per_token=2, initial_context_length=64, **MXFP4_CONFIG),
        scales={"sinks": 1.0, "experts": 0.4}, stored="mxfp4"),

    "deepseek_v2/greedy": Case("DeepseekV2", dict(
        hidden_size=32, intermediate_size=40, moe_intermediate_size=10, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, q_lora_rank=None, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=6,
        v_head_dim=10, n_routed_experts=8, n_shared_experts=2, num_experts_per_tok=3, first_k_dense_replace=1,
        topk_method="greedy", n_group=1, topk_group=1, norm_topk_prob=False, routed_scaling_factor=1.0,
        rope_theta=1e4), tokens=17, margin=1e-3, published_config=True, extra=V2_EXTRA),
    "deepseek_v2/group-limited": Case("DeepseekV2", dict(
        hidden_size=24, intermediate_size=32, moe_intermediate_size=8, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=640, q_lora_rank=14, kv_lora_rank=12, qk_nope_head_dim=6,
        qk_rope_head_dim=8, v_head_dim=6, n_routed_experts=12, n_shared_experts=2, num_experts_per_tok=3,
        first_k_dense_replace=1, topk_method="group_limited_greedy", n_group=4, topk_group=2, norm_topk_prob=False,
        routed_scaling_factor=6.0,
        rope_parameters=yarn(50.0, 40.0, 16, beta_fast=1, beta_slow=0.1, mscale=0.707, mscale_all_dim=0.707)),
        tokens=31, margin=2e-4, published_config=True, extra=V2_EXTRA),

    "olmoe/base": Case("Olmoe", dict(
        hidden_size=32, intermediate_size=12, num_hidden_layers=2, num_attention_heads=4, num_experts=8,
        num_experts_per_tok=4, norm_topk_prob=False, rope_theta=1e4, eos_token_id=3),
        tokens=15, margin=1e-3, published_config=True),
    "olmoe/clip-gqa-norm": Case("Olmoe", dict(
        hidden_size=24, intermediate_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        num_experts=6, num_experts_per_tok=3, norm_topk_prob=True, clip_qkv=0.9, attention_bias=True,
        tie_word_embeddings=True, rope_theta=5e5, eos_token_id=3), tokens=15, margin=1e-3),
    "granitemoe/tied": Case("GraniteMoe", dict(
        hidden_size=32, intermediate_size=10, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        num_local_experts=8, num_experts_per_tok=4, embedding_multiplier=12.0, attention_multiplier=0.25,
        residual_multiplier=0.22, logits_scaling=6.0, rms_norm_eps=1e-6, tie_word_embeddings=True, rope_theta=1e4),
        tokens=17, margin=1e-3, published_config=True),
    "granitemoe/untied": Case("GraniteMoe", dict(
        hidden_size=24, intermediate_size=14, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
        num_local_experts=5, num_experts_per_tok=2, embedding_multiplier=3.0, attention_multiplier=0.5,
        residual_multiplier=0.7, logits_scaling=2.5, attention_bias=True, rope_theta=1.5e6), tokens=17, margin=1e-3),
    # LongRoPE below and beyond the original positions; the wide jitter makes near ties, where weights are not 1.
    "phimoe/short": Case("Phimoe", dict(
        hidden_size=32, intermediate_size=12, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        num_local_experts=6, num_experts_per_tok=2, router_jitter_noise=0.01, attention_bias=True, lm_head_bias=True,
        rms_norm_eps=1e-5, rope_parameters=dict(
            rope_type="longrope", rope_theta=1e4, short_factor=[1.0, 1.05, 1.3, 1.9], long_factor=[1.1, 2.0, 5.0, 9.0],
            short_mscale=1.2, long_mscale=1.4, original_max_position_embeddings=32)),
        tokens=21, margin=1e-3, published_config=True,
        extra=dict(architectures=["PhiMoEForCausalLM"], original_max_position_embeddings=32)),
    "phimoe/long": Case("Phimoe", dict(
        hidden_size=24, intermediate_size=16, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
        num_local_experts=8, num_experts_per_tok=2, router_jitter_noise=0.1, attention_bias=True, lm_head_bias=True,
        rms_norm_eps=1e-5, rope_parameters=dict(
            rope_type="longrope", rope_theta=1e4, short_factor=[1.0, 1.05, 1.3, 1.9], long_factor=[1.1, 2.0, 5.0, 9.0],
            short_mscale=1.2, long_mscale=1.4, original_max_position_embeddings=16)),
        tokens=27, margin=1e-3, published_config=True, extra=dict(original_max_position_embeddings=16)),
    "phimoe/window": Case("Phimoe", dict(
        hidden_size=24, intermediate_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        num_local_experts=5, num_experts_per_tok=2, router_jitter_noise=0.1, attention_bias=False, lm_head_bias=False,
        sliding_window=7, rms_norm_eps=1e-5, rope_theta=1e4), tokens=21, margin=1e-3),
    "dbrx/base": Case("Dbrx", dict(
        d_model=32, n_heads=4, n_layers=2, attn_config=dict(clip_qkv=0.9, kv_n_heads=2, rope_theta=5e5),
        ffn_config=dict(ffn_hidden_size=12, moe_num_experts=6, moe_top_k=3, moe_normalize_expert_weights=1.0),
        rope_parameters=dict(rope_type="default", rope_theta=5e5)),
        tokens=17, margin=1e-3, published_config=True, drop=("rope_theta", "rope_scaling", "num_key_value_heads")),
    "dbrx/not-normalised": Case("Dbrx", dict(
        d_model=24, n_heads=3, n_layers=3, attn_config=dict(clip_qkv=8.0, kv_n_heads=3, rope_theta=1e4),
        ffn_config=dict(ffn_hidden_size=10, moe_num_experts=5, moe_top_k=2, moe_normalize_expert_weights=None),
        rope_parameters=dict(rope_type="default", rope_theta=1e4)),
        tokens=17, margin=1e-3, published_config=True, drop=("rope_theta", "rope_scaling", "num_key_value_heads")),
    "minimax_m2/base": Case("MiniMaxM2", dict(
        hidden_size=24, intermediate_size=12, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=10, num_local_experts=6, num_experts_per_tok=3, rms_norm_eps=1e-6, rotary_dim=6,
        rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.6)),
        tokens=17, margin=1e-3, published_config=True, scales={"e_score_correction_bias": 0.3},
        extra=dict(scoring_func="sigmoid", use_routing_bias=True, use_qk_norm=True, qk_norm_type="per_layer",
                   shared_intermediate_size=0, rotary_dim=6, use_mtp=True, num_mtp_modules=3)),
    "minimax_m2/tied": Case("MiniMaxM2", dict(
        hidden_size=32, intermediate_size=10, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=1,
        head_dim=8, num_local_experts=5, num_experts_per_tok=2, rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=5e3, partial_rotary_factor=0.5)),
        tokens=17, margin=1e-3, scales={"e_score_correction_bias": 0.3}),
    "ernie4_5_moe/base": Case("Ernie4_5_Moe", dict(
        hidden_size=24, intermediate_size=28, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        moe_intermediate_size=8, moe_k=3, moe_num_experts=6, moe_num_shared_experts=2, moe_layer_start_index=1,
        rope_theta=1e4, tie_word_embeddings=True),
        tokens=17, margin=1e-3, published_config=True, scales={"e_score_correction_bias": 0.1},
        extra=dict(moe_gate_act="softmax", moe_use_aux_free=True)),
    # Every second layer from the third to the last but one, no shared expert.
    "ernie4_5_moe/interval": Case("Ernie4_5_Moe", dict(
        hidden_size=32, intermediate_size=20, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=4,
        moe_intermediate_size=12, moe_k=2, moe_num_experts=5, moe_num_shared_experts=0, moe_layer_start_index=2,
        moe_layer_end_index=4, moe_layer_interval=2, rope_theta=5e5, tie_word_embeddings=False),
        tokens=17, margin=1e-3, scales={"e_score_correction_bias": 0.1}),
}
