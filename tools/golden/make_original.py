#!/usr/bin/env python3
"""Makes the fixtures of DeepSeek models that only the code published with their weights expresses, and checks others.

    make_original.py make MODELING.py CASE...     e.g. make modeling_deepseek.py deepseek
    make_original.py check MODELING.py FOLDER...  compares a fixture's logits and experts with that code's

MODELING.py is the file modeling_deepseek.py that lies beside the weights of DeepSeekMoE-16B ("deepseek"), DeepSeek-V2
(also in the project's repository ESFT) or DeepSeek-V3 and Kimi-K2. It is not part of this repository. Needs the
versions of requirements-original.txt: that code is written for transformers 4.
"""

import importlib.util
import json
import pathlib
import re
import sys
import types

import safetensors.torch
import torch
import transformers

import fixtures
import low_precision

COMMON = dict(
    vocab_size=61, hidden_act="silu", attention_bias=False, attention_dropout=0.0, aux_loss_alpha=0.001, seq_aux=True,
    initializer_range=0.02, max_position_embeddings=64, rms_norm_eps=1e-6, pretraining_tp=1, use_cache=True,
    tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, rope_theta=10000.0, rope_scaling=None,
    scoring_func="softmax", moe_layer_freq=1, first_k_dense_replace=1, torch_dtype="float32")

# case -> (keys of config.json, tokens, margin)
CASES = {
    "deepseek/base": (dict(
        architectures=["DeepseekForCausalLM"], model_type="deepseek", hidden_size=32, intermediate_size=40,
        moe_intermediate_size=8, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
        n_routed_experts=8, n_shared_experts=2, num_experts_per_tok=3, norm_topk_prob=False), 19, 1e-3),
    "deepseek/every-second": (dict(
        architectures=["DeepseekForCausalLM"], model_type="deepseek", hidden_size=24, intermediate_size=28,
        moe_intermediate_size=10, num_hidden_layers=5, num_attention_heads=4, num_key_value_heads=2,
        n_routed_experts=6, n_shared_experts=1, num_experts_per_tok=2, norm_topk_prob=True, moe_layer_freq=2,
        attention_bias=True, rope_scaling=dict(type="linear", factor=2.0)), 19, 1e-3),
    # transformers' own class knows no norm_topk_prob for this family; the original then leaves the scaling factor out.
    "deepseek_v2/normalised": (dict(
        architectures=["DeepseekV2ForCausalLM"], model_type="deepseek_v2", hidden_size=24, intermediate_size=32,
        moe_intermediate_size=8, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4, q_lora_rank=None,
        kv_lora_rank=12, qk_nope_head_dim=6, qk_rope_head_dim=8, v_head_dim=6, n_routed_experts=6, n_shared_experts=1,
        num_experts_per_tok=3, ep_size=1, topk_method="greedy", n_group=1, topk_group=1, norm_topk_prob=True,
        routed_scaling_factor=3.0, max_position_embeddings=64, rope_theta=50.0, rope_scaling=dict(
            type="yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=1, beta_slow=0.1, mscale=0.5,
            mscale_all_dim=1.0)), 27, 1e-3),
}


