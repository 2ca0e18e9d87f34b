#!/usr/bin/env python3
"""Compares the ids of `switchyard tokenize` with those of the reference libraries on a large mixed text.

    tools/golden/compare_tokenizers.py SWITCHYARD TEXT FOLDER...

SWITCHYARD is the program, TEXT a file of English (its first megabyte is used), and each FOLDER holds a published
tokenizer.json or tokenizer.model. The rest of the text, 5 MB in all, is made here: this project's code, scripts of every
kind, emoji, combining marks, every code point once, long white space, numbers, random bytes, and special tokens within
the text. It goes to both sides as a file with its invalid bytes; the libraries get it decoded with errors="replace".
Needs the Python packages tokenizers and sentencepiece (tried with 0.23.3 and 0.2.3). Ends with 1 where anything differs.
"""

import glob
import json
import os
import random
import subprocess
import sys
import tempfile

RANGES = [(0x4E00, 0x9FFF), (0x3040, 0x30FF), (0xAC00, 0xD7A3), (0x400, 0x4FF), (0x370, 0x3FF), (0x5D0, 0x6FF),
          (0x900, 0x97F), (0xE00, 0xE7F), (0x1F300, 0x1FAFF), (0x300, 0x36F), (0x2000, 0x206F), (0x3000, 0x303F),
          (0xFF00, 0xFFEF), (0xA0, 0x24F), (0x1E00, 0x1EFF), (0x2100, 0x214F), (0x20000, 0x2A6DF), (0x1D400, 0x1D7FF),
          (0x10A0, 0x11FF), (0x2460, 0x24FF), (0x180B, 0x180F), (0x80, 0x9F)]
BETWEEN = [" ", "  ", "\n", "\r\n", "\t", "", "'s", "'LL", "'\u017f", "1234567", ". ", " \n \n", "\u00a0", "\u3000",
           "\u2028", "e\u0301", "a\u0323\u0307", "\u1100\u1161\u11a8", "\U0001f469\u200d\U0001f467", "\ufb01", "\uff21"]
SPACES = [" ", "\t", "\n", "\r\n", "\r", "\u00a0", " \t", "\n ", "\x0b", "\x0c", "\x85", "\u180e", "\u200b", "\ufeff"]


def mixed_bytes(english, specials):
    draw = random.Random(7)
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    parts = [english[:1000000]]
    for path in sorted(glob.glob(os.path.join(root, "src", "**", "*.?pp"), recursive=True)):
        with open(path, encoding="utf-8", newline="") as file:
            parts.append(file.read())
    for _ in range(12000):
        low, high = draw.choice(RANGES)
        parts.append("".join(chr(draw.randint(low, high)) for _ in range(draw.randint(1, 30))) + draw.choice(BETWEEN))
    for _ in range(1500):
        parts.append(draw.choice(SPACES) * draw.randint(1, 120) + draw.choice(["x", "The", "1", ".", "\u4e2d", "don't"]))
    for _ in range(15000):
        parts.append(str(draw.randint(0, 10 ** draw.randint(1, 25))) + draw.choice(" ,-."))
    parts.append("".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000))
    for _ in range(20000):
        parts.append(draw.choice(specials) if specials and draw.random() < 0.4 else draw.choice(
            ["hello", " World", "\n", "  ", "\u65e5\u672c", "!?", "12", "'s", "<|", "|>", "<s>", "\u2581"]))
    parts += ["a" * 5000, " ", "=" * 3000, "A" * 4000, "\u4e2d" * 3000, "\u0301" * 500]
    data = "".join(parts).encode() + bytes(draw.randrange(256) for _ in range(200000))
    while len(data) < 5_000_000:
        data += draw.choice(parts).encode() + b" "
    return data


def first_difference(ours, theirs):
    return next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    program, text_path, *folders = sys.argv[1:]
    with open(text_path, encoding="utf-8", errors="replace", newline="") as file:
        english = file.read()
    failed = False
    for folder in folders:
        json_path = os.path.join(folder, "tokenizer.json")
        if os.path.exists(json_path):
            import tokenizers
            reference = tokenizers.Tokenizer.from_file(json_path)
            specials = [token.content for token in reference.get_added_tokens_decoder().values()]
            encode = lambda text: reference.encode(text, add_special_tokens=False).ids
        else:
            import sentencepiece
            reference = sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))
            specials = [reference.id_to_piece(i) for i in range(min(100, len(reference)))]
            encode = reference.encode
        data = mixed_bytes(english, specials)
        with tempfile.NamedTemporaryFile(suffix=".txt") as file:
            file.write(data)
            file.flush()
            output = subprocess.run([program, "tokenize", "-m", folder, file.name, "--json"], check=True,
                                    stdout=subprocess.PIPE).stdout
        ours = json.loads(output)["ids"]
        theirs = encode(data.decode("utf-8", errors="replace"))
        if ours == theirs:
            print(f"{folder}: {len(data)} bytes, {len(ours)} ids, the same")
            continue
        failed = True
        at = first_difference(ours, theirs)
        print(f"{folder}: DIFFERENT from position {at} of {len(ours)} and {len(theirs)}: switchyard {ours[at:at + 8]}, "
              f"reference {theirs[at:at + 8]}, behind {reference.decode(theirs[max(0, at - 5):at])!r}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
