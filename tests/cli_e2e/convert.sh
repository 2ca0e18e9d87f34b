#!/usr/bin/env bash
# A trained model to GGUF and back, and every command on the GGUF file.
# shellcheck source=tests/cli_e2e/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

expect 0 convert --help
says output "--split-size" "--type" "Examples"

expect 0 train tiny.toml --out run -t 2 --set train.steps=10 --set train.evaluate_every=0
expect 0 convert run model.gguf
says output model.gguf tensors
expect 0 convert model.gguf back --json
says output '"model_type"'
for file in back/{config.json,model.safetensors,tokenizer.model}; do
  [[ -s $file ]] || wrong "convert did not write $file"
done
cmp run/checkpoints/step-00000010/tokenizer.model back/tokenizer.model || wrong "another tokenizer.model"

prompt="the light of day was over"
"$switchyard" logits -m run -p "$prompt" -o run.npy >/dev/null
for model in model.gguf back; do
  "$switchyard" logits -m "$model" -p "$prompt" -o other.npy >/dev/null
  cmp run.npy other.npy || wrong "$model has other logits"
done
"$switchyard" tokenize -m run -p "$prompt" >tokens
expect 0 tokenize -m model.gguf -p "$prompt"
cmp tokens output || wrong "model.gguf cuts the text otherwise"
expect 0 generate -m model.gguf -p "$prompt" -n 5
expect 0 perplexity -m model.gguf text/verse/one.txt
expect 0 inspect -m model.gguf -f text/verse/one.txt
expect 0 doctor model.gguf
says output Sound
expect 0 plan model.gguf

# Other types, and in parts.
expect 0 convert run half.gguf --type f16
expect 0 convert run parts.gguf --split-size 100K
[[ -s parts-00001-of-00002.gguf && -s parts-00002-of-00002.gguf ]] || wrong "no parts: $(ls)"
expect 0 doctor parts-00001-of-*.gguf

# Nothing is overwritten unless asked for.
for target in model.gguf parts.gguf back; do
  expect 1 convert run "$target"
  says errors "is there already" "--force"
done
expect 0 convert run model.gguf --force --type q8_0
expect 0 convert run back --force --type bf16
says back/config.json bfloat16

# Wrong input.
expect 1 convert nowhere x.gguf
says errors nowhere
expect 2 convert run x.gguf --type q9
expect 2 convert run x.gguf --split-size 4T
says errors "--split-size"
expect 2 convert model.gguf x --type q8_0
says errors q8_0
expect 2 convert run run --force
says errors "is or holds"
printf 'GGUF' >broken.gguf
expect 1 convert broken.gguf x
says errors broken.gguf
[[ ! -e x && ! -e x.gguf ]] || wrong "a failed conversion left something"
finish
