// gpt-oss: attention sinks, windows on every other layer, softmax over the k best biased logits, clamped SwiGLU with
// biases. OpenAI 2025, arXiv 2508.10925; transformers/models/gpt_oss.

#include <nlohmann/json.hpp>

#include "common.hpp"
#include "family.hpp"
#include "gpt_oss_names.hpp"

namespace switchyard::model {
namespace {

ModelConfig read_config(const formats::JsonConfig& json) {
  DecoderDefaults defaults{.rope_theta = 150000.0, .windowed = Windowed::kEven};
  ModelConfig config = read_decoder(json, defaults);
  moe::MoeConfig moe;
  moe.router.score = "logits";
  moe.router.normalise = "softmax";
  moe.router.logits_bias = true;
  moe.router.experts = read_size(json, json.first_of({"num_local_experts", "num_experts"}));
  moe.router.top_k = read_size(json, json.first_of({"num_experts_per_tok", "experts_per_token"}));
  moe.expert = {read_size(json, "intermediate_size"), kernels::Activation::kClampedSwiGLU, true};
  moe.expert.activation.limit = static_cast<float>(json.get_float_or("swiglu_limit", 7.0));
  moe.expert.activation.slope = static_cast<float>(json.get_float_or("swiglu_alpha", 1.702));
  const bool bias = json.get_bool_or("attention_bias", true);
  for (LayerConfig& layer : config.layers) {
    layer.attention.qkv_bias = layer.attention.output_bias = bias;
    layer.attention.sinks = true;
    layer.moe = moe;
  }
  return config;
}

nlohmann::ordered_json write_config(const ModelConfig& config) {
  const moe::MoeConfig moe = experts_of(config);
  nlohmann::ordered_json json = decoder_json(config);
  add_windows(config, json);
  json["attention_bias"] = first_attention(config).qkv_bias;
  json["swiglu_limit"] = shortest(moe.expert.activation.limit);
  json["swiglu_alpha"] = shortest(moe.expert.activation.slope);
  add_experts(config, "num_local_experts", json);
  json["experts_per_token"] = moe.router.top_k;
  // Its class would put YaRN where nothing stands.
  if (!json.contains("rope_scaling")) json["rope_scaling"] = {{"rope_type", "default"}};
  return json;
}

}  // namespace

const Family kGptOss = {"gpt_oss", "GptOssForCausalLM", read_config, write_config, kGptOssNames};

}  // namespace switchyard::model
