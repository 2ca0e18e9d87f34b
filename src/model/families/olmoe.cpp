// OLMoE: softmax top-k, RMSNorm over all heads of q and of k. Muennighoff et al. 2024, arXiv 2409.02060;
// transformers/models/olmoe.

#include <nlohmann/json.hpp>

#include "common.hpp"
#include "family.hpp"
#include "olmoe_names.hpp"

namespace switchyard::model {
namespace {

ModelConfig read_config(const formats::JsonConfig& json) {
  ModelConfig config = read_decoder(json, {.kv_heads_optional = true});
  moe::MoeConfig moe = read_experts(json);
  moe.router.normalise = json.get_bool_or("norm_topk_prob", false) ? "sum" : "none";
  const bool bias = json.get_bool_or("attention_bias", false);
  const float clip = static_cast<float>(json.get_float_or("clip_qkv", 0.0));
  for (LayerConfig& layer : config.layers) {
    layer.attention.qkv_bias = layer.attention.output_bias = bias;
    layer.attention.qk_norm_whole = true;
    layer.attention.clip = clip;
    layer.moe = moe;
  }
  return config;
}

nlohmann::ordered_json write_config(const ModelConfig& config) {
  const moe::MoeConfig moe = experts_of(config);
  const AttentionConfig attention = first_attention(config);
  nlohmann::ordered_json json = decoder_json(config);
  json.erase("head_dim");  // its class takes the width divided by the heads
  add_experts(config, "num_experts", json);
  json["norm_topk_prob"] = moe.router.normalise == "sum";
  json["attention_bias"] = attention.qkv_bias;
  json["clip_qkv"] =
      attention.clip == 0.0F ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(shortest(attention.clip));
  return json;
}

}  // namespace

const Family kOlmoe = {"olmoe", "OlmoeForCausalLM", read_config, write_config, kOlmoeNames};

}  // namespace switchyard::model
