#!/usr/bin/env bash
# Every command on a model that was trained a moment ago.
# shellcheck source=tests/cli_e2e/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

expect 0 --help
says output train generate perplexity inspect logits tokenize report "Exit codes"
expect 0 --version
for command in train generate perplexity inspect doctor logits tokenize report; do
  expect 0 "$command" --help
  says output "$command"
done

expect 0 train tiny.toml --out run -t 2
says output "Held-out loss" "bits per byte" "A sample" "Experts on held-out text" "code" "verse" "report.html"
for file in run/{recipe.toml,metrics.jsonl,report.html} run/tokens/{tokens.json,train.bin,validation.bin} \
  run/checkpoints/step-00000{030,040}/{config.json,model.safetensors,optimizer.safetensors,training.json,tokenizer.model}; do
  [[ -s $file ]] || wrong "train did not write $file"
done
[[ ! -e run/checkpoints/step-00000020 ]] || wrong "keep_checkpoints = 2 kept more"
check whole run/metrics.jsonl 40
says run/report.html '"held_out"' '"domains"'

# Another thread count, and the same bits; JSON instead of text.
expect 0 train tiny.toml --out again -t 1 --json
check json output /finished true
check json output /step 40
check json output /domains/verse
check array output /routing 2
same_checkpoint run again 40
check losses run/metrics.jsonl again/metrics.jsonl

# A changed key, and the same run told by --set.
expect 0 train tiny.toml --out other --set train.seed=7 --set train.steps=2 --set train.evaluate_every=0
says other/recipe.toml "seed = 7" "steps = 2"

# Same seed, same text, whatever the threads; another seed, another text.
expect 0 generate -m run -p "the light" -n 40 --seed 5 -t 1
mv output first
[[ $(head -c 9 first) == "the light" ]] || wrong "generate does not begin with its prompt"
for threads in 1 2 4; do
  expect 0 generate -m run -p "the light" -n 40 --seed 5 -t "$threads"
  cmp first output || wrong "another text with $threads threads"
done
expect 0 generate -m run -p "the light" -n 40 --seed 5 --no-mmap
cmp first output || wrong "another text with weights copied to memory"
expect 0 generate -m run -p "the light" -n 40 --seed 6
if cmp -s first output; then wrong "seeds 5 and 6 give the same text"; fi
expect 0 generate -m run -p "the light" -n 0
[[ $(cat output) == "the light" ]] || wrong "-n 0 is not the prompt alone"
expect 0 generate -m run -n 5
# Beyond the 32 tokens that the model was made for, without filters, with all of them.
expect 0 generate -m run -p "the" -n 100 --temp 0
expect 0 generate -m run -p "the" -n 10 --top-k 0 --top-p 1 --min-p 0 --temp 1.5 --repeat-penalty 1.3
printf 'the water' >prompt.txt
expect 0 generate -m run -f prompt.txt -n 7 --json
check json output /prompt '"the water"'
check json output /ids
expect 0 generate -m run/checkpoints/step-00000030 -p "the" -n 3

# However the weights and the prompt are read.
expect 0 generate -m run -p "the light" -n 40 --seed 5 --no-mmap -b 3
cmp first output || wrong "another text with --no-mmap and -b 3"

expect 0 doctor run
says output "Sound." "no NaN" "always so for model_type" "config.json: "
expect 0 doctor -m run --json --no-values
check json output /problems 0
check json output /routing

expect 0 perplexity -m run text/verse/one.txt
says output "perplexity" "bits per byte"
expect 0 perplexity -m run text/verse/one.txt --json -c 16 -b 3
check json output /window 16
check json output /bits_per_byte
cp text/verse/one.txt "$(printf 'caf\xe9.txt')" # a name that is not UTF-8
expect 0 perplexity -m run "$(printf 'caf\xe9.txt')" --json
check json output /perplexity

expect 0 inspect -m run
says output "parameters" "4 experts"
expect 0 inspect -m run -f text/code/main.c
says output "MaxVio" "layer"
expect 0 inspect -m run -f text/code/main.c --layer 1 --json
check array output /layers 2
check array output /routing/1/load 4

expect 0 logits -m run --tokens 5,6,7 --output l.npy
check npy l.npy 3 320
cp l.npy before.npy
expect 0 logits -m run --tokens 5,6,7 --output l.npy -t 1
cmp l.npy before.npy || wrong "logits depend on the threads"
expect 0 logits -m run -p "the light" --output l.npy

expect 0 tokenize -m run -p "the light"
says output "tokens"
expect 0 tokenize -m run -p "the light" --json
check json output /ids
ids=$(sed 's/.*"ids":\[\([0-9,]*\)\].*/\1/' output)
expect 0 tokenize -m run --decode "$ids"
[[ $(cat output) == "the light" ]] || wrong "ids $ids decode to another text"
expect 0 tokenize -m run text/verse/one.txt --json

expect 0 report run --output page.html
[[ -s page.html ]] || wrong "report wrote nothing"
expect 0 report run --json
check json output /report '"run/report.html"'
check json output /bits_per_byte

# What nobody could read is not a success.
if [[ -e /dev/full ]]; then
  found=0
  "$switchyard" tokenize -m run -p "the light" >/dev/full 2>errors || found=$?
  ((found == 1)) || wrong "a full standard output ended with $found"
fi
finish
