#!/usr/bin/env python3
"""Makes tests/golden/switch_transformers/<case>/: models of Switch Transformer that transformers made and ran.

Run with the versions of requirements.txt, for all cases or for those whose names begin so:

    python tools/golden/make_switch.py [--output tests/golden] [CASE ...]

A folder holds a checkpoint with random weights and

    source_ids.npy       int64 [T]       the text of the encoder
    decoder_ids.npy      int64 [S]       what the decoder has so far, its start token first
    encoded.npy          float32 [T, D]  the encoder's output
    logits.npy           float32 [S, V]  of the decoder, all positions at once
    encoder_experts.npy  int32 [L, T]    each token's expert, a row per sparse layer; -1 where capacity dropped it
    decoder_experts.npy  int32 [L, S]    the same of the decoder
    buckets.npy          int32 [2, N]    buckets of relative positions -N/2 to N/2 - 1: of the encoder, of the decoder
    generated.json       what generate() gives, greedily and with beams: new tokens, the end token included

A seed is taken where routing is clear, float32 and float64 agree, and both generate the same.
"""

import copy
import dataclasses
import pathlib
import tempfile

import numpy as np
import safetensors.torch
import torch
import transformers

import fixtures

POSITIONS = 512
TOKENIZED = "base"


@dataclasses.dataclass
class Case:
    config: dict
    tokens: int = 40  # of the encoder
    decoded: int = 12
    dtype: str = "float32"
    drop_tables: bool = False  # leave out the copies of the embedding, as files of transformers 4 do
    duplicate_tables: bool = False  # or write all of them


COMMON = dict(vocab_size=96, d_model=16, d_kv=5, d_ff=24, num_heads=3, num_experts=4, decoder_start_token_id=0)

CASES = {
    # Inner width 15, alternating sparse layers, fewer decoder layers; a text longer than the largest distance.
    "base": Case(dict(num_layers=4, num_decoder_layers=3, num_sparse_encoder_layers=2, num_sparse_decoder_layers=1),
                 tokens=150),
    # As transformers 5 saves an untied model: three tables, of which `shared` is not used.
    "untied": Case(dict(num_layers=3, num_decoder_layers=2, num_sparse_encoder_layers=3, num_sparse_decoder_layers=2,
                        tie_word_embeddings=False, router_bias=True, dense_act_fn="gelu", num_experts=5,
                        relative_attention_num_buckets=10, relative_attention_max_distance=19,
                        layer_norm_epsilon=1e-5)),
    # As transformers 4 saves one: a single table for both stacks, and a head; bfloat16.
    "untied-shared": Case(dict(num_layers=3, num_decoder_layers=2, num_sparse_encoder_layers=0,
                               num_sparse_decoder_layers=2, tie_word_embeddings=False, d_kv=8, num_heads=2),
                          dtype="bfloat16", drop_tables=True),
    # Experts get more than they take, and the tied table is there four times.
    "capacity": Case(dict(num_layers=2, num_decoder_layers=2, num_sparse_encoder_layers=2,
                          num_sparse_decoder_layers=2, expert_capacity=7), duplicate_tables=True),
}

GENERATIONS = [
    dict(num_beams=1, max_new_tokens=20),
    dict(num_beams=2, max_new_tokens=20),
    dict(num_beams=4, max_new_tokens=20),
    dict(num_beams=4, max_new_tokens=20, length_penalty=2.0, early_stopping=True),
    dict(num_beams=5, max_new_tokens=6, length_penalty=0.0),
    dict(num_beams=3, max_new_tokens=20, length_penalty=-1.0),
]


def run(model, source, decoder):
    """-> (encoded, logits, experts of the encoder, of the decoder, least distance to another choice)"""
    margin = [float("inf")]
    experts = {"encoder": [], "decoder": []}

    def look(stack):
        def hook(router, _, output):
            chosen, _, logits = output
            margin[0] = min(margin[0], fixtures.kth_gap(logits[0].softmax(-1), 1))
            index = chosen[0].argmax(-1)
            experts[stack].append(torch.where(chosen[0].sum(-1) > 0, index, torch.full_like(index, -1)))
        return hook

    hooks = [m.register_forward_hook(look(name.split(".")[0])) for name, m in model.named_modules()
             if name.endswith("mlp.router")]
    with torch.no_grad():
        output = model(input_ids=source, decoder_input_ids=decoder, use_cache=False)
    for hook in hooks:
        hook.remove()
    return output.encoder_last_hidden_state[0], output.logits[0], experts["encoder"], experts["decoder"], margin[0]


