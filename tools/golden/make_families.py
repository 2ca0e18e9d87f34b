#!/usr/bin/env python3
"""Makes tests/golden/<family>/<case>/: tiny models with random weights, saved by transformers itself.

Each folder holds what save_pretrained writes, ids.npy (int64 [T]) and logits.npy (float32 [T, V], eager attention).
The tests load the folder and compare logits. Run with the versions of requirements.txt:

    python tools/golden/make_families.py [--output tests/golden]

Weights are large (standard deviation 0.2) so that logits vary, and a seed is taken where every token's choice of
experts is clear: rounding must not be able to change it.
"""

import argparse
import pathlib
import shutil

import numpy as np
import torch
import transformers

TOKENS = 13
STD = 0.2
MARGIN = 2e-3  # least difference between the score of the last chosen expert and the first that was not

COMMON = dict(vocab_size=61, max_position_embeddings=64, attn_implementation="eager")

# case: (config class, model class, keys, transformers writes the names of published files)
CASES = {
    "mixtral/base": ("Mixtral", dict(
        hidden_size=24, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, num_local_experts=5, num_experts_per_tok=2, rms_norm_eps=1e-5, rope_theta=1e6), True),
    # The form that transformers 5 has in memory: experts stacked, gate and up in one tensor.
    "mixtral/stacked-tied": ("Mixtral", dict(
        hidden_size=32, intermediate_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        num_local_experts=4, num_experts_per_tok=3, rms_norm_eps=1e-6, rope_theta=5e3, tie_word_embeddings=True),
        False),
    "qwen2_moe/base": ("Qwen2Moe", dict(
        hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        num_experts=6, num_experts_per_tok=3, moe_intermediate_size=12, shared_expert_intermediate_size=20,
        norm_topk_prob=False, rope_theta=1e6), True),
    "qwen2_moe/dense-rows": ("Qwen2Moe", dict(
        hidden_size=24, intermediate_size=28, num_hidden_layers=4, num_attention_heads=3, num_key_value_heads=1,
        num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12, shared_expert_intermediate_size=16,
        norm_topk_prob=True, decoder_sparse_step=2, mlp_only_layers=[1], qkv_bias=False, tie_word_embeddings=True),
        True),
    "qwen3_moe/base": ("Qwen3Moe", dict(
        hidden_size=24, intermediate_size=28, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=10, num_experts=6, num_experts_per_tok=4, moe_intermediate_size=12, norm_topk_prob=True,
        rope_theta=1e6), True),
    "qwen3_moe/bias-dense-rows": ("Qwen3Moe", dict(
        hidden_size=24, intermediate_size=28, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
        head_dim=6, num_experts=4, num_experts_per_tok=1, moe_intermediate_size=16, norm_topk_prob=False,
        attention_bias=True, mlp_only_layers=[0], tie_word_embeddings=True), True),
    "glm4_moe/base": ("Glm4Moe", dict(
        hidden_size=24, intermediate_size=28, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
        head_dim=8, n_routed_experts=6, num_experts_per_tok=3, moe_intermediate_size=12, n_shared_experts=1,
        first_k_dense_replace=1, norm_topk_prob=True, routed_scaling_factor=2.5, partial_rotary_factor=1.0,
        rope_theta=1e6, num_nextn_predict_layers=0), True),
    "glm4_moe/all-moe": ("Glm4Moe", dict(
        hidden_size=32, intermediate_size=28, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        head_dim=8, n_routed_experts=5, num_experts_per_tok=2, moe_intermediate_size=8, n_shared_experts=2,
        first_k_dense_replace=0, norm_topk_prob=False, routed_scaling_factor=1.5, partial_rotary_factor=1.0,
        attention_bias=True, use_qk_norm=True, tie_word_embeddings=True, num_nextn_predict_layers=0), True),
    "llama/base": ("Llama", dict(
        hidden_size=32, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        rms_norm_eps=1e-5, rope_theta=1e4), True),
    "llama/bias-tied": ("Llama", dict(
        hidden_size=24, intermediate_size=36, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=1,
        head_dim=10, rms_norm_eps=1e-6, rope_theta=5e5, attention_bias=True, tie_word_embeddings=True), True),
}


def fill(model, seed):
    generator = torch.Generator().manual_seed(seed)
    tensors = list(model.named_parameters()) + [
        (name, buffer) for name, buffer in model.named_buffers() if name.endswith("e_score_correction_bias")]
    with torch.no_grad():
        for name, tensor in tensors:
            values = torch.randn(tensor.shape, generator=generator) * STD
            tensor.copy_(1.0 + values if "norm" in name else values)


def routing_margin(model, ids):
    """The least difference, over layers and tokens, between the last chosen score and the first that is not."""
    margins = [float("inf")]

    def look(module, _, output):
        logits = output[0].float()
        bias = getattr(module, "e_score_correction_bias", None)
        scores = logits.softmax(-1) if bias is None else logits.sigmoid() + bias
        ordered = scores.sort(-1, descending=True).values
        margins.append((ordered[:, module.top_k - 1] - ordered[:, module.top_k]).min().item())

    hooks = [m.register_forward_hook(look) for m in model.modules() if "router" in type(m).__name__.lower()]
    with torch.no_grad():
        logits = model(ids).logits[0]
    for hook in hooks:
        hook.remove()
    return min(margins), logits


def make(folder, name, keys, published_names):
    config = getattr(transformers, name + "Config")(**COMMON, **keys)
    model = getattr(transformers, name + "ForCausalLM")(config).eval()
    for seed in range(1000):
        fill(model, seed)
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, config.vocab_size, (1, TOKENS), generator=generator)
        margin, logits = routing_margin(model, ids)
        if margin > MARGIN:
            break
    else:
        raise SystemExit(f"{folder}: no seed gives a clear routing")
    if folder.exists():
        shutil.rmtree(folder)
    model.save_pretrained(folder, save_original_format=published_names)
    (folder / "generation_config.json").unlink(missing_ok=True)
    np.save(folder / "ids.npy", ids[0].numpy())
    np.save(folder / "logits.npy", logits.numpy())
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{folder}: seed {seed}, routing margin {margin:.4f}, logits within {logits.abs().max():.2f}, {size} bytes")


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, default=root / "tests" / "golden")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for case, (name, keys, published_names) in CASES.items():
        make(arguments.output / case, name, keys, published_names)


if __name__ == "__main__":
    main()
