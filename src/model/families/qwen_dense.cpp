// Qwen2 and Qwen3 without experts, for drafts, upcycling and comparison. Yang et al. 2024, arXiv 2407.10671, and 2025,
// arXiv 2505.09388; transformers/models/qwen2 and qwen3.

#include <nlohmann/json.hpp>

#include "common.hpp"
#include "family.hpp"
#include "llama_names.hpp"

namespace switchyard::model {
namespace {

ModelConfig read_dense(const formats::JsonConfig& json) {
  ModelConfig config = read_decoder(json, {.windowed = Windowed::kFromMax, .window_switch = "use_sliding_window"});
  const DenseFfnConfig dense{.hidden = read_size(json, "intermediate_size")};
  for (LayerConfig& layer : config.layers) layer.dense = dense;
  return config;
}

ModelConfig read_qwen2(const formats::JsonConfig& json) {
  ModelConfig config = read_dense(json);
  for (LayerConfig& layer : config.layers) layer.attention.qkv_bias = true;
  return config;
}

ModelConfig read_qwen3(const formats::JsonConfig& json) {
  ModelConfig config = read_dense(json);
  const bool bias = json.get_bool_or("attention_bias", false);
  for (LayerConfig& layer : config.layers) {
    layer.attention.qkv_bias = layer.attention.output_bias = bias;
    layer.attention.qk_norm = true;
  }
  return config;
}

nlohmann::ordered_json write_dense(const ModelConfig& config) {
  nlohmann::ordered_json json = decoder_json(config);
  json["intermediate_size"] = dense_hidden(config);
  json["attention_bias"] = first_attention(config).output_bias;
  add_windows(config, json);
  json["use_sliding_window"] = json.contains("layer_types");
  return json;
}

nlohmann::ordered_json write_qwen2(const ModelConfig& config) {
  nlohmann::ordered_json json = write_dense(config);
  json.erase("head_dim");  // its class takes the width divided by the heads
  json.erase("attention_bias");
  return json;
}

}  // namespace

const Family kQwen2 = {"qwen2", "Qwen2ForCausalLM", read_qwen2, write_qwen2, kLlamaNames};
const Family kQwen3 = {"qwen3", "Qwen3ForCausalLM", read_qwen3, write_dense, kLlamaNames};

}  // namespace switchyard::model
