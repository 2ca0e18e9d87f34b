#!/usr/bin/env bash
# `switchyard run` and `switchyard template` as people use them: one message, a pipe, a terminal.
# shellcheck source=tests/cli_e2e/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

settings=(--set train.evaluate_every=0 --set train.checkpoint_every=0)
expect 0 train tiny.toml "${settings[@]}" --set train.steps=20 --set train.sequence=512 --set train.batch=1 --out run
# Slow enough to be interrupted.
expect 0 train tiny.toml "${settings[@]}" --set train.steps=1 --set train.sequence=1024 --set train.batch=1 \
  --set model.width=512 --set model.layers=6 --set experts.hidden=512 --out slow
chat=(run -m run --template chatml --temp 0 -n 24)

# A model that was never trained to chat says so.
expect 1 run -m run -p hello
says errors "no chat template" "--template" "chatml" "generate"
expect 1 run -m run --template nonsense -p hello
says errors "no template 'nonsense'" "mistral-v1"

# One message, however it comes, and a pipe.
expect 0 "${chat[@]}" -p "the light of day"
mv output once
[[ -s once ]] || wrong "no answer"
printf 'the light of day' >message.txt
expect 0 "${chat[@]}" -f message.txt
cmp -s once output || wrong "another answer to the same message from a file"
"$switchyard" "${chat[@]}" -f - <message.txt >output 2>errors || wrong "-f - failed"
cmp -s once output || wrong "another answer to the same message from standard input"
printf 'the light of day\n' | "$switchyard" "${chat[@]}" >output 2>errors || wrong "a pipe failed"
cmp -s once output || wrong "another answer to the same message in a pipe"
for threads in 1 2; do
  expect 0 "${chat[@]}" -p "the light of day" -t "$threads"
  cmp -s once output || wrong "another answer with $threads threads"
done
expect 0 "${chat[@]}" -p "the light of day" --stats
says errors "prompt" "tokens" "/s"

# Several turns: kept messages, commands, texts of several lines. The last answer is that of the loaded conversation.
printf '%s\n' 'the light' '/routing' "over all\\" 'deep water' '"""' 'and he said' '  so' '"""' '//not a command' \
  '/save talk.json' | "$switchyard" "${chat[@]}" --system "be brief" >output 2>errors || wrong "several turns failed"
says output "layer" "experts by share of the work"
check array talk.json /messages 9
check json talk.json /messages/0/content '"be brief"'
check json talk.json /messages/3/content '"over all\ndeep water"'
check json talk.json /messages/5/content '"and he said\n  so"'
check json talk.json /messages/7/content '"/not a command"'
printf '%s\n' '/load talk.json' '/regen' '/save again.json' '/undo' '/save undone.json' '/reset' '/save reset.json' |
  "$switchyard" "${chat[@]}" >output 2>errors || wrong "going on failed"
cmp talk.json again.json || wrong "the answer to a loaded conversation is another one"
check array undone.json /messages 7
check array reset.json /messages 1
printf '/nonsense\n' | "$switchyard" "${chat[@]}" >output 2>errors && wrong "/nonsense was accepted"
says errors "/nonsense: no such command" "/help"
printf '/load none.json\n' | "$switchyard" "${chat[@]}" >output 2>errors && wrong "/load of no file was accepted"
printf '/help\n/exit\nnot read' | "$switchyard" "${chat[@]}" >output 2>errors || wrong "/exit failed"
says output "/routing" "/system TEXT"

# The model's own template; one that is wrong, or refuses, is named with its line.
folder=$(echo run/checkpoints/step-*)
printf '{%% for m in messages %%}{{ m.role }}: {{ m.content }}\n{%% endfor %%}{{ greeting }}\nassistant:' >"$folder/chat_template.jinja"
printf '[{"role": "user", "content": "caf\\u00e9"}]' >messages.json
expect 0 template -m run --messages messages.json
[[ $(cat output) == $'user: café\n\nassistant:' ]] || wrong "the prompt is another one"
printf '{"messages": [{"role": "user", "content": "x"}], "greeting": "Hail"}' >request.json
expect 0 template -m run --messages request.json
[[ $(cat output) == $'user: x\nHail\nassistant:' ]] || wrong "a variable is not in the prompt"
expect 0 template --template mistral-v1 --special bos_token='<s>' --messages messages.json
[[ $(cat output) == '<s> [INST] café [/INST]' ]] || wrong "another rendering of mistral-v1"
expect 0 run -m run -p "the light" -n 5 --temp 0
expect 0 run -m run -p "the light" -n 5 --temp 0 --var greeting=Hail --var other='[1, 2]'
printf 'a\n{{ 1 + }}' >"$folder/chat_template.jinja"
expect 1 run -m run -p "the light"
says errors "chat_template.jinja: line 2: "
expect 0 run -m run --template chatml -p "the light" -n 5
printf '{{ raise_exception("only verses") }}' >"$folder/chat_template.jinja"
expect 1 run -m run -p "the light"
says errors "line 1: only verses"
printf '{%% for i in range(100000) %%}{%% for j in range(100000) %%}{%% endfor %%}{%% endfor %%}' >endless.jinja
expect 1 run -m run --template-file endless.jinja -p "the light"
says errors "endless.jinja: line 1: takes too long"
rm "$folder/chat_template.jinja"

