#!/usr/bin/env bash
# A run that is killed with SIGKILL at random moments and resumed each time ends with the bits and the metrics of one
# that was left alone. Then the same where the disk is full for a while.
# shellcheck source=tests/cli_e2e/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

steps=300
# A constant learning rate does not depend on how many steps are planned, which the last part changes.
settings=(--set "train.steps=$steps" --set train.checkpoint_every=5 --set train.evaluate_every=50
  --set optimizer.schedule=constant)
expect 0 train tiny.toml "${settings[@]}" --out whole --json

# The moments are random; the seed is told, so that a failure can be repeated.
seed=${SRANDOM:-$$}
RANDOM=$((seed % 32768))
echo "seed $((seed % 32768))"
kills=0
for ((round = 0; round < 200 && kills < 3; ++round)); do
  "$switchyard" train tiny.toml "${settings[@]}" --out killed --resume --json -t 2 >output 2>errors &
  pid=$!
  sleep "$(awk -v r=$RANDOM 'BEGIN { print 0.05 + 0.4 * r / 32768 }')"
  kill -KILL $pid 2>/dev/null || true
  found=0
  wait $pid 2>/dev/null || found=$?
  if ((found == 137)); then
    kills=$((kills + 1))
  elif ((found == 0)); then # the run was done before: begin another
    kills=0
    rm -rf killed
  else
    wrong "a resumed run ended with $found"
    break
  fi
done
((kills == 3)) || wrong "only $kills kills met a run"
expect 0 train tiny.toml "${settings[@]}" --out killed --resume --json
same_checkpoint whole killed $steps
check losses whole/metrics.jsonl killed/metrics.jsonl
check whole killed/metrics.jsonl $steps
[[ $(find killed -name '*.tmp*' -o -name '*.old') == "" ]] || wrong "killed runs left $(find killed -name '*.tmp*')"

# A limit on the size of files stands for a full disk: metrics fit, weights do not.
expect 0 train tiny.toml "${settings[@]}" --set train.steps=20 --out full --json
found=0
(
  trap '' XFSZ
  ulimit -f 40
  exec "$switchyard" train tiny.toml "${settings[@]}" --out full --resume >output 2>errors
) || found=$?
((found == 1)) || wrong "a full disk ended with $found"
says errors "full/checkpoints/step-00000025"
[[ $(ls full/checkpoints) == $'step-00000015\nstep-00000020' ]] || wrong "a full disk left $(ls full/checkpoints)"
expect 0 generate -m full -p "the" -n 3
expect 0 train tiny.toml "${settings[@]}" --out full --resume --json
same_checkpoint whole full $steps
finish
