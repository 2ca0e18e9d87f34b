#!/usr/bin/env python3
"""Adds prediction.npy to the fixtures that have a layer for multi-token prediction.

Run with the versions of requirements.txt after make_families.py, for all such folders or for those named:

    python tools/golden/make_prediction.py [FOLDER ...]

prediction.npy, float32 [T - 1 + 2, V]: the layer's logits. Row t is made of the model's final hidden state of token t
(after its last norm) and of token t + 1; the last two go on from the layer's own output after shared_head.norm, with
the likeliest token of the row before. By DeepSeek-AI 2024, arXiv 2412.19437, section 2.2, with the embedding before the
hidden state, as the published weights have it. The layer itself is the decoder layer of transformers: the checkpoint is
loaded as one with a layer more.
"""

import copy
import json
import pathlib
import sys

import numpy as np
import safetensors.torch
import torch
import transformers

import fixtures
import make_families

CHAINED = 2
LEAST_MARGIN = 2e-4


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


class Module:
    def __init__(self, folder):
        config = transformers.AutoConfig.from_pretrained(folder)
        self.layers = config.num_hidden_layers
        longer = copy.deepcopy(config)
        longer.num_hidden_layers += 1
        self.body = transformers.AutoModelForCausalLM.from_pretrained(
            folder, config=longer, attn_implementation="eager", experts_implementation="eager",
            dtype=torch.float32).eval()
        self.eps = config.rms_norm_eps
        prefix = f"model.layers.{self.layers}."
        self.own = {name[len(prefix):]: tensor.float()
                    for name, tensor in safetensors.torch.load_file(folder / "model.safetensors").items()
                    if name.startswith(prefix)}

    def double(self):
        self.body.double()
        self.own = {name: tensor.double() for name, tensor in self.own.items()}
        return self

    def table(self, name, shared):
        return self.own[name] if name in self.own else shared

    def inputs(self, hidden, token):
        table = self.table("embed_tokens.weight", self.body.model.embed_tokens.weight)
        joined = torch.cat([rms_norm(table[token], self.own["enorm.weight"], self.eps),
                            rms_norm(hidden, self.own["hnorm.weight"], self.eps)], -1)
        return joined @ self.own["eh_proj.weight"].T

    def run(self, x):
        """x [T, D] -> (outputs after the norm [T, D], logits [T, V])."""
        count = x.shape[0]
        position = torch.arange(count)[None]
        mask = torch.full((count, count), torch.finfo(x.dtype).min, dtype=x.dtype).triu(1)[None, None]
        out = self.body.model.layers[self.layers](
            x[None], attention_mask=mask, position_ids=position,
            position_embeddings=self.body.model.rotary_emb(x[None], position))
        out = (out[0] if isinstance(out, tuple) else out).reshape(count, -1)
        out = rms_norm(out, self.own["shared_head.norm.weight"], self.eps)
        return out, out @ self.table("shared_head.head.weight", self.body.lm_head.weight).T


def predictions(module, hidden, ids):
    """Also the least distance of a choice of experts from another."""
    x = module.inputs(hidden[:-1], ids[1:])
    for _ in range(CHAINED):
        out, logits = module.run(x)
        x = torch.cat([x, module.inputs(out[-1:], logits[-1:].argmax(-1))])
    margins = []
    router = [m for m in module.body.model.layers[module.layers].modules() if "router" in type(m).__name__.lower()][0]
    hook = router.register_forward_hook(lambda m, i, o: margins.append(
        make_families.router_gap(m, i, o[0] if isinstance(o, tuple) else o)))
    out, logits = module.run(x)
    hook.remove()
    return logits, min(margins)


def make(folder):
    ids = torch.from_numpy(np.load(folder / "ids.npy"))
    model = make_families.load(folder)
    with torch.no_grad():
        logits, margin = predictions(Module(folder), model.model(ids[None], use_cache=False).last_hidden_state[0], ids)
        exact, _ = predictions(
            Module(folder).double(), model.double().model(ids[None], use_cache=False).last_hidden_state[0], ids)
    error = ((logits.double() - exact).abs().max() / exact.abs().max()).item()
    if margin < LEAST_MARGIN or error > fixtures.CONDITION:
        raise SystemExit(f"{folder}: routing margin {margin:.1e}, float32 off by {error:.1e}")
    np.save(folder / "prediction.npy", logits.float().numpy())
    print(f"{folder}: {tuple(logits.shape)}, routing margin {margin:.4f}, float32 off by {error:.1e}")


def main():
    root = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"
    folders = [pathlib.Path(name) for name in sys.argv[1:]] or sorted(
        path.parent for path in root.glob("*/*/config.json")
        if json.loads(path.read_text()).get("num_nextn_predict_layers", 0) > 0)
    torch.set_num_threads(1)
    for folder in folders:
        make(folder)


if __name__ == "__main__":
    main()
