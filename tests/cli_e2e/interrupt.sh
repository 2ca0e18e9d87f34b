#!/usr/bin/env bash
# SIGINT and SIGTERM save and stop with 128 + signal; --resume then ends with the bits of a run that nobody stopped.
# shellcheck source=tests/cli_e2e/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

settings=(--set train.steps=400 --set train.evaluate_every=0 --set train.checkpoint_every=0)
expect 0 train tiny.toml "${settings[@]}" --out whole --json

# A script's background jobs ignore SIGINT; `env` starts the program as a terminal would.
start() { env --default-signal=INT "$switchyard" train tiny.toml "${settings[@]}" --out "$@" >output 2>errors & }
wait_for_step() { # RUN STEP
  local tries
  for ((tries = 0; tries < 600; ++tries)); do
    if grep -qs "\"step\":$2," "$1/metrics.jsonl"; then return; fi
    sleep 0.02
  done
  wrong "$1 never reached step $2"
}

for signal in INT TERM; do
  start "$signal" -t 2
  wait_for_step "$signal" 20
  kill -s "$signal" $!
  found=0
  wait $! || found=$?
  expected=$((128 + $(kill -l "$signal")))
  ((found == expected)) || wrong "SIG$signal ended with $found, expected $expected"
  says errors "stopped at step" "saved $signal/checkpoints/step-" "--resume"
  [[ $(ls "$signal/checkpoints") =~ ^step-[0-9]{8}$ ]] || wrong "SIG$signal left $(ls "$signal/checkpoints")"
  expect 0 generate -m "$signal" -p "the" -n 3
  expect 0 train tiny.toml "${settings[@]}" --out "$signal" --resume --json -t 1
  same_checkpoint whole "$signal" 400
  check losses whole/metrics.jsonl "$signal/metrics.jsonl"
done
finish
