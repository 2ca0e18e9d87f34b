// DeepSeekMoE: softmax top-k, shared experts without a gate. Dai et al. 2024, arXiv 2401.06066; the published model's
// own modeling_deepseek.py. transformers has no class of its own for it.

#include <nlohmann/json.hpp>

#include "common.hpp"
#include "deepseek_layers.hpp"
#include "family.hpp"
#include "llama_names.hpp"

namespace switchyard::model {
namespace {

constexpr auto kNames = join(kLlamaNames, kExpertNames, kSharedExpertsNames);

ModelConfig read_config(const formats::JsonConfig& json) {
  expect_string(json, "scoring_func", "softmax");
  expect_float(json, "routed_scaling_factor", 1.0);
  ModelConfig config = read_decoder(json, {.kv_heads_optional = true});
  expect_int(json, "n_group", 1);
  moe::MoeConfig moe = read_deepseek_experts(json);
  // Its code leaves the weight of a single expert as it is, whatever norm_topk_prob says.
  moe.router.normalise = json.get_bool_or("norm_topk_prob", false) && moe.router.top_k > 1 ? "sum" : "none";
  place_deepseek_layers(json, moe, read_layer_step(json), config);
  const bool bias = json.get_bool_or("attention_bias", false);
  for (LayerConfig& layer : config.layers) layer.attention.qkv_bias = layer.attention.output_bias = bias;
  return config;
}

nlohmann::ordered_json write_config(const ModelConfig& config) {
  nlohmann::ordered_json json = decoder_json(config);
  // Its code takes the width divided by the heads.
  json.erase("head_dim");
  add_deepseek_layers(config, json);
  json["moe_layer_freq"] = 1;
  json["scoring_func"] = "softmax";
  json["attention_bias"] = !config.layers.empty() && config.layers.front().attention.qkv_bias;
  return json;
}

}  // namespace

const Family kDeepseek = {"deepseek", "DeepseekForCausalLM", read_config, write_config, kNames};

}  // namespace switchyard::model
