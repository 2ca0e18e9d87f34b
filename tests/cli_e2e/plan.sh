#!/usr/bin/env bash
# Predictions from a config alone, and the table of published models.
# shellcheck source=tests/cli_e2e/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# The values of gpt-oss-20b: windows on every other layer, MXFP4.
cat >gpt-oss.json <<'JSON'
{"model_type": "gpt_oss", "vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880,
 "num_hidden_layers": 24, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64,
 "num_local_experts": 32, "num_experts_per_tok": 4, "sliding_window": 128, "attention_bias": true,
 "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "rope_theta": 150000, "hidden_act": "silu",
 "swiglu_limit": 7.0, "tie_word_embeddings": false, "quantization_config": {"quant_method": "mxfp4"}}
JSON
machine=(--memory 32 --bandwidth 40 --gflops 500)

expect 0 plan gpt-oss.json "${machine[@]}"
says output "20 914 757 184" "(i) " "(ii) " "(iii) " "<- this checkpoint" "dense of equal total" "dense of equal active" \
  "FLOP/byte" "windows bound" "12 layers see only the last 128 positions" "32.0 GiB" "40.0 GB/s (given)" "Upper bounds"
for type in float32 bf16 fp8 'q8_0\*' 'q4_k\*' mxfp4; do
  grep -qE "^  $type +[0-9.]+ [MGT]iB" output || wrong "no row for $type"
done
expect 0 plan gpt-oss.json --json "${machine[@]}"
check json output /parameters/total 20914757184
check json output /parameters/active_without_embedding
check json output /parameters/parts/routed_experts
check array output /types 10
check json output /machine/bandwidth 40000000000.0
check json output /machine/bandwidth_measured false
check json output /machine/memory_available 34359738368
check json output /types/0/name '"float32"'
check json output /types/0/bytes 83659028736
check json output /types/0/fits false
check json output /types/0/speed/decode/tokens_per_second
check json output /types/0/dense_of_equal_active/prefill/flops_per_byte
check json output /cache/0/bytes_allocated 100663296
check json output /assumptions

# What is not given is measured, within about a second, and a folder will do.
mkdir folder
cp gpt-oss.json folder/config.json
SECONDS=0
expect 0 plan folder --json -t 1
((SECONDS < 30)) || wrong "plan took $SECONDS s"
check json output /machine/bandwidth_measured true
check json output /machine/arithmetic_measured true
check json output /machine/threads 1
# So will a run.
expect 0 train tiny.toml --out run --set train.steps=2 --set train.evaluate_every=0 --json
expect 0 plan run "${machine[@]}"
says output "Parameters" "4 experts" "longest ctx"

expect 0 plan --table
says output "Mixtral-8x7B" "DeepSeek-V3" "Kimi-K2" "gpt-oss-120b" "GPT-4" "Gemini 1.5" "not public" "2.788 M H800" "32.8%" \
  "40%" "989 TFLOP/s" "Attention scores"
expect 0 plan --table --json --tokens 2T --utilisation 0.5 --gpu-tflops 312
check array output /models 27
check json output /models/0/parameters/total 46702792704
check json output /models/0/training/tokens 2000000000000.0
check json output /models/26/public false
check json output /assumptions/gpu_tflops 312.0
expect 0 plan --table --markdown
says output "| DeepSeek-V3 | 671.03 |" "|---|"

# Bad input.
refused 2 "--table" plan
refused 2 "--table" plan gpt-oss.json --table
refused 2 "--markdown" plan gpt-oss.json --markdown
refused 2 "--tokens many" plan --table --tokens many
refused 2 "--tokens 5X" plan --table --tokens 5X
refused 2 "utilisation" plan --table --utilisation 2
refused 2 'unknown data type "q9"' plan gpt-oss.json --type q9 "${machine[@]}"
refused 1 "nowhere: no such file or folder" plan nowhere
refused 1 "text: neither a model" plan text
sed 's/gpt_oss/mamba2/' gpt-oss.json >bad.json
refused 1 "bad.json: model_type: found mamba2, supported are mixtral" plan bad.json
sed 's/"vocab_size": 201088, //' gpt-oss.json >bad.json
refused 1 "bad.json: vocab_size" plan bad.json
sed 's/"hidden_size": 2880/"hidden_size": -5/' gpt-oss.json >bad.json
refused 1 "bad.json: hidden_size" plan bad.json
sed 's/2880/2147483647/g; s/201088/2147483647/; s/_experts": 32/_experts": 60000/' gpt-oss.json >bad.json
refused 1 "overflows" plan bad.json
echo "{" >bad.json
refused 1 "bad.json" plan bad.json
: >bad.json
refused 1 "bad.json" plan bad.json
finish
