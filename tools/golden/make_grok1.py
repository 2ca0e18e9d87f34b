#!/usr/bin/env python3
"""Makes the fixtures of Grok-1 with the model.py of the repository that xAI published (JAX).

    make_grok1.py MODEL.py

MODEL.py is not part of this repository. Needs the versions of requirements-grok1.txt. Two things of it are changed
while it runs: what it computes in bfloat16 it computes in float32, and its weights of experts, which it wants in 8 bits
with scales, are float32 with scales of one. It also fixes the number of experts at 8.

No weights were published under the names of a Hugging Face checkpoint by xAI. The two cases are named as two
conversions are: keyfan/grok-1-hf (transformer.decoder_layer.N) and hpcai-tech/grok-1 (model.layers.N).
"""

import importlib.util
import pathlib
import sys

import haiku
import jax
import jax.experimental.maps
import numpy as np
import safetensors.torch
import torch

import fixtures

EXPERTS = 8
TOP_K = 2
EPSILON = 1e-5
CAP = 30.0
THETA = 10000.0

# case -> (sizes, which conversion names the tensors, tokens)
CASES = {
    "grok-1/transformer-names": (dict(
        hidden=32, layers=2, heads=4, kv_heads=2, widening=1.0, attention=8**-0.5, output=0.5773502691896257),
        "keyfan", 17),
    # Scores large enough that the cap bends them.
    "grok-1/model-names": (dict(
        hidden=24, layers=2, heads=2, kv_heads=1, widening=1.0, attention=3.0, output=0.4), "hpcai", 19),
}
VOCABULARY = 61


class Float32Numpy:
    """jax.numpy where bfloat16 is float32."""

    bfloat16 = jax.numpy.float32

    def __getattr__(self, name):
        return getattr(jax.numpy, name)


def original(path):
    spec = importlib.util.spec_from_file_location("grok_model", path)
    module = sys.modules["grok_model"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.jnp = Float32Numpy()
    return module


def run_original(module, sizes, seed, ids):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "model"))
    config = module.LanguageModelConfig(
        model=module.TransformerConfig(
            emb_size=sizes["hidden"], widening_factor=sizes["widening"], key_size=sizes["hidden"] // sizes["heads"],
            num_q_heads=sizes["heads"], num_kv_heads=sizes["kv_heads"], num_layers=sizes["layers"],
            attn_output_multiplier=sizes["attention"], num_experts=EXPERTS, num_selected_experts=TOP_K),
        vocab_size=VOCABULARY, pad_token=0, eos_token=2, sequence_len=64,
        embedding_init_scale=1.0, output_multiplier_scale=sizes["output"],
        embedding_multiplier_scale=sizes["hidden"] ** 0.5, fprop_dtype=jax.numpy.float32)
    network = haiku.transform(lambda tokens: config.make(mesh=mesh)(tokens).logits)
    probabilities = []
    routing = module.Router.compute_routing_prob

    def look(router, *arguments):
        result = routing(router, *arguments)
        probabilities.append(result[0])
        return result

    tokens = jax.numpy.asarray(ids.numpy().astype(np.int32))
    with mesh:
        parameters = network.init(jax.random.PRNGKey(0), tokens)
        generator = torch.Generator().manual_seed(seed)
        for part in sorted(parameters):
            for name, old in parameters[part].items():
                values = fixtures.random_values(part, old.shape, generator, fixtures.STD).numpy()
                parameters[part][name] = values
        weighed = {
            part: {n: module.QuantizedWeight8bit(w, np.ones((EXPERTS, 1, w.shape[2]), np.float32))
                   for n, w in inner.items()} if "/moe/" in part else inner
            for part, inner in parameters.items()}
        module.Router.compute_routing_prob = look
        try:
            logits = network.apply(weighed, None, tokens)
        finally:
            module.Router.compute_routing_prob = routing
    probabilities = [torch.from_numpy(np.array(p[0])) for p in probabilities]
    run = fixtures.Run(
        torch.from_numpy(np.array(logits[0])), [p.topk(TOP_K, -1).indices for p in probabilities],
        min(fixtures.kth_gap(p, TOP_K) for p in probabilities))
    return parameters, run


def converted(parameters, layers, conversion):
    """The tensors under the names of a conversion. JAX keeps [in, out], those [out, in]."""
    get = {part.replace("language_model/", "").replace("/~/", "/"): inner for part, inner in parameters.items()}
    tensors = {}

    def put(keyfan, hpcai, values):
        tensors[keyfan if conversion == "keyfan" else hpcai] = torch.from_numpy(np.array(values)).contiguous()

    embedding = get["in_out_embed"]["embeddings"]
    put("transformer.in_out_embed.weight", "model.embed_tokens.weight", embedding)
    if conversion == "keyfan":  # which has the same values twice and calls them untied
        tensors["lm_head.weight"] = torch.from_numpy(np.array(embedding))
    put("transformer.rms_norm.weight", "model.norm.weight", get["rms_norm"]["scale"])
    for i in range(layers):
        jax_layer, old, new = f"transformer/decoder_layer_{i}/", f"transformer.decoder_layer.{i}.", f"model.layers.{i}."
        norms = ("pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm")
        for norm, hpcai in zip(("rms_norm", "rms_norm_1", "rms_norm_2", "rms_norm_3"), norms):
            put(f"{old}{norm}.weight", f"{new}{hpcai}.weight", get[jax_layer + norm]["scale"])
        for part, hpcai in zip(("query", "key", "value", "linear"), "qkvo"):
            weight = get[f"{jax_layer}multi_head_attention/{part}"]["w"]
            put(f"{old}multi_head_attention.{part}.weight", f"{new}attn.{hpcai}_proj.weight", weight.T)
        put(f"{old}router.weight", f"{new}moe_block.gate.weight", get[jax_layer + "router"]["w"].T)
        for part in ("linear", "linear_v", "linear_1"):
            for e in range(EXPERTS):
                weight = get[f"{jax_layer}moe/{part}"]["w"][e]
                put(f"{old}moe.{e}.{part}.weight", f"{new}moe_block.experts.{e}.{part}.weight", weight.T)
    return tensors


