#!/usr/bin/env python3
"""The same GGUF file in llama.cpp and here: ids, most likely tokens and perplexity of a text, for several types.

    python3 bench/peers/llama_cpp.py MODEL.gguf [TEXT] --llama FOLDER [--switchyard PROGRAM] [--types f32,q8_0,...]

FOLDER holds libllama and libggml as shared libraries. A prebuilt set comes with the npm package node-llama-cpp:
    npm install --ignore-scripts node-llama-cpp    ->  node_modules/@node-llama-cpp/linux-x64/bins/linux-x64
Needs numpy. MODEL.gguf should hold float32 (switchyard convert --type f32); the other types are made of it by
llama.cpp's own quantiser in a temporary folder. llama.cpp rounds activations to eight bits where weights are quantised,
which this program does not; so a last column compares with llama.cpp on the same weights expanded to float32. Text
windows of --context tokens are read by both programs, each window on its own. Without a text, as for a model without a
tokenizer, random ids are read. Exit status 1 where a type misses the aim: the same most likely token at 99% of the
positions and a perplexity within 0.5%.
"""
import argparse
import ctypes
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

# llama_ftype of the file types that may be asked for.
FILE_TYPES = {"f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k": 12, "q4_k": 15,
              "q5_k": 17, "q6_k": 18, "iq4_nl": 25, "iq4_xs": 30, "bf16": 32}
DEFAULT_TYPES = "f32,q8_0,q4_0,q4_k,q6_k"
SAME_TOKEN, PERPLEXITY = 0.99, 0.005


class Parameters(ctypes.Structure):
    """Any parameter struct that the library returns and takes by value: larger than all of them, begun like them."""
    _fields_ = [("words", ctypes.c_int32 * 128)]


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p),
                ("pos", ctypes.POINTER(ctypes.c_int32)), ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
                ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8))]


class Peer:
    def __init__(self, folder):
        folder = pathlib.Path(folder)
        for name in ("libggml-base", "libggml"):
            ctypes.CDLL(str(self.find(folder, name)), mode=ctypes.RTLD_GLOBAL)
        ggml = ctypes.CDLL(str(self.find(folder, "libggml")))
        ggml.ggml_backend_load_all_from_path(str(folder).encode())
        self.lib = lib = ctypes.CDLL(str(self.find(folder, "libllama")))
        for name in ("model", "context", "model_quantize"):
            getattr(lib, f"llama_{name}_default_params").restype = Parameters
        for name in ("llama_model_load_from_file", "llama_init_from_model", "llama_model_get_vocab", "llama_get_memory"):
            getattr(lib, name).restype = ctypes.c_void_p
        lib.llama_get_logits.restype = ctypes.POINTER(ctypes.c_float)
        lib.llama_batch_init.restype = Batch
        log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
        self.messages = []
        self.log = log(lambda level, text, _: self.messages.append(text.decode(errors="replace")))
        lib.llama_log_set(self.log, None)
        lib.llama_backend_init()

    @staticmethod
    def find(folder, name):
        found = sorted(folder.glob(name + ".so*")) + sorted(folder.glob(name + ".v*.so"))
        if not found:
            sys.exit(f"{folder}: no {name}")
        return found[0]

    def fail(self, what):
        sys.exit(f"llama.cpp: {what}\n" + "".join(self.messages[-12:]))

    def quantise(self, source, target, kind):
        params = self.lib.llama_model_quantize_default_params()
        params.words[1] = FILE_TYPES[kind]  # the second member is the file type
        if self.lib.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)) != 0:
            self.fail(f"cannot make {kind} of {source}")

    def open(self, path, context):
        model = self.lib.llama_model_load_from_file(str(path).encode(), self.lib.llama_model_default_params())
        if not model:
            self.fail(f"cannot load {path}")
        model = ctypes.c_void_p(model)
        params = self.lib.llama_context_default_params()
        params.words[0] = params.words[1] = params.words[2] = context  # n_ctx, n_batch, n_ubatch come first
        ctx = ctypes.c_void_p(self.lib.llama_init_from_model(model, params))
        if not ctx:
            self.fail(f"cannot make a context of {context} tokens")
        return model, ctx

    def tokenize(self, model, text):
        vocab = ctypes.c_void_p(self.lib.llama_model_get_vocab(model))
        ids = (ctypes.c_int32 * (len(text) + 16))()
        count = self.lib.llama_tokenize(vocab, text, len(text), ids, len(ids), ctypes.c_bool(False), ctypes.c_bool(False))
        if count < 0:
            self.fail("cannot tokenize the text")
        return list(ids[:count])

    def vocabulary(self, model):
        return self.lib.llama_vocab_n_tokens(ctypes.c_void_p(self.lib.llama_model_get_vocab(model)))

    def logits(self, model, ctx, ids):
        self.lib.llama_memory_clear(ctypes.c_void_p(self.lib.llama_get_memory(ctx)), ctypes.c_bool(True))
        batch = self.lib.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
            batch.seq_id[i][0] = 0
        if self.lib.llama_decode(ctx, batch) != 0:
            self.fail("cannot decode")
        rows = np.ctypeslib.as_array(self.lib.llama_get_logits(ctx), (len(ids), self.vocabulary(model))).copy()
        self.lib.llama_batch_free(batch)
        return rows


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def our_logits(program, path, ids, folder):
    target = pathlib.Path(folder) / "logits.npy"
    run([program, "logits", "-m", path, "--tokens", ",".join(map(str, ids)), "-o", target])
    return np.load(target)


