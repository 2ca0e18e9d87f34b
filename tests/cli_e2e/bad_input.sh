#!/usr/bin/env bash
# Bad input ends in a message that names it, with exit code 2 for a wrong command line and 1 for everything else; no
# command leaves something half-made.
# shellcheck source=tests/cli_e2e/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# The command line.
refused 2 "subcommand"
refused 2 "unknown command 'fly'" fly
refused 2 "--wings" train tiny.toml --wings
refused 2 "recipe" train
refused 2 "model" generate -p x
refused 2 "threads" generate -m run -t -1
refused 2 "--set steps=5" train tiny.toml --set steps=5
refused 2 'did you mean "steps"' train tiny.toml --set train.stepz=5
refused 2 "expected a whole number" train tiny.toml --set train.steps=many
refused 2 "expected 1 to" train tiny.toml --set train.steps=0

# Recipes.
refused 1 "nowhere.toml" train nowhere.toml
sed 's/^steps/stepz/' tiny.toml >bad.toml
refused 1 'bad.toml:20: unknown key "train.stepz", did you mean "steps"?' train bad.toml
sed 's/^steps = 40/steps = "40"/' tiny.toml >bad.toml
refused 1 "bad.toml:20: train.steps = '40', expected a whole number" train bad.toml
sed 's/^steps = 40/steps = 0/' tiny.toml >bad.toml
refused 1 "bad.toml:20: train.steps = 0, expected 1 to" train bad.toml
echo "[" >bad.toml
refused 1 "bad.toml:1: not valid TOML" train bad.toml
refused 1 "text: is not a regular file" train text --out run
refused 2 "router.top_k = 5, expected 1 to 4" train tiny.toml --set router.top_k=5
refused 1 "model.width = 32, expected a multiple of model.heads (3)" train tiny.toml --set model.heads=3

# Text.
refused 1 "nowhere: no such file or folder" train tiny.toml --set 'data.paths=["nowhere"]'
mkdir empty
refused 1 "empty: no text" train tiny.toml --set 'data.paths=["empty"]'
printf 'few' >few.txt
refused 1 "data.vocab = 320: the text is too small" train tiny.toml --set 'data.paths=["few.txt"]'
head -c 5000 "$switchyard" >binary
refused 1 "binary: a zero byte" train tiny.toml --set 'data.paths=["binary"]'
printf 'caf\xe9' >latin1.txt
refused 1 "latin1.txt: invalid UTF-8 at byte 3" train tiny.toml --set 'data.paths=["latin1.txt"]'
refused 1 "expected more than train.sequence (100000)" train tiny.toml --set train.sequence=100000
# None of these took the folder: a run may start there.
expect 0 train tiny.toml --out runs/tiny --set train.steps=3 --json
check json output /finished true

# Folders of runs.
refused 1 "holds a run already" train tiny.toml --set train.steps=3
refused 1 "model.layers = 2, but the recipe now has model.layers = 3" train tiny.toml --resume --set model.layers=3
printf 'x' >file
refused 1 "file" train tiny.toml --out file
if ((EUID == 0)); then
  echo "root may write anywhere: the read-only folder is left out"
else
  mkdir locked
  chmod a-w locked
  refused 1 "locked" train tiny.toml --out locked/run
  refused 1 "locked" train tiny.toml --out locked
  refused 1 "locked" logits -m runs/tiny --tokens 1 --output locked/l.npy
fi

# Models.
refused 1 "nowhere: no such model folder" generate -m nowhere -p x
refused 1 "text: neither a model" generate -m text -p x
model=runs/tiny/checkpoints/step-00000003
for damage in cut flip; do
  cp -r "$model" damaged
  if [[ $damage == cut ]]; then
    truncate -s -100 damaged/model.safetensors
  else
    printf '\x7f' | dd of=damaged/model.safetensors bs=1 seek=7 conv=notrunc status=none
  fi
  refused 1 "model.safetensors" generate -m damaged -p x
  refused 1 "model.safetensors" inspect -m damaged
  rm -r damaged
done
cp -r "$model" damaged
echo "{" >damaged/config.json
refused 1 "config.json" perplexity -m damaged text/verse/one.txt
expect 1 doctor damaged
says output "PROBLEM" "config.json"
rm damaged/config.json
refused 1 "config.json" generate -m damaged -p x
refused 1 "config.json" doctor damaged
expect 0 tokenize -m damaged -p x
rm -r damaged
cp -r "$model" damaged
expect 0 tokenize -m "$model" -p "the light of day" --json
ids=$(sed 's/.*"ids":\[\([0-9,]*\)\].*/\1/' output)
# What is written for other programs says the same.
rm damaged/tokenizer.model
expect 0 tokenize -m damaged -p "the light of day" --json
grep -q "\"ids\":\[$ids\]" output || wrong "tokenizer.json gives other ids than tokenizer.model"
rm damaged/tokenizer.json
refused 1 "tokenizer.model" generate -m damaged -p x
rm -r damaged

# Prompts, texts and ids.
refused 1 "UTF-8" generate -m "$model" -p "$(printf 'caf\xe9')"
refused 1 "UTF-8" tokenize -m "$model" latin1.txt
refused 1 "UTF-8" perplexity -m "$model" latin1.txt
refused 1 "UTF-8" inspect -m "$model" -f latin1.txt --json
refused 1 "nowhere.txt" perplexity -m "$model" nowhere.txt
: >empty.txt
refused 1 "expected 2 or more" perplexity -m "$model" empty.txt
refused 1 "token 1 has id 320, expected 0 to 319" logits -m "$model" --tokens 1,320 --output l.npy
refused 1 "token 0 has id -1" logits -m "$model" --tokens=-1 --output l.npy
refused 2 "tokens" logits -m "$model" --tokens one --output l.npy
refused 2 "no tokens" logits -m "$model" --output l.npy
refused 1 "99999" tokenize -m "$model" --decode 99999
refused 1 "no-folder" logits -m "$model" --tokens 1 --output no-folder/l.npy
refused 2 "temperature: -1, expected 0 or more" generate -m "$model" -p x --temp -1
refused 2 "top-p: 0, expected" generate -m "$model" -p x --top-p 0
refused 1 "made for at most 32" generate -m "$model" -p x -c 33
refused 1 "multi-token prediction, with which --draft guesses" generate -m "$model" -p x --draft 1
refused 2 "--draft" generate -m "$model" -p x --draft 65
refused 1 "made for at most 32" perplexity -m "$model" text/verse/one.txt -c 33
refused 2 "--layer 9" inspect -m "$model" -f text/code/main.c --layer 9
[[ ! -e l.npy ]] || wrong "a refused logits command left l.npy"
refused 1 "text: neither a model" report text
finish
