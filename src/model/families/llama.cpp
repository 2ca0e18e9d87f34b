// Llama: every layer dense. Touvron et al. 2023, arXiv 2302.13971; transformers/models/llama.

#include <nlohmann/json.hpp>

#include "common.hpp"
#include "family.hpp"
#include "llama_names.hpp"

namespace switchyard::model {
namespace {

ModelConfig read_config(const formats::JsonConfig& json) {
  expect_bool(json, "mlp_bias", false);
  ModelConfig config = read_decoder(json, {.kv_heads_optional = true});
  const bool bias = json.get_bool_or("attention_bias", false);
  const DenseFfnConfig dense{.hidden = read_size(json, "intermediate_size")};
  for (LayerConfig& layer : config.layers) {
    layer.attention.qkv_bias = layer.attention.output_bias = bias;
    layer.dense = dense;
  }
  return config;
}

nlohmann::ordered_json write_config(const ModelConfig& config) {
  nlohmann::ordered_json json = decoder_json(config);
  json["intermediate_size"] = dense_hidden(config);
  json["attention_bias"] = !config.layers.empty() && config.layers.front().attention.qkv_bias;
  json["mlp_bias"] = false;
  return json;
}

}  // namespace

const Family kLlama = {"llama", "LlamaForCausalLM", read_config, write_config, kLlamaNames};

}  // namespace switchyard::model
