"""What the scripts that make model fixtures share: random weights, the choice of a seed, and the files of a fixture.

A fixture is a folder of
    config.json, model.safetensors   what a checkpoint of that family holds, with random weights
    ids.npy      int64 [T]           the prompt
    logits.npy   float32 [T, V]      of the whole prompt at once, in float32
    experts.npy  int32 [L_moe, T, K] the chosen experts of each token in ascending order, a row per MoE layer from the
                                     first on; absent where the model has no experts
"""

import argparse
import dataclasses
import json
import pathlib
import shutil

import numpy as np
import torch

STD = 0.2
MARGIN = 2e-3  # least difference between what was just chosen and what was just not, unless a case says otherwise
CONDITION = 4e-6  # most that float32 logits may differ from float64 ones, relative to the largest logit


@dataclasses.dataclass
class Run:
    """What one forward pass gave."""

    logits: torch.Tensor  # [T, V]
    experts: list  # [T, K] of each MoE layer
    margin: float  # over layers and tokens, how far the routing is from another choice


def random_values(name, shape, generator, std):
    values = torch.randn(shape, generator=generator) * std
    if "norm" in name and len(shape) == 1 and not name.endswith("bias"):
        return 1.0 + values
    return values


def fill(model, seed, scales=None):
    """Random values for every parameter and bias of selection. `scales`: part of a name -> other deviation."""
    generator = torch.Generator().manual_seed(seed)
    tensors = list(model.named_parameters()) + [
        (name, buffer) for name, buffer in model.named_buffers() if name.endswith("e_score_correction_bias")]
    with torch.no_grad():
        for name, tensor in tensors:
            std = next((value for part, value in (scales or {}).items() if part in name), STD)
            tensor.copy_(random_values(name, tensor.shape, generator, std))


def prompt(seed, tokens, vocab_size):
    return torch.randint(0, vocab_size, (1, tokens), generator=torch.Generator().manual_seed(seed))


def kth_gap(scores, k):
    """Difference of the k-th largest and the next, the least over rows; infinite where all are taken."""
    if k >= scores.shape[-1]:
        return float("inf")
    ordered = scores.sort(-1, descending=True).values
    return (ordered[:, k - 1] - ordered[:, k]).min().item()


def group_limited_gap(scores, k, group_scores, topk_group):
    """As kth_gap where only the experts of the best groups may be chosen."""
    groups = group_scores.shape[-1]
    kept = torch.zeros_like(group_scores).scatter_(1, group_scores.topk(topk_group, -1).indices, 1).bool()
    allowed = scores.masked_fill(~kept.repeat_interleave(scores.shape[-1] // groups, dim=-1), float("-inf"))
    return min(kth_gap(allowed, k), kth_gap(group_scores, topk_group))


def two_passes(pass_of, to_double, seeds, margin, condition=CONDITION):
    """The first seed with clear routing whose float32 logits are near those of float64.

    `pass_of(seed)` -> (model, ids, Run). `to_double(model, ids)` -> logits in float64, or None to leave that out.
    """
    for seed in seeds:
        model, ids, run = pass_of(seed)
        if run.margin < margin or not torch.isfinite(run.logits).all():
            continue
        exact = to_double(model, ids)
        error = 0.0
        if exact is not None:
            error = ((run.logits.double() - exact).abs().max() / exact.abs().max()).item()
        if error <= condition:
            return seed, model, ids, run, error
    raise SystemExit("no seed gives clear routing and exact logits")


def start_folder(folder):
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def save_run(folder, ids, run):
    np.save(folder / "ids.npy", ids[0].numpy().astype(np.int64))
    np.save(folder / "logits.npy", run.logits.float().numpy())
    if run.experts:
        chosen = torch.stack([indices.sort(-1).values for indices in run.experts])
        np.save(folder / "experts.npy", chosen.numpy().astype(np.int32))


def report(folder, seed, run, error):
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{folder.parent.name}/{folder.name}: seed {seed}, routing margin {run.margin:.4f}, logits within "
          f"{run.logits.abs().max():.2f}, float32 off by {error:.1e}, {size} bytes", flush=True)


def make_cases(description, cases, make, folder="", prepare=lambda: None):
    """The command line of a script: makes all cases, or those whose names begin with an argument."""
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, default=root / "tests" / "golden")
    parser.add_argument("cases", nargs="*")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    prepare()
    for name, case in cases.items():
        if not arguments.cases or name.startswith(tuple(arguments.cases)):
            make(arguments.output / folder / name, case)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def published_config(config):
    """The dialect of transformers 4, which published files speak, of a config that transformers 5 wrote."""
    config = dict(config)
    rope = dict(config.pop("rope_parameters", None) or {})
    kind = rope.pop("rope_type", "default")
    if "rope_theta" in rope:
        config["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    if kind == "longrope" or kind == "linear":
        config["rope_scaling"] = {"type": kind, **rope}
    else:
        config["rope_scaling"] = None if kind == "default" else {"rope_type": kind, **rope}
    if config["model_type"] in ("deepseek_v2", "deepseek_v3", "kimi_k2"):
        # What the native class works out for itself is in no published file; there head_dim is that of the rotary part.
        for key in ("head_dim", "qk_head_dim", "rope_interleave"):
            config.pop(key, None)
        if config["rope_scaling"]:
            config["rope_scaling"]["type"] = config["rope_scaling"].pop("rope_type")
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    return config
