#!/usr/bin/env python3
"""Checks that Hugging Face transformers gives the token ids that switchyard gave.

    switchyard tokenize -m FOLDER --json TEXTFILE > ids.json
    tools/golden/check_tokenizer.py FOLDER TEXTFILE ids.json

The ids file holds a JSON list, a JSON object with a list under "ids" or "tokens", or plain numbers. Needs the Python
package transformers (tried with 4.46 and 5.23). Ends with 0 where all ids agree and decoding
gives the text back, with 1 otherwise.
"""

import json
import re
import sys


def read_ids(path):
    with open(path, encoding="utf-8") as file:
        content = file.read()
    try:
        value = json.loads(content)
    except json.JSONDecodeError:
        return [int(number) for number in re.split(r"[\s,]+", content.strip()) if number]
    if isinstance(value, dict):
        value = value["ids"] if "ids" in value else value["tokens"]
    values = value if isinstance(value, list) else [value]
    return [item["id"] if isinstance(item, dict) else int(item) for item in values]


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    folder, text_path, ids_path = sys.argv[1:]
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with open(text_path, encoding="utf-8", newline="") as file:
        text = file.read()
    expected = read_ids(ids_path)
    found = tokenizer(text, add_special_tokens=False)["input_ids"]
    with_defaults = tokenizer(text)["input_ids"]
    print(f"transformers {transformers.__version__}, {type(tokenizer).__name__}, fast: {tokenizer.is_fast}")
    print(f"{len(text)} characters, switchyard {len(expected)} ids, transformers {len(found)} ids")
    failed = False
    for label, ids in (("ids", found), ("ids with default settings", with_defaults)):
        if ids == expected:
            print(f"{label}: the same")
            continue
        failed = True
        at = next((i for i, (a, b) in enumerate(zip(ids, expected)) if a != b), min(len(ids), len(expected)))
        print(f"{label}: DIFFERENT from position {at}: transformers {ids[at:at + 8]}, switchyard {expected[at:at + 8]}")
        print(f"  after the text {tokenizer.decode(expected[max(0, at - 8):at])!r}")
    if tokenizer.decode(expected) == text:
        print("decoded text: the same")
    else:
        failed = True
        print("decoded text: DIFFERENT")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
