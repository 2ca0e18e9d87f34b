// Phi-3.5-MoE: LayerNorm with biases, LongRoPE, and SparseMixer-v2: two experts chosen one after the other, each
// weighed by its probability among those nearly as good. Abdin et al. 2024, arXiv 2404.14219; Liu et al. 2024,
// arXiv 2409.12136; transformers/models/phimoe.

#include <nlohmann/json.hpp>

#include "common.hpp"
#include "family.hpp"
#include "phimoe_names.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

ModelConfig read_config(const formats::JsonConfig& json) {
  ModelConfig config = read_decoder(json, {.rope_theta = 1e6, .windowed = Windowed::kEverywhere});
  config.norm = "layer";
  config.norm_bias = true;
  config.output_bias = json.get_bool_or("lm_head_bias", false);
  moe::MoeConfig moe = read_experts(json);
  moe.router.select = "sparse-mixer";
  if (moe.router.top_k != 2)
    fail(ErrorKind::kUnsupported, "{}: found {}, only 2 is supported", json.where("num_experts_per_tok"),
         moe.router.top_k);
  moe.router.threshold = static_cast<float>(json.get_float_or("router_jitter_noise", 0.01));
  const bool bias = json.get_bool_or("attention_bias", false);
  for (LayerConfig& layer : config.layers) {
    layer.attention.qkv_bias = layer.attention.output_bias = bias;
    layer.moe = moe;
  }
  return config;
}

nlohmann::ordered_json write_config(const ModelConfig& config) {
  const moe::MoeConfig moe = experts_of(config);
  nlohmann::ordered_json json = decoder_json(config);
  json["head_dim"] = first_attention(config).head_dim;
  json["lm_head_bias"] = config.output_bias;
  json["attention_bias"] = first_attention(config).qkv_bias;
  json["router_jitter_noise"] = shortest(moe.router.threshold);
  add_experts(config, "num_local_experts", json);
  const Index window = first_attention(config).window;
  json["sliding_window"] = window == 0 ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(window);
  return json;
}

}  // namespace

const Family kPhimoe = {"phimoe", "PhimoeForCausalLM", read_config, write_config, kPhimoeNames};

}  // namespace switchyard::model