def config_of(sizes, tensors, conversion):
    keyfan = conversion == "keyfan"
    up = "transformer.decoder_layer.0.moe.0.linear" if keyfan else "model.layers.0.moe_block.experts.0.linear"
    config = dict(
        architectures=["Grok1ForCausalLM" if keyfan else "Grok1ModelForCausalLM"], model_type="grok-1",
        vocab_size=VOCABULARY, hidden_size=sizes["hidden"], intermediate_size=tensors[up + ".weight"].shape[0],
        num_hidden_layers=sizes["layers"], num_attention_heads=sizes["heads"], num_key_value_heads=sizes["kv_heads"],
        attn_output_multiplier=sizes["attention"], embedding_multiplier_scale=sizes["hidden"] ** 0.5,
        output_multiplier_scale=sizes["output"], max_position_embeddings=64, rms_norm_eps=EPSILON,
        num_experts_per_tok=TOP_K, pad_token_id=0, bos_token_id=1, eos_token_id=2, use_cache=True,
        tie_word_embeddings=not keyfan, torch_dtype="float32")
    if keyfan:
        config.update(num_local_experts=EXPERTS, hidden_act="gelu", rope_theta=int(THETA))
    else:
        config.update(num_experts=EXPERTS, max_attn_value=CAP)
    return config


def exact(tensors, sizes, ids, conversion):
    """The logits in float64 from the tensors of a checkpoint: a second implementation, to see that both agree."""
    keyfan = conversion == "keyfan"
    weights = {name: tensor.double() for name, tensor in tensors.items()}
    hidden, heads, kv_heads = sizes["hidden"], sizes["heads"], sizes["kv_heads"]
    width = hidden // heads
    count = ids.shape[1]

    def norm(x, name):
        return x / torch.sqrt(x.square().mean(-1, keepdim=True) + EPSILON) * weights[name + ".weight"]

    def rotate(x):  # [T, heads, width]: the two halves of a head are a pair
        angle = torch.arange(count).double()[:, None] * THETA ** (-torch.arange(0, width, 2).double() / width)
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    embedding = weights["transformer.in_out_embed.weight" if keyfan else "model.embed_tokens.weight"]
    h = embedding[ids[0]] * hidden**0.5
    for i in range(sizes["layers"]):
        p = f"transformer.decoder_layer.{i}." if keyfan else f"model.layers.{i}."
        n = ["rms_norm", "rms_norm_1", "rms_norm_2", "rms_norm_3"] if keyfan else [
            "pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm"]
        a = [f"multi_head_attention.{x}" for x in ("query", "key", "value", "linear")] if keyfan else [
            f"attn.{x}_proj" for x in "qkvo"]
        x = norm(h, p + n[0])
        q, k, v = ((x @ weights[f"{p}{part}.weight"].T).unflatten(-1, (-1, width)) for part in a[:3])
        q = rotate(q).unflatten(1, (kv_heads, -1))
        scores = CAP * torch.tanh(torch.einsum("tgwd,sgd->gwts", q, rotate(k)) * sizes["attention"] / CAP)
        scores = scores.masked_fill(torch.ones(count, count).triu(1).bool(), float("-inf"))
        mixed = torch.einsum("gwts,sgd->tgwd", scores.softmax(-1), v).flatten(1)
        h = h + norm(mixed @ weights[f"{p}{a[3]}.weight"].T, p + n[1])
        x = norm(h, p + n[2])
        router = f"{p}router.weight" if keyfan else f"{p}moe_block.gate.weight"
        shares, chosen = (x @ weights[router].T).softmax(-1).topk(TOP_K, -1)
        out = torch.zeros_like(x)
        for t in range(count):
            for share, e in zip(shares[t], chosen[t].tolist()):
                expert = f"{p}moe.{e}." if keyfan else f"{p}moe_block.experts.{e}."
                gate = torch.nn.functional.gelu(x[t] @ weights[expert + "linear.weight"].T, approximate="tanh")
                inner = gate * (x[t] @ weights[expert + "linear_v.weight"].T)
                out[t] += share * (inner @ weights[expert + "linear_1.weight"].T)
        h = h + norm(out, p + n[3])
    return norm(h, "transformer.rms_norm" if keyfan else "model.norm") @ embedding.T * sizes["output"]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    module = original(sys.argv[1])
    golden = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"
    for name, (sizes, conversion, tokens) in CASES.items():
        def pass_of(seed, sizes=sizes, conversion=conversion, tokens=tokens):
            ids = 1 + fixtures.prompt(seed, tokens, VOCABULARY - 1)  # 0 is padding, which the original masks
            parameters, run = run_original(module, sizes, seed, ids)
            return converted(parameters, sizes["layers"], conversion), ids, run

        def to_double(tensors, ids, sizes=sizes, conversion=conversion):
            return exact(tensors, sizes, ids, conversion)

        seed, tensors, ids, run, error = fixtures.two_passes(pass_of, to_double, range(100), 1e-3)
        folder = golden / name
        fixtures.start_folder(folder)
        safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        fixtures.write_json(folder / "config.json", config_of(sizes, tensors, conversion))
        fixtures.save_run(folder, ids, run)
        fixtures.report(folder, seed, run, error)


if __name__ == "__main__":
    main()
