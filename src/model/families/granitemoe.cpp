// Granite-MoE: softmax over the k best logits, and four multipliers: of embeddings, scores, branches and logits.
// IBM Granite 3.0 (2024); transformers/models/granitemoe.

#include <nlohmann/json.hpp>

#include "common.hpp"
#include "family.hpp"
#include "granitemoe_names.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

ModelConfig read_config(const formats::JsonConfig& json) {
  ModelConfig config = read_decoder(json, {.kv_heads_optional = true});
  config.embedding_scale = static_cast<float>(json.get_float_or("embedding_multiplier", 1.0));
  config.residual_scale = static_cast<float>(json.get_float_or("residual_multiplier", 1.0));
  const double logits_scaling = json.get_float_or("logits_scaling", 1.0);
  if (logits_scaling == 0.0)
    fail(ErrorKind::kBadInput, "{}: found 0, expected another number: logits are divided by it",
         json.where("logits_scaling"));
  config.logit_scale = static_cast<float>(1.0 / logits_scaling);
  moe::MoeConfig moe = read_experts(json);
  moe.router.score = "logits";
  moe.router.normalise = "softmax";
  const bool bias = json.get_bool_or("attention_bias", false);
  const float scale = static_cast<float>(json.get_float_or("attention_multiplier", 1.0));
  for (LayerConfig& layer : config.layers) {
    layer.attention.qkv_bias = layer.attention.output_bias = bias;
    layer.attention.scale = scale;
    layer.moe = moe;
  }
  return config;
}

nlohmann::ordered_json write_config(const ModelConfig& config) {
  const AttentionConfig attention = first_attention(config);
  nlohmann::ordered_json json = decoder_json(config);
  json.erase("head_dim");  // its class takes the width divided by the heads
  json["embedding_multiplier"] = shortest(config.embedding_scale);
  json["residual_multiplier"] = shortest(config.residual_scale);
  json["logits_scaling"] = 1.0 / static_cast<double>(config.logit_scale);
  json["attention_multiplier"] = shortest(attention.scale);
  json["attention_bias"] = attention.qkv_bias;
  add_experts(config, "num_local_experts", json);
  return json;
}

}  // namespace

const Family kGraniteMoe = {"granitemoe", "GraniteMoeForCausalLM", read_config, write_config, kGraniteMoeNames};

}  // namespace switchyard::model
