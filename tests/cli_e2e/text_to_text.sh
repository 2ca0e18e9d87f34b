#!/usr/bin/env bash
# An encoder-decoder from its folder: generation, routing, logits, plan, doctor, and what is refused.
golden=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../golden/switch_transformers")
# shellcheck source=tests/cli_e2e/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
model=$golden/base

expect 0 tokenize -m "$model" -p "A <extra_id_0> walks" --json
check json output /ids '[3,39,93,28,47,54]'
check json output /tokenizer/add_eos true
check json output /tokenizer/kind '"unigram"'
expect 0 tokenize -m "$model" -p "A <extra_id_0> walks"
says output '"<extra_id_0>"' 'puts 1 "</s>" behind'

# Greedy unless something else is asked for; the prompt is not part of the answer, sentinels are.
expect 0 generate -m "$model" -p "A <extra_id_0> walks into a bar" -n 12 --json
check json output /prompt_ids/10 45
check json output /prompt_ids/11 1
cp output greedy
expect 0 generate -m "$model" -p "A <extra_id_0> walks into a bar" -n 12 --temp 0 --json --no-mmap -t 1
for file in greedy output; do grep -o '"ids":[^]]*' "$file" >"$file.ids"; done
cmp greedy.ids output.ids || wrong "--temp 0 is not what is done without"
expect 0 generate -m "$model" -p "A <extra_id_0> walks into a bar" -n 12
[[ $(cat output) == "$(grep -o '"text":"[^"]*' greedy | cut -d'"' -f4)" ]] || wrong "the text is not that of --json"
expect 0 generate -m "$model" -p "A <extra_id_0> walks into a bar" -n 40 --temp 3 --seed 5 --top-k 0 --top-p 1 --min-p 0
says output "<extra_id_"
expect 0 generate -m "$model" -p "the man" -n 12 --beams 3 --length-penalty 2 --early-stopping --json
check json output /score
# A text that is empty is still an end token.
expect 0 generate -m "$model" -p "" -n 3 --json
check json output /prompt_ids '[1]'
refused 2 "--beams goes without sampling" generate -m "$model" -p x --beams 2 --temp 0.5
refused 2 "--beams" generate -m "$model" -p x --beams 0
refused 2 "is an encoder-decoder" generate -m "$model" -p x --draft 1

# The same from spiece.model alone.
cp -r "$model" piece
rm piece/tokenizer.json
expect 0 generate -m piece -p "A <extra_id_0> walks into a bar" -n 12 --json
grep -o '"ids":[^]]*' output >output.ids
cmp greedy.ids output.ids || wrong "spiece.model and tokenizer.json differ"

# Logits agree with the reference.
expect 0 logits -m "$model" --tokens 5,6,1 --decoder-tokens 0,7 -o two.npy
says output "float32 [2, 96]"
expect 0 logits -m "$model" -p "the man" -o one.npy
says output "float32 [1, 96]"
refused 1 "token 1 has id 96" logits -m "$model" --tokens 5,96 -o bad.npy
refused 1 "token 0 has id 99" logits -m "$model" --tokens 5 --decoder-tokens 99 -o bad.npy
[[ ! -e bad.npy ]] || wrong "bad.npy was written"

echo "A man walks into a bar. The barman asks: what will it be?" >bar.txt
expect 0 inspect -m "$model" -f bar.txt
says output "switch_transformers" "4 layers of encoder, 3 of decoder" "layers 1, 3: 4 experts of 24 (relu), 1 a token" \
  "Encoder: routing of bar.txt" "Decoder: routing of its answer"
expect 0 inspect -m "$model" -f bar.txt --json
check array output /routing/encoder 2
check array output /routing/decoder 1
check json output /parameters/total 24112
refused 2 "--layer 0: not a MoE layer" inspect -m "$model" --layer 0

expect 0 doctor "$model"
says output "Sound." "expert_capacity = 64" "num_experts = 4"
expect 0 plan "$model"
says output "an encoder-decoder" "routed experts" "bf16"
expect 0 plan "$model/config.json" --json
check json output /parameters/total 24112

# What such a model is not for, said so.
refused 1 "is an encoder-decoder" perplexity -m "$model" bar.txt
cp -r "$model" pickle
mv pickle/model.safetensors pickle/pytorch_model.bin
refused 1 "convert it" generate -m pickle -p x
expect 1 doctor pickle
says output "pytorch_model.bin"
refused 2 "is no encoder-decoder" generate -m "$golden/../mixtral/base" -p x --beams 2
refused 2 "is no encoder-decoder" logits -m "$golden/../mixtral/base" --tokens 1 --decoder-tokens 1 -o bad.npy
finish