# A reader that goes away, and signals.
set +e
"$switchyard" run -m slow --template chatml -p "the light" 2>errors | head -c 4 >/dev/null
codes=("${PIPESTATUS[@]}")
set -e
((codes[0] < 128)) || wrong "a closed pipe ended the program with ${codes[0]}"
for signal in INT TERM HUP; do
  rm -f output
  env --default-signal=INT "$switchyard" run -m slow --template chatml -p "the light" --seed 3 >output 2>errors &
  for ((tries = 0; tries < 600; ++tries)); do
    if [[ -s output ]]; then break; fi
    sleep 0.05
  done
  kill -s "$signal" $!
  found=0
  wait $! || found=$?
  expected=$((128 + $(kill -l "$signal")))
  ((found == expected)) || wrong "SIG$signal ended a message with $found, expected $expected"
done

# A terminal, played by script(1). keys TEXT types it; shown TEXT waits until the screen has it since the last keys.
mark=0
keys() {
  mark=$(stat -c %s screen)
  printf '%b' "$1" >&3
}
shown() {
  local tries
  for ((tries = 0; tries < 1200; ++tries)); do
    if tail -c +$((mark + 1)) screen | grep -aqF -- "$1"; then return; fi
    sleep 0.05
  done
  wrong "the terminal never showed: $1"
  tail -c 2000 screen | cat -v
}
# Waits until an answer to the last keys runs. The program ends the terminal's marking of pastes when it has a message.
answering() {
  local tries seen end=$'\e[?2004l'
  for ((tries = 0; tries < 1200; ++tries)); do
    seen=$(tail -c +$((mark + 1)) screen | tr -d '\0')
    if [[ $seen == *"$end"* ]]; then
      seen=${seen##*"$end"}
      if ((${#seen} > 12)); then return; fi
    fi
    sleep 0.05
  done
  wrong "the terminal showed no answer"
}
terminal() { # FLAGS...
  : >screen
  rm -f keyboard
  mkfifo keyboard
  TERM=xterm LC_ALL=C.UTF-8 script -qefc "$switchyard $*" screen <keyboard >/dev/null 2>&1 &
  player=$!
  exec 3>keyboard
  mark=0
}
terminal_ends() { # CODE
  local found=0
  exec 3>&-
  wait "$player" || found=$?
  ((found == $1)) || wrong "the terminal ended with $found, expected $1"
}
if ! script -qefc true /dev/null </dev/null >/dev/null 2>&1; then
  echo "no pseudo-terminal can be made here (script, /dev/pts): chat in a terminal was not tried"
else
  terminal run -m slow --template chatml --stats --seed 5
  shown "/help shows"
  shown "> "
  keys 'the light\r'
  answering
  keys '\x03'
  shown "(stopped)"
  shown "> "
  keys '/routing\r'
  shown "experts by share"
  keys '/undo\r'
  shown "> "
  # A pasted text of two lines is one message; then an accent, and a correction.
  keys '/save before.json\r'
  shown "> "
  keys '\x1b[200~over all\rdeep water\x1b[201~\r'
  answering
  keys '\x03'
  shown "(stopped)"
  keys 'caf\xc3\xa9x\x7f\r'
  answering
  keys '\x03'
  shown "(stopped)"
  keys '/save pasted.json\r'
  shown "> "
  keys '/nonsense\r'
  shown "no such command"
  keys '\x03'
  shown "Ctrl-C again"
  keys '/help\r'
  shown "/routing"
  keys '\x03'
  shown "Ctrl-C again"
  keys '\x03'
  terminal_ends 0
  check array before.json /messages 0
  check json pasted.json /messages/0/content '"over all\ndeep water"'
  check json pasted.json /messages/2/content '"café"'

  terminal run -m run --template chatml -n 8
  shown "> "
  keys '\x04'
  terminal_ends 0

  # The terminal goes away within an answer.
  terminal run -m slow --template chatml
  shown "> "
  keys 'the light\r'
  answering
  child=$(pgrep -P "$player" -f "run -m slow" | head -1)
  [[ -n $child ]] || child=$(pgrep -n -f "$switchyard run -m slow --template chatml")
  kill -KILL "$player"
  exec 3>&-
  wait "$player" 2>/dev/null || true
  for ((tries = 0; tries < 600; ++tries)); do
    if ! kill -0 "$child" 2>/dev/null; then break; fi
    sleep 0.05
  done
  if kill -0 "$child" 2>/dev/null; then
    wrong "the program outlived its terminal"
    kill -KILL "$child"
  fi
fi
finish
