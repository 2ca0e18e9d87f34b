// DeepSeek-V2: latent attention; softmax top-k, perhaps within the groups whose best expert is best. DeepSeek-AI 2024,
// arXiv 2405.04434; modeling_deepseek.py of DeepSeek-V2, which the port in transformers does not follow in everything:
// docs/formats/checkpoint.md.

#include <nlohmann/json.hpp>

#include "common.hpp"
#include "deepseek_latent.hpp"
#include "deepseek_layers.hpp"
#include "deepseek_v2_names.hpp"
#include "family.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

ModelConfig read_config(const formats::JsonConfig& json) {
  expect_string(json, "scoring_func", "softmax");
  ModelConfig config = read_latent_decoder(json);
  moe::MoeConfig moe = read_deepseek_experts(json);
  const std::string method = json.get_string_or("topk_method", "greedy");
  if (method == "group_limited_greedy") {
    read_groups(json, "max", moe.router);
  } else if (method != "greedy" && method != "gready") {  // the second is the class's own default, misspelt
    fail(ErrorKind::kUnsupported, "{}: found {}, supported are greedy and group_limited_greedy",
         json.where("topk_method"), method);
  }
  // Its code scales weights only where it does not divide them by their sum.
  if (json.get_bool_or("norm_topk_prob", false) && moe.router.top_k > 1) {
    moe.router.normalise = "sum";
  } else {
    moe.router.scale = static_cast<float>(json.get_float_or("routed_scaling_factor", 1.0));
  }
  place_deepseek_layers(json, moe, read_layer_step(json), config);
  return config;
}

nlohmann::ordered_json write_config(const ModelConfig& config) {
  const moe::MoeConfig* moe = first_moe(config);
  nlohmann::ordered_json json = latent_decoder_json(config);
  add_deepseek_layers(config, json);
  add_groups(config, json);
  json["topk_method"] = moe != nullptr && moe->router.groups > 1 ? "group_limited_greedy" : "greedy";
  json["scoring_func"] = "softmax";
  json["routed_scaling_factor"] = shortest(moe == nullptr ? 1.0F : moe->router.scale);
  json["moe_layer_freq"] = 1;
  return json;
}

}  // namespace

const Family kDeepseekV2 = {"deepseek_v2", "DeepseekV2ForCausalLM", read_config, write_config, kDeepseekV2Names};

}  // namespace switchyard::model
