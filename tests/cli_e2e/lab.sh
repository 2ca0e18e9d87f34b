#!/usr/bin/env bash
# A lab from a lab file: interrupted, killed, gone on with, and the same figures as the runs have by themselves.
# shellcheck source=tests/cli_e2e/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cat >my.toml <<'TOML'
[lab]
title = "One or two experts"
base = "tiny.toml"
seeds = 2

[quick]
seeds = 1
set = ["train.steps=10"]

[[run]]
name = "two"
about = "the base"

[[run]]
name = "one"
set = ["router.top_k=1", "router.normalise=none"]

[[run]]
name = "wild"
about = "so fast that it diverges"
set = ["optimizer.learning_rate=100.0", "optimizer.clip_norm=0.0", "optimizer.warmup_steps=0", "init.std=10.0"]

[[claim]]
text = "Two are better than one"
source = "nobody"
metric = "bits_per_byte"
runs = ["two", "one"]
relation = "lower"
TOML

# Everything is checked before the first run.
expect 2 lab my.toml --out bad --set train.steps=abc
says errors "--set train.steps"
sed 's/router.top_k=1/router.topk=1/' my.toml >wrong.toml
expect 1 lab wrong.toml --out bad
says errors 'wrong.toml:14: run "one": ' 'did you mean "top_k"?'
expect 2 lab tiny.toml --out bad --quick
[[ ! -e bad ]] || wrong "a lab that was refused left a folder"

# Interrupted: the runs save, and the command to go on is said.
settings=(--set train.steps=400 --set train.evaluate_every=0)
env --default-signal=INT "$switchyard" lab my.toml --out lab --jobs 2 "${settings[@]}" >output 2>errors </dev/null &
for ((tries = 0; tries < 600; ++tries)); do
  if grep -qs '"step":20,' lab/runs/two/seed-1/metrics.jsonl; then break; fi
  sleep 0.02
done
kill -s INT $!
found=0
wait $! || found=$?
((found == 130)) || wrong "an interrupted lab ended with $found, expected 130"
says errors "go on with:" "lab my.toml --out lab --jobs 2 --set train.steps=400"
[[ -e lab/runs/two/seed-1/checkpoints ]] || wrong "the interrupted run saved nothing"
says lab/report.md "unfinished"

# A run that is killed is reported and stops no other.
env --default-signal=INT "$switchyard" lab my.toml --out lab --jobs 1 "${settings[@]}" >output 2>errors </dev/null &
lab=$!
for ((tries = 0; tries < 600; ++tries)); do
  child=$(grep -ls "^PPid:[[:space:]]*$lab\$" /proc/[0-9]*/status | head -1 | cut -d/ -f3 || true)
  if [[ -n $child ]]; then break; fi
  sleep 0.02
done
kill -s KILL "$child"
found=0
wait "$lab" || found=$?
((found == 1)) || wrong "a lab with a killed run ended with $found, expected 1"
says errors "signal 9" "the same command tries them again"
says lab/report.md "signal 9"

# Gone on with to the end, to the bits of a run that nobody stopped.
expect 0 lab my.toml --out lab "${settings[@]}" --json
says errors "of them done already"
says output '"title": "One or two experts"' '"verdict":'
expect 0 train tiny.toml --out whole "${settings[@]}" --json
same_checkpoint whole lab/runs/two/seed-1 400
check losses whole/metrics.jsonl lab/runs/two/seed-1/metrics.jsonl
says lab/report.html "One or two experts" "Two are better than one" "</svg>"
[[ -s lab/plots/claim-01-loss-tokens.svg ]] || wrong "no chart of the claim"
# All done: nothing is started again.
expect 0 lab my.toml --out lab "${settings[@]}"
says errors "6 runs, 6 of them done already"
says output "Two are better than one" "lab/report.html"
# Another recipe does not mix with these.
expect 1 lab my.toml --out lab --set train.steps=500
says errors "steps = 400" "steps = 500"

# Recipes alone.
cp tiny.toml other.toml
expect 0 lab tiny.toml other.toml --out pair --seeds 1 --set train.steps=5
says output "tiny" "other"
cmp pair/runs/tiny/seed-1/checkpoints/step-00000005/model.safetensors \
  pair/runs/other/seed-1/checkpoints/step-00000005/model.safetensors || wrong "equal recipes differ"
finish