def generate(model, source):
    results = []
    for how in GENERATIONS:
        ids = model.generate(source, do_sample=False, use_cache=True, min_length=0, **how)[0, 1:].tolist()
        results.append({**how, "ids": ids})
    return results


def buckets(model):
    relative = torch.arange(-POSITIONS // 2, POSITIONS // 2)
    attention = model.encoder.block[0].layer[0].SelfAttention
    return torch.stack([attention._relative_position_bucket(
        relative, bidirectional=both, num_buckets=model.config.relative_attention_num_buckets,
        max_distance=model.config.relative_attention_max_distance) for both in (True, False)])


def load(folder):
    model = transformers.SwitchTransformersForConditionalGeneration.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32)
    return model.eval()


def stored_tensors(path, case):
    tensors = safetensors.torch.load_file(path)
    copies = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]
    if case.drop_tables:
        for name in copies:
            tensors.pop(name, None)
    if case.duplicate_tables:
        for name in copies + ["lm_head.weight"]:
            tensors[name] = tensors["shared.weight"].clone()
    return tensors


def attempt(case, seed, temporary):
    config = transformers.SwitchTransformersConfig(**{**COMMON, **case.config})
    model = transformers.SwitchTransformersForConditionalGeneration(config).eval()
    scales = {"relative_attention_bias": 1.0, "shared": 1.0, "embed_tokens": 1.0, "lm_head": 0.5, "router": 0.5}
    fixtures.fill(model, seed, scales)
    with torch.no_grad():
        model.lm_head.weight[1] *= 2  # so that texts end
    if case.drop_tables:
        with torch.no_grad():
            for stack in (model.encoder, model.decoder):
                stack.embed_tokens.weight.copy_(model.shared.weight)
    if case.dtype != "float32":
        model = model.to(getattr(torch, case.dtype))
    model.save_pretrained(temporary)
    model = load(temporary)
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(3, config.vocab_size, (1, case.tokens), generator=generator)
    source[0, -1] = 1
    decoder = torch.randint(3, config.vocab_size, (1, case.decoded), generator=generator)
    decoder[0, 0] = 0
    return model, source, decoder


def make(folder, case):
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        for seed in range(2000):
            model, source, decoder = attempt(case, seed, temporary)
            encoded, logits, in_encoder, in_decoder, margin = run(model, source, decoder)
            if margin < fixtures.MARGIN / 10:
                continue
            exact = copy.deepcopy(model).double()
            # The router's own type is float32; it computes in double here like everything else.
            for module in exact.modules():
                if type(module).__name__ == "SwitchTransformersTop1Router":
                    module.dtype = torch.float64
            error = ((logits.double() - run(exact, source, decoder)[1]).abs().max() / logits.abs().max()).item()
            generated = generate(model, source)
            ends = sum(1 in result["ids"] for result in generated)
            long = [len(result["ids"]) > 3 for result in generated]
            if error > fixtures.CONDITION or ends < 2 or sum(long) < 4 or not long[0]:
                continue
            if generate(exact, source) != generated:
                continue
            if len({tuple(result["ids"]) for result in generated}) < 3:
                continue
            break
        else:
            raise SystemExit(f"{folder}: no seed will do")
        fixtures.start_folder(folder)
        safetensors.torch.save_file(stored_tensors(temporary / "model.safetensors", case),
                                    folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text((temporary / "config.json").read_text())
        table = buckets(model)
    save = lambda name, tensor, kind: np.save(folder / f"{name}.npy", tensor.numpy().astype(kind))
    save("source_ids", source[0], np.int64)
    save("decoder_ids", decoder[0], np.int64)
    save("encoded", encoded, np.float32)
    save("logits", logits, np.float32)
    save("encoder_experts", torch.stack(in_encoder), np.int32)
    save("decoder_experts", torch.stack(in_decoder), np.int32)
    save("buckets", table, np.int32)
    fixtures.write_json(folder / "generated.json", {"generations": generated})
    size = sum(f.stat().st_size for f in folder.iterdir())
    dropped = sum((layer < 0).sum().item() for layer in in_encoder)
    print(f"{folder.name}: seed {seed}, routing margin {margin:.4f}, float32 off by {error:.1e}, {dropped} dropped, "
          f"{size} bytes", [len(result["ids"]) for result in generated], flush=True)


def be_quiet():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


if __name__ == "__main__":
    fixtures.make_cases(__doc__, CASES, make, "switch_transformers", be_quiet)
