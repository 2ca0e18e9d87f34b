#!/usr/bin/env python3
"""Compares what Switchyard and transformers make of chat templates.

    tools/check_chat_templates.py FOLDER [--switchyard build/release/switchyard] [--show 3] [--requests FILE.json]

Renders about seventy conversations (system messages, turns, tools, tool results, reasoning, documents, with and without
the opening of the answer) with every *.jinja file of FOLDER, in both. A pair agrees where the prompts are equal, byte
for byte, or where both refuse. --requests takes conversations of your own: an object of requests by name, each with
"messages" and whatever else the template sees. Prints a line a template and the differences; exits with 1 where a
template differs. Where only transformers refuses, because a template changes a list (which its sandbox forbids), that
is counted apart and no failure. Needs the Python packages transformers 5 and jinja2.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "golden"))
import chat_reference


def ours(binary, template, request):
    command = [str(binary), "template", "--file", str(template), "--messages", "-", "--date", chat_reference.DATE]
    for name, text in chat_reference.SPECIAL.items():
        command += ["--special", f"{name}={text}"]
    done = subprocess.run(command, input=json.dumps(request).encode(), capture_output=True, check=False)
    if done.returncode < 0 or done.returncode > 2:
        sys.exit(f"{template}: switchyard ended with {done.returncode}: {done.stderr.decode()}")
    return done.stdout.decode() if done.returncode == 0 else RuntimeError(done.stderr.decode().strip())


def main():
    root = pathlib.Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--switchyard", type=pathlib.Path, default=root / "build" / "release" / "switchyard")
    parser.add_argument("--show", type=int, default=3, help="differences to print for each template (default 3)")
    parser.add_argument("--requests", type=pathlib.Path)
    arguments = parser.parse_args()
    chosen = list(chat_reference.requests())
    if arguments.requests:
        chosen = list(json.loads(arguments.requests.read_text()).items())
    templates = sorted(arguments.folder.glob("*.jinja"))
    if not templates:
        sys.exit(f"{arguments.folder}: no *.jinja file")
    rendered = refused = ours_only = 0
    bad = []
    for template in templates:
        source = template.read_text(encoding="utf-8")
        differences, changed = [], 0
        for name, request in chosen:
            expected, found = chat_reference.render(source, request), ours(arguments.switchyard, template, request)
            failed = [isinstance(one, Exception) for one in (expected, found)]
            if failed == [True, True]:
                refused += 1
            elif failed == [True, False] and "is unsafe" in str(expected):
                changed += 1
            elif any(failed) or expected != found:
                differences.append((name, expected, found))
            else:
                rendered += 1
        ours_only += changed
        note = f", {changed} that only the sandbox of transformers refuses" if changed else ""
        print(f"{template.name}: {'agrees' if not differences else f'{len(differences)} DIFFER'} ({len(chosen)} conversations{note})")
        for name, expected, found in differences[: arguments.show]:
            print(f"  {name}:\n    transformers: {expected!r}\n    switchyard:   {found!r}")
        if differences:
            bad.append(template.name)
    print(f"{len(templates) - len(bad)} of {len(templates)} templates agree: {rendered} prompts equal, {refused} refused by "
          f"both, {ours_only} only refused by transformers' sandbox")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