def original_class(path):
    """The ...ForCausalLM of a modeling file. Its configuration class is one that only holds the keys given to it."""
    source = pathlib.Path(path).read_text()
    package = sys.modules["original"] = types.ModuleType("original")
    package.__path__ = []
    for module_name, class_name in re.findall(r"^from \.(\w+) import (\w+)", source, re.MULTILINE):
        module = sys.modules["original." + module_name] = types.ModuleType("original." + module_name)
        setattr(module, class_name, type(class_name, (transformers.PretrainedConfig,), {"model_type": "original"}))
        config_class = getattr(module, class_name)
    spec = importlib.util.spec_from_file_location("original.modeling", path)
    modeling = sys.modules["original.modeling"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(modeling)
    name = next(n for n in dir(modeling) if n.startswith("Deepseek") and n.endswith("ForCausalLM"))
    return config_class, getattr(modeling, name)


def build(classes, config):
    config_class, model_class = classes
    keys = {k: v for k, v in config.items() if k not in ("model_type", "torch_dtype", "quantization_config")}
    built = config_class(**keys)
    built._attn_implementation = "eager"
    return model_class(built).eval().float()


def router_gap(gate, states):
    logits = states.reshape(-1, states.shape[-1]).float() @ gate.weight.float().T
    config = gate.config
    scores, groups = logits.softmax(-1), None
    if config.scoring_func == "sigmoid":
        scores = logits.sigmoid() + gate.e_score_correction_bias
        groups = scores.unflatten(-1, (config.n_group, -1)).topk(2, -1).values.sum(-1)
    elif getattr(config, "topk_method", "greedy") == "group_limited_greedy":
        groups = scores.unflatten(-1, (config.n_group, -1)).amax(-1)
    if groups is None:
        return fixtures.kth_gap(scores, gate.top_k)
    return fixtures.group_limited_gap(scores, gate.top_k, groups, config.topk_group)


def run_model(model, ids):
    experts, margins = [], [float("inf")]

    def look(gate, inputs, output):
        experts.append(output[0])
        margins.append(router_gap(gate, inputs[0]))

    hooks = [m.register_forward_hook(look) for m in model.modules() if type(m).__name__ == "MoEGate"]
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    return fixtures.Run(logits, experts, min(margins))


def make(folder, classes, keys, tokens, margin):
    config = {**COMMON, **keys}

    def pass_of(seed):
        model = build(classes, config)
        fixtures.fill(model, seed)
        ids = fixtures.prompt(seed, tokens, config["vocab_size"])
        return model, ids, run_model(model, ids)

    # The original cannot run in float64; that its float32 is near is shown by whoever agrees with it.
    seed, model, ids, run, error = fixtures.two_passes(pass_of, lambda model, ids: None, range(1000), margin)
    fixtures.start_folder(folder)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if "rotary" not in name}
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    fixtures.write_json(folder / "config.json", config)
    fixtures.save_run(folder, ids, run)
    fixtures.report(folder, seed, run, error)


def values_of(folder, layers):
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    values = {}
    for name, tensor in stored.items():
        if name.endswith("_scale_inv") or name.startswith(f"model.layers.{layers}."):
            continue
        scales = stored.get(name + "_scale_inv")
        values[name] = tensor.float() if scales is None else low_precision.from_fp8_blocks(tensor, scales)
    return values


def check(folder, classes):
    config = json.loads((folder / "config.json").read_text())
    if "rope_parameters" in config:
        v3 = config["model_type"] == "deepseek_v3"
        config = {**COMMON, **fixtures.published_config(config)}
        config.update(dict(scoring_func="sigmoid", topk_method="noaux_tc") if v3 else {})
    model = build(classes, {"ep_size": 1, **config})
    values = values_of(folder, config["num_hidden_layers"])
    missing, unexpected = model.load_state_dict(values, strict=False)
    missing = [name for name in missing if "rotary" not in name]
    if config["tie_word_embeddings"]:
        model.lm_head.weight = model.model.embed_tokens.weight
        missing.remove("lm_head.weight")
    if missing or unexpected:
        raise SystemExit(f"{folder}: missing {missing}, unexpected {unexpected}")
    numpy = fixtures.np
    ids = torch.from_numpy(numpy.load(folder / "ids.npy"))[None]
    run = run_model(model, ids)
    expected = torch.from_numpy(numpy.load(folder / "logits.npy"))
    difference = ((run.logits - expected).abs().max() / expected.abs().max()).item()
    chosen = torch.stack([indices.sort(-1).values for indices in run.experts])
    same = torch.equal(chosen, torch.from_numpy(numpy.load(folder / "experts.npy")).long())
    print(f"{folder}: logits differ by {difference:.1e} of the largest, experts {'the same' if same else 'DIFFERENT'}")
    return same and difference < 1e-5


def main():
    if len(sys.argv) < 4 or sys.argv[1] not in ("make", "check"):
        sys.exit(__doc__)
    torch.set_num_threads(1)
    classes = original_class(sys.argv[2])
    golden = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"
    if sys.argv[1] == "check":
        sys.exit(0 if all([check(pathlib.Path(folder), classes) for folder in sys.argv[3:]]) else 1)
    for name, (keys, tokens, margin) in CASES.items():
        if name.startswith(tuple(sys.argv[3:])):
            make(golden / name, classes, keys, tokens, margin)


if __name__ == "__main__":
    main()
