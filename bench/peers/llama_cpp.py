#!/usr/bin/env python3
"""One GGUF file in llama.cpp and here: are the tokens, the likeliest next tokens and the perplexity the same?

    python3 bench/peers/llama_cpp.py --model m.gguf --text some.txt --library LIB [--bytes 20000] [--context 512]

LIB is llama.cpp's shared library, libllama*.so. Prebuilt ones come with
    npm install node-llama-cpp        node_modules/@node-llama-cpp/linux-x64/bins/linux-x64/libllama*.so
    pip install llama-cpp-python      site-packages/llama_cpp/lib/libllama.so (built when it is installed)
Needs numpy. The text is cut into windows of --context tokens; each is read from its beginning by both programs. The
last line says whether the top-1 tokens agree on 99% of the positions and the perplexities within 0.5%; the exit status
is 0 where they do.
"""
import argparse
import ctypes
import glob
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np


class Opaque(ctypes.Structure):
    """Parameters that change from version to version. Larger than any of them: a callee writes and reads the first part."""

    _fields_ = [("words", ctypes.c_uint32 * 256)]


class Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.POINTER(ctypes.c_float)),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]


class LlamaCpp:
    def __init__(self, library, model, context):
        folder = os.path.dirname(os.path.abspath(library))
        for name in ("libggml-base*.so", "libggml*.so"):
            for path in sorted(glob.glob(os.path.join(folder, name))):
                if "cpu" not in path:
                    ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        self.lib = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        backends = [p for p in glob.glob(os.path.join(folder, "libggml.*so")) + glob.glob(os.path.join(folder, "libggml.so"))]
        for path in backends:
            ggml = ctypes.CDLL(path)
            if hasattr(ggml, "ggml_backend_load_all_from_path"):
                ggml.ggml_backend_load_all_from_path(folder.encode())
        lib = self.lib
        lib.llama_backend_init()
        self.quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(self.log)
        lib.llama_log_set(self.quiet, None)
        self.messages = []
        lib.llama_model_default_params.restype = Opaque
        lib.llama_context_default_params.restype = Opaque
        lib.llama_model_load_from_file.restype = ctypes.c_void_p
        lib.llama_model_load_from_file.argtypes = [ctypes.c_char_p, Opaque]
        lib.llama_init_from_model.restype = ctypes.c_void_p
        lib.llama_init_from_model.argtypes = [ctypes.c_void_p, Opaque]
        lib.llama_model_get_vocab.restype = ctypes.c_void_p
        lib.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
        lib.llama_vocab_n_tokens.argtypes = [ctypes.c_void_p]
        lib.llama_tokenize.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32,
                                       ctypes.POINTER(ctypes.c_int32), ctypes.c_int32, ctypes.c_bool, ctypes.c_bool]
        lib.llama_batch_init.restype = Batch
        lib.llama_decode.argtypes = [ctypes.c_void_p, Batch]
        lib.llama_get_logits_ith.restype = ctypes.POINTER(ctypes.c_float)
        lib.llama_get_logits_ith.argtypes = [ctypes.c_void_p, ctypes.c_int32]
        lib.llama_get_memory.restype = ctypes.c_void_p
        lib.llama_get_memory.argtypes = [ctypes.c_void_p]
        lib.llama_memory_clear.argtypes = [ctypes.c_void_p, ctypes.c_bool]
        self.model = lib.llama_model_load_from_file(str(model).encode(), lib.llama_model_default_params())
        if not self.model:
            sys.exit("llama.cpp cannot load the file:\n" + "".join(self.messages[-12:]))
        params = lib.llama_context_default_params()
        params.words[0] = params.words[1] = params.words[2] = context  # n_ctx, n_batch, n_ubatch
        self.context = lib.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit("llama.cpp cannot make a context:\n" + "".join(self.messages[-12:]))
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.size = lib.llama_vocab_n_tokens(self.vocab)

    def log(self, level, text, data):
        self.messages.append(text.decode(errors="replace"))

    def tokenize(self, text):
        data = text.encode()
        room = (ctypes.c_int32 * (len(data) + 16))()
        count = self.lib.llama_tokenize(self.vocab, data, len(data), room, len(room), False, True)
        return list(room[:count])

    def logits(self, ids):
        lib = self.lib
        lib.llama_memory_clear(lib.llama_get_memory(self.context), True)
        batch = lib.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i] = token
            batch.pos[i] = i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = 1
        if lib.llama_decode(self.context, batch) != 0:
            sys.exit("llama.cpp could not decode:\n" + "".join(self.messages[-12:]))
        rows = [np.ctypeslib.as_array(lib.llama_get_logits_ith(self.context, i), (self.size,)).copy()
                for i in range(len(ids))]
        lib.llama_batch_free(batch)
        return np.stack(rows)


def switchyard_tokens(program, model, text):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(text)
        file.flush()
        out = subprocess.run([program, "tokenize", "-m", model, file.name, "--json"], check=True, capture_output=True)
    return json.loads(out.stdout)["ids"]


def switchyard_logits(program, model, ids):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "logits.npy"
        subprocess.run([program, "logits", "-m", model, "--tokens", ",".join(map(str, ids)), "-o", path], check=True,
                       capture_output=True)
        return np.load(path)


def log_probabilities(logits, ids):
    logits = logits.astype(np.float64)
    peak = logits.max(-1, keepdims=True)
    normal = peak[:, 0] + np.log(np.exp(logits - peak).sum(-1))
    return logits[np.arange(len(ids) - 1), ids[1:]] - normal[:-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", help="a text; without one, the ids 1, 2, 3 ... of the vocabulary are compared")
    parser.add_argument("--library", required=True)
    parser.add_argument("--switchyard", default="build/release/switchyard")
    parser.add_argument("--bytes", type=int, default=20000)
    parser.add_argument("--context", type=int, default=512)
    options = parser.parse_args()

    peer = LlamaCpp(options.library, options.model, options.context)
    if options.text:
        text = pathlib.Path(options.text).read_bytes()[: options.bytes].decode(errors="ignore")
        ids, theirs = switchyard_tokens(options.switchyard, options.model, text), peer.tokenize(text)
        differ = next((i for i, (a, b) in enumerate(zip(ids, theirs)) if a != b), min(len(ids), len(theirs)))
        same = ids == theirs
        print(f"tokens       {len(ids)} here, {len(theirs)} there: " + ("the same" if same else f"differ from token {differ} on"))
    else:
        rng = np.random.default_rng(1)
        ids, same = rng.integers(0, peer.size, options.context).tolist(), True
    agree = positions = 0
    ours, other, worst = [], [], 0.0
    for begin in range(0, len(ids) - 1, options.context):
        window = ids[begin: begin + options.context]
        if len(window) < 2:
            break
        a, b = switchyard_logits(options.switchyard, options.model, window), peer.logits(window)
        agree += int((a.argmax(-1) == b.argmax(-1)).sum())
        positions += len(window)
        worst = max(worst, float(np.abs(a - b).max() / np.abs(a).max()))
        ours.append(log_probabilities(a, window))
        other.append(log_probabilities(b, window))
    here, there = (float(np.exp(-np.concatenate(all_of).mean())) for all_of in (ours, other))
    print(f"top-1        the same at {agree} of {positions} positions ({100 * agree / positions:.2f}%)")
    print(f"perplexity   {here:.4f} here, {there:.4f} there ({100 * (here / there - 1):+.3f}%)")
    print(f"logits       largest difference {worst:.2e} of the largest logit")
    good = same and agree >= 0.99 * positions and abs(here / there - 1) <= 0.005
    print("agrees" if good else "DIFFERS")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
