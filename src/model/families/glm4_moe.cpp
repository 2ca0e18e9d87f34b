// GLM-4.5: grouped-query attention with DeepSeek-V3's router: sigmoid scores, a bias that only selection sees, weights
// divided by their sum and scaled, shared experts without a gate. GLM-4.5 Team 2025, arXiv 2508.06471; DeepSeek-AI
// 2024, arXiv 2412.19437; transformers/models/glm4_moe.

#include <nlohmann/json.hpp>

#include "common.hpp"
#include "deepseek_layers.hpp"
#include "family.hpp"
#include "llama_names.hpp"

namespace switchyard::model {
namespace {

constexpr auto kNames = join(kLlamaNames, kExpertNames, kSharedExpertsNames, kSelectionBiasNames, kPredictionNames);

ModelConfig read_config(const formats::JsonConfig& json) {
  ModelConfig config = read_decoder(json, {.partial_rotary_factor = 0.5});
  read_size(json, "n_shared_experts");  // its code has no layer without
  expect_int(json, "n_group", 1);
  moe::MoeConfig moe = read_deepseek_experts(json);
  moe.router.score = "sigmoid";
  moe.router.selection_bias = true;
  moe.router.normalise = json.get_bool_or("norm_topk_prob", true) ? "sum" : "none";
  moe.router.scale = static_cast<float>(json.get_float_or("routed_scaling_factor", 1.0));
  place_deepseek_layers(json, moe, 1, config);
  const bool bias = json.get_bool_or("attention_bias", false);
  const bool qk_norm = json.get_bool_or("use_qk_norm", false);
  for (LayerConfig& layer : config.layers) {
    layer.attention.qkv_bias = bias;
    layer.attention.qk_norm = qk_norm;
  }
  return config;
}

nlohmann::ordered_json write_config(const ModelConfig& config) {
  const AttentionConfig attention = first_attention(config);
  const moe::MoeConfig* moe = first_moe(config);
  nlohmann::ordered_json json = decoder_json(config);
  if (!json.contains("partial_rotary_factor")) json["partial_rotary_factor"] = 1.0;
  json["attention_bias"] = attention.qkv_bias;
  json["use_qk_norm"] = attention.qk_norm;
  add_deepseek_layers(config, json);
  json["routed_scaling_factor"] = shortest(moe == nullptr ? 1.0F : moe->router.scale);
  json["n_group"] = 1;
  json["topk_group"] = 1;
  json["num_nextn_predict_layers"] = config.prediction ? 1 : 0;
  return json;
}

}  // namespace

const Family kGlm4Moe = {"glm4_moe", "Glm4MoeForCausalLM", read_config, write_config, kNames};

}  // namespace switchyard::model
