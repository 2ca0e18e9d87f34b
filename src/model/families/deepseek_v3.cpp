// DeepSeek-V3, R1 and Kimi-K2: latent attention; sigmoid scores, a bias that only selection sees, groups by their two
// best experts, weights divided by their sum and scaled. DeepSeek-AI 2024, arXiv 2412.19437;
// transformers/models/deepseek_v3.

#include <nlohmann/json.hpp>

#include "common.hpp"
#include "deepseek_latent.hpp"
#include "deepseek_layers.hpp"
#include "deepseek_v3_names.hpp"
#include "family.hpp"

namespace switchyard::model {
namespace {

ModelConfig read_config(const formats::JsonConfig& json) {
  expect_string(json, "scoring_func", "sigmoid");
  expect_string(json, "topk_method", "noaux_tc");
  ModelConfig config = read_latent_decoder(json);
  moe::MoeConfig moe = read_deepseek_experts(json);
  moe.router.score = "sigmoid";
  moe.router.selection_bias = true;
  moe.router.normalise = json.get_bool_or("norm_topk_prob", true) ? "sum" : "none";
  moe.router.scale = static_cast<float>(json.get_float_or("routed_scaling_factor", 2.5));
  read_groups(json, "top-2-sum", moe.router);
  place_deepseek_layers(json, moe, read_layer_step(json), config);
  return config;
}

nlohmann::ordered_json write_config(const ModelConfig& config) {
  const moe::MoeConfig* moe = first_moe(config);
  nlohmann::ordered_json json = latent_decoder_json(config);
  add_deepseek_layers(config, json);
  add_groups(config, json);
  json["topk_method"] = "noaux_tc";
  json["scoring_func"] = "sigmoid";
  json["routed_scaling_factor"] = shortest(moe == nullptr ? 1.0F : moe->router.scale);
  json["moe_layer_freq"] = 1;
  json["num_nextn_predict_layers"] = config.prediction ? 1 : 0;
  return json;
}

}  // namespace

const Family kDeepseekV3 = {"deepseek_v3", "DeepseekV3ForCausalLM", read_config, write_config, kDeepseekV3Names};
// The same code under another name.
const Family kKimiK2 = {"kimi_k2", "DeepseekV3ForCausalLM", read_config, write_config, kDeepseekV3Names};

}  // namespace switchyard::model
