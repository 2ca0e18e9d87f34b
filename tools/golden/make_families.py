#!/usr/bin/env python3
"""Makes tests/golden/<family>/<case>/ for the families that transformers has: see fixtures.py for what is in a folder.

Run with the versions of requirements.txt, for all cases or for those whose names begin so:

    python tools/golden/make_families.py [--output tests/golden] [CASE ...]

families.py holds the cases. Weights are large (standard deviation 0.2) so that logits vary, and a seed is taken where
every token's choice of experts is clear, so that rounding cannot change it, and where float32 and float64 agree.
Each folder is read again by transformers and must give the same logits.
"""

import copy
import functools
import json
import pathlib
import tempfile

import safetensors.torch
import torch
import transformers

import families
import fixtures
import low_precision


def sparsemixer_gap(scores, jitter):
    """As kth_gap for Phi-3.5-MoE: also how far each score is from the edge of the mask of near ties."""
    gaps = []
    rest = scores
    for _ in range(2):
        best, index = rest.max(-1, keepdim=True)
        distance = (best - scores) / scores.abs().clamp(min=best)
        others = torch.ones_like(scores, dtype=torch.bool).scatter_(1, index, False) & torch.isfinite(rest)
        gaps += [(distance - 2 * jitter).abs()[others].min().item(), fixtures.kth_gap(rest, 1)]
        rest = rest.scatter(1, index, float("-inf"))
    return min(gaps)


def router_gap(router, inputs, logits):
    logits = logits.float()
    if "MiniMax" in type(router).__name__:  # which is handed its bias
        return fixtures.kth_gap(logits.sigmoid() + inputs[1], router.top_k)
    if hasattr(router, "moe_statics"):
        return fixtures.kth_gap(router.moe_statics(logits.softmax(-1)), router.top_k)
    if hasattr(router, "router_jitter_noise"):
        return sparsemixer_gap(logits, router.router_jitter_noise)
    if hasattr(router, "e_score_correction_bias"):
        scores = logits.sigmoid() + router.e_score_correction_bias
        group_scores = scores.unflatten(-1, (router.num_group, -1)).topk(2, -1).values.sum(-1)
        return fixtures.group_limited_gap(scores, router.top_k, group_scores, router.topk_group)
    scores = logits.softmax(-1)
    if getattr(router, "topk_method", "greedy") == "group_limited_greedy":
        group_scores = scores.unflatten(-1, (router.num_group, -1)).amax(-1)
        return fixtures.group_limited_gap(scores, router.top_k, group_scores, router.topk_group)
    return fixtures.kth_gap(scores, router.top_k)


def run_model(model, ids):
    experts = []
    margins = [float("inf")]

    def look(router, inputs, output):
        if isinstance(output, tuple):
            logits, _, chosen = output
        else:  # DBRX, whose router gives logits alone
            router.top_k = model.config.ffn_config.moe_top_k
            logits = output
            chosen = logits.softmax(-1).topk(router.top_k, -1).indices
        experts.append(chosen)
        margins.append(router_gap(router, inputs, logits))

    hooks = [m.register_forward_hook(look) for m in model.modules() if "router" in type(m).__name__.lower()]
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    return fixtures.Run(logits, experts, min(margins))


def settle(model, case):
    """Where 5.23 is not what the published code does: Phi-3.5-MoE takes the long factors beyond the original length."""
    if case.model == "Phimoe" and model.model.rotary_emb.rope_type == "longrope":
        rotary = model.model.rotary_emb
        rotary.rope_init_fn = functools.partial(rotary.rope_init_fn, seq_len=case.tokens)
    return model


def is_quantised(name, tensor, case):
    if case.stored == "fp8":
        kept = ("embed_tokens", "lm_head", "norm", "mlp.gate.")
        return tensor.ndim == 2 and not any(part in name for part in kept)
    return case.stored == "mxfp4" and name.endswith(("experts.gate_up_proj", "experts.down_proj"))


