// Qwen3-MoE: softmax top-k, RMSNorm on each head of q and k, no shared expert. Yang et al. 2025, arXiv 2505.09388;
// transformers/models/qwen3_moe.

#include <nlohmann/json.hpp>

#include "common.hpp"
#include "family.hpp"
#include "llama_names.hpp"
#include "qwen_layers.hpp"

namespace switchyard::model {
namespace {

constexpr auto kNames = join(kLlamaNames, kExpertNames);

ModelConfig read_config(const formats::JsonConfig& json) {
  ModelConfig config = read_decoder(json, {.windowed = Windowed::kEverywhere, .window_switch = "use_sliding_window"});
  place_qwen_layers(json, read_qwen_experts(json), config);
  const bool bias = json.get_bool_or("attention_bias", false);
  for (LayerConfig& layer : config.layers) {
    layer.attention.qkv_bias = layer.attention.output_bias = bias;
    layer.attention.qk_norm = true;
  }
  return config;
}

nlohmann::ordered_json write_config(const ModelConfig& config) {
  nlohmann::ordered_json json = decoder_json(config);
  add_qwen_layers(config, json);
  json["attention_bias"] = !config.layers.empty() && config.layers.front().attention.qkv_bias;
  return json;
}

}  // namespace

const Family kQwen3Moe = {"qwen3_moe", "Qwen3MoeForCausalLM", read_config, write_config, kNames};

}  // namespace switchyard::model
