#!/usr/bin/env python3
"""Compares a model folder written by Switchyard with what transformers makes of it.

    python tools/check_transformers.py FOLDER [--switchyard build/release/switchyard] [--tokens 32] [--text TEXT]

Loads the folder in transformers (float32, eager attention) and in Switchyard (`switchyard logits`), runs random token
ids through both, and TEXT too where the folder has a tokenizer, whose ids must then be the same in both. Prints
max |difference| / max |logit| and the greedy choices that agree; exits with 1 above 1e-5. Needs the packages of
tools/golden/requirements.txt.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers

LIMIT = 1e-5
TEXT = "In the beginning was the word.\n\tA second line, with 12345 and caf\u00e9."


def switchyard(binary, *arguments):
    done = subprocess.run([str(binary), *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{binary} {arguments[0]}: exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def our_logits(binary, folder, ids):
    with tempfile.TemporaryDirectory() as temporary:
        output = pathlib.Path(temporary) / "logits.npy"
        switchyard(binary, "logits", "-m", folder, "--tokens", ",".join(map(str, ids)), "--output", output)
        return np.load(output)


def compare(name, ours, theirs):
    if ours.shape != theirs.shape or ours.dtype != np.float32:
        sys.exit(f"{name}: {ours.dtype} {ours.shape} from switchyard, {theirs.dtype} {theirs.shape} from transformers")
    relative = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    same = int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    good = np.isfinite(ours).all() and relative <= LIMIT
    print(f"{name}: {len(ours)} tokens, max |difference| / max |logit| = {relative:.2e} "
          f"(max |logit| {np.abs(theirs).max():.3f}), same greedy choice {same} of {len(ours)}: "
          f"{'agrees' if good else 'DIFFERS'}")
    return good


def main():
    root = pathlib.Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--switchyard", type=pathlib.Path, default=root / "build" / "release" / "switchyard")
    parser.add_argument("--tokens", type=int, default=32, help="number of random ids (default 32)")
    parser.add_argument("--text", default=TEXT)
    arguments = parser.parse_args()
    folder = arguments.folder

    config = json.loads((folder / "config.json").read_text())
    print(f"{folder}: model_type {config['model_type']}, transformers {transformers.__version__}, "
          f"torch {torch.__version__}")
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    model.eval()
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if report.get(what):
            sys.exit(f"transformers reports {what}: {sorted(map(str, report[what]))}")

    def their_logits(ids):
        with torch.no_grad():
            return model(torch.tensor([ids])).logits[0].float().numpy()

    count = min(arguments.tokens, model.config.max_position_embeddings)
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, count).tolist()
    good = compare("random ids", our_logits(arguments.switchyard, folder, ids), their_logits(ids))

    if (folder / "tokenizer.json").exists():
        theirs = transformers.AutoTokenizer.from_pretrained(folder).encode(arguments.text, add_special_tokens=False)
        told = switchyard(arguments.switchyard, "tokenize", "-m", folder, "--json", "-p", arguments.text)
        ours = json.loads(told)["ids"]
        if ours != theirs:
            sys.exit(f"the tokenizers differ: switchyard {ours}, transformers {theirs}")
        ids = ours[: model.config.max_position_embeddings]
        good &= compare("text", our_logits(arguments.switchyard, folder, ids), their_logits(ids))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