def store(tensors, case):
    """The tensors of a float32 checkpoint -> (as they are stored, their values in float32)."""
    stored, values = {}, {}
    for name, tensor in tensors.items():
        if is_quantised(name, tensor, case) and case.stored == "fp8":
            stored[name], scales = low_precision.to_fp8_blocks(tensor)
            stored[name + "_scale_inv"] = scales
            values[name] = low_precision.from_fp8_blocks(stored[name], scales)
        elif is_quantised(name, tensor, case):
            blocks, scales = low_precision.to_mxfp4(tensor.transpose(1, 2))
            stored[name + "_blocks"], stored[name + "_scales"] = blocks, scales
            values[name] = low_precision.from_mxfp4(blocks, scales).transpose(1, 2).contiguous()
        elif case.stored == "float32" or name.endswith("e_score_correction_bias"):
            stored[name] = values[name] = tensor
        else:
            stored[name] = tensor.bfloat16()
            values[name] = stored[name].float()
    return stored, values


def with_prediction_layer(tensors, layers, tables):
    """Adds a layer for multi-token prediction after the last, under the names of DeepSeek-V3's files."""
    generator = torch.Generator().manual_seed(layers)
    last, new = f"model.layers.{layers - 1}.", f"model.layers.{layers}."
    hidden = tensors["model.norm.weight"].shape[0]
    like = {new + name[len(last):]: t.shape for name, t in tensors.items() if name.startswith(last)}
    like.update({new + "enorm.weight": (hidden,), new + "hnorm.weight": (hidden,), new + "shared_head.norm.weight": (
        hidden,), new + "eh_proj.weight": (hidden, 2 * hidden)})
    added = {n: fixtures.random_values(n, shape, generator, fixtures.STD) for n, shape in like.items()}
    for name, shared in (("embed_tokens", "model.embed_tokens"), ("shared_head.head", "lm_head")):
        table = tensors[shared + ".weight"]
        other = torch.randn(table.shape, generator=generator) * fixtures.STD if tables == "other" else table.clone()
        added[f"{new}{name}.weight"] = other
    return {**tensors, **added}


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", experts_implementation="eager", dtype=torch.float32).eval()


def make(folder, case):
    config = getattr(transformers, case.model + "Config")(**{**families.COMMON, **case.config})
    model_class = getattr(transformers, case.model + "ForCausalLM")
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        weights = temporary / "model.safetensors"

        def pass_of(seed):
            model = model_class(copy.deepcopy(config)).eval()
            fixtures.fill(model, seed, case.scales)
            if case.stored != "float32":
                model.save_pretrained(temporary, save_original_format=case.published_names)
                stored, values = store(safetensors.torch.load_file(weights), case)
                safetensors.torch.save_file(values, weights, metadata={"format": "pt"})
                model = load(temporary)
                model.stored = stored
            settle(model, case)
            ids = fixtures.prompt(seed, case.tokens, config.vocab_size)
            return model, ids, run_model(model, ids)

        def to_double(model, ids):
            with torch.no_grad():
                return settle(copy.deepcopy(model), case).double()(ids, use_cache=False).logits[0]

        seed, model, ids, run, error = fixtures.two_passes(pass_of, to_double, range(1000), case.margin)
        model.save_pretrained(temporary, save_original_format=case.published_names)
        again = run_model(settle(load(temporary), case), ids)
        # The same but for rounding: kernels choose their order of sums by the alignment of memory.
        if (again.logits - run.logits).abs().max() > 1e-6 * run.logits.abs().max():
            raise SystemExit(f"{folder}: read again, the model gives other logits")
        fixtures.start_folder(folder)
        tensors = getattr(model, "stored", None) or safetensors.torch.load_file(weights)
        if case.mtp:
            tensors = with_prediction_layer(tensors, config.num_hidden_layers, case.mtp)
        safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        written = json.loads((temporary / "config.json").read_text())
        fixtures.write_json(folder / "config.json", final_config(written, case))
        fixtures.save_run(folder, ids, run)
    fixtures.report(folder, seed, run, error)


def final_config(config, case):
    if case.stored != "float32":
        config["dtype"] = "bfloat16"
    if case.model_type:
        config["model_type"] = case.model_type
    if case.published_config:
        config = fixtures.published_config(config)
    config.update(case.extra)
    for key in case.drop:
        config.pop(key, None)
    for part in ("attn_config", "ffn_config"):  # of DBRX, where 5.23 writes what every configuration has
        if part in config:
            config[part] = {key: value for key, value in config[part].items() if key in case.config[part]}
    return config


if __name__ == "__main__":
    fixtures.make_cases(__doc__, families.CASES, make)