def nats(logits, ids):
    """Of every token but the first, in float64."""
    rows = logits[:-1].astype(np.float64)
    top = rows.max(-1)
    return top + np.log(np.exp(rows - top[:, None]).sum(-1)) - rows[np.arange(len(rows)), ids[1:]]


def compare(peer, program, path, peer_path, text, args, folder):
    """`path` here, `peer_path` there."""
    model, ctx = peer.open(peer_path, args.context)
    if text:
        theirs_ids = peer.tokenize(model, text.read_bytes())
        ours_ids = json.loads(run([program, "tokenize", "-m", path, "--plain", "--json", text]))["ids"]
    else:
        ours_ids = theirs_ids = np.random.default_rng(1).integers(0, peer.vocabulary(model), args.context).tolist()
    windows = [ours_ids[i:i + args.context] for i in range(0, len(ours_ids), args.context)]
    same = difference = largest = 0.0
    positions = 0
    loss = {"ours": [], "theirs": []}
    for ids in windows:
        if len(ids) < 2:
            continue
        ours, theirs = our_logits(program, path, ids, folder), peer.logits(model, ctx, ids)
        theirs = theirs[:, :ours.shape[1]]
        same += (ours.argmax(-1) == theirs.argmax(-1)).sum()
        positions += len(ids)
        difference, largest = max(difference, np.abs(ours - theirs).max()), max(largest, np.abs(theirs).max())
        loss["ours"].append(nats(ours, ids))
        loss["theirs"].append(nats(theirs, ids))
    ppl = {name: math.exp(np.concatenate(parts).mean()) for name, parts in loss.items()}
    peer.lib.llama_free(ctx)
    peer.lib.llama_model_free(model)
    return {"tokens": positions, "same_ids": theirs_ids == ours_ids, "same_top": same / positions,
            "logits": difference / largest, "ours": ppl["ours"], "theirs": ppl["theirs"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("text", type=pathlib.Path, nargs="?")
    parser.add_argument("--llama", required=True, help="folder of libllama")
    parser.add_argument("--switchyard", default="build/release/switchyard")
    parser.add_argument("--types", default=DEFAULT_TYPES)
    parser.add_argument("--context", type=int, default=256)
    args = parser.parse_args()
    peer = Peer(args.llama)
    print("| type | tokens | same ids | same most likely token | logits differ by at most | perplexity here | llama.cpp | ratio | "
          "same token with weights in float32 there |")
    print("|---|---|---|---|---|---|---|---|---|")
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        for kind in args.types.split(","):
            path = expanded = args.model
            if kind != "f32":
                path, expanded = pathlib.Path(folder) / f"{kind}.gguf", pathlib.Path(folder) / "expanded.gguf"
                peer.quantise(args.model, path, kind)
                run([args.switchyard, "convert", path, expanded, "--type", "f32", "--force"])
            r = compare(peer, args.switchyard, path, path, args.text, args, folder)
            same = r if kind == "f32" else compare(peer, args.switchyard, path, expanded, args.text, args, folder)
            ratio = r["ours"] / r["theirs"]
            print(f"| {kind} | {r['tokens']} | {'yes' if r['same_ids'] else 'NO'} | {100 * r['same_top']:.2f}% | "
                  f"{r['logits']:.1e} | {r['ours']:.4f} | {r['theirs']:.4f} | {ratio:.5f} | "
                  f"{100 * same['same_top']:.2f}% |", flush=True)
            missed |= not r["same_ids"] or r["same_top"] < SAME_TOKEN or abs(ratio - 1) > PERPLEXITY
            if path != args.model:
                path.unlink()
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
