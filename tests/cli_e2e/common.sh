# shellcheck shell=bash
# What the scripts of this folder share; sourced with the arguments PROGRAM CHECKER. Leaves the script in a new folder
# that goes away with it, with a text of two domains in text/ and a recipe in tiny.toml.
set -euo pipefail
switchyard=$(realpath "$1")
checker=$(realpath "$2")
work=$(mktemp -d "${TMPDIR:-/tmp}/switchyard-e2e-XXXXXX")
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"

failures=0
wrong() {
  printf 'WRONG: %s\n' "$*"
  if [[ -s output ]]; then sed 's/^/  | /' output | tail -20; fi
  if [[ -s errors ]]; then sed 's/^/  ! /' errors | tail -20; fi
  failures=$((failures + 1))
}
finish() {
  if ((failures > 0)); then
    echo "$failures failures"
    exit 1
  fi
  echo "all good"
}

# expect CODE WORDS...: runs the program; standard output goes to the file output, standard error to errors.
expect() {
  local code=$1 found=0
  shift
  "$switchyard" "$@" >output 2>errors </dev/null || found=$?
  if ((found != code)); then wrong "switchyard $* ended with $found, expected $code"; fi
}
# says FILE TEXT...: the file has each of the texts.
says() {
  local file=$1 text
  shift
  for text in "$@"; do
    grep -qF -- "$text" "$file" || wrong "$file does not say: $text"
  done
}
# refused CODE TEXT WORDS...: the command fails, says TEXT and prints nothing else.
refused() {
  local code=$1 text=$2
  shift 2
  expect "$code" "$@"
  says errors "$text"
  [[ ! -s output ]] || wrong "switchyard $* failed and yet printed something"
  if grep -q "internal error" errors; then wrong "switchyard $*: an internal error"; fi
}
check() { "$checker" "$@" || wrong "check $*"; }
# same_checkpoint RUN RUN STEP: the same weights and optimizer, byte for byte.
same_checkpoint() {
  local file step
  step=$(printf 'step-%08d' "$3")
  for file in model.safetensors optimizer.safetensors; do
    cmp "$1/checkpoints/$step/$file" "$2/checkpoints/$step/$file" || wrong "$1 and $2 differ in $step/$file"
  done
}

# make_text FILE LINES SEED WORD...: lines of words in an order that only the seed decides.
make_text() {
  local file=$1 lines=$2
  mkdir -p "$(dirname "$file")"
  awk -v lines="$lines" -v seed="$3" -v words="${*:4}" 'BEGIN {
    srand(seed)
    n = split(words, word, " ")
    for (i = 0; i < lines; ++i) {
      line = ""
      for (j = 0; j < 9; ++j) line = line word[1 + int(rand() * n)] " "
      print line
    }
  }' >"$file"
}
make_text text/verse/one.txt 150 1 the light of day was over all deep water and it "shone," so he said
make_text text/code/main.c 150 2 "int" "x" "=" "0;" "for" "(i" "<" "n)" "return" "x;" "{" "}"

cat >tiny.toml <<'TOML'
[data]
paths = ["text"]
tokenizer = "sentencepiece"
vocab = 320

[model]
width = 32
layers = 2
heads = 2

[experts]
count = 4
hidden = 32

[optimizer]
learning_rate = 0.01
warmup_steps = 5

[train]
steps = 40
batch = 4
sequence = 32
evaluate_every = 20
evaluate_batches = 2
checkpoint_every = 10
TOML
