#include "deepseek_layers.hpp"

#include <nlohmann/json.hpp>

#include "common.hpp"

namespace switchyard::model {

moe::MoeConfig read_deepseek_experts(const formats::JsonConfig& json) {
  moe::MoeConfig moe;
  moe.router.experts = read_size(json, json.first_of({"n_routed_experts", "num_local_experts", "num_experts"}));
  moe.router.top_k = read_size(json, "num_experts_per_tok");
  moe.expert.hidden = read_size(json, "moe_intermediate_size");
  moe.shared.hidden = read_count_or(json, "n_shared_experts", 0) * moe.expert.hidden;
  return moe;
}

Index read_layer_step(const formats::JsonConfig& json) {
  return json.has("moe_layer_freq") ? read_size(json, "moe_layer_freq") : 1;
}

void place_deepseek_layers(const formats::JsonConfig& json, const moe::MoeConfig& moe, Index step,
                           ModelConfig& config) {
  const Index leading = read_count_or(json, "first_k_dense_replace", 0);
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const Index index = static_cast<Index>(i);
    if (index >= leading && index % step == 0) {
      config.layers[i].moe = moe;
    } else {
      config.layers[i].dense = DenseFfnConfig{.hidden = read_size(json, "intermediate_size")};
    }
  }
}

void add_deepseek_layers(const ModelConfig& config, nlohmann::ordered_json& json) {
  const moe::MoeConfig moe = experts_of(config);
  json["intermediate_size"] = dense_hidden(config);
  json["moe_intermediate_size"] = moe.expert.hidden;
  json["n_routed_experts"] = moe.router.experts;
  json["num_experts_per_tok"] = moe.router.top_k;
  json["n_shared_experts"] = moe.expert.hidden == 0 ? 0 : moe.shared.hidden / moe.expert.hidden;
  json["first_k_dense_replace"] = leading_dense_layers(config);
  json["norm_topk_prob"] = moe.router.normalise == "sum";
}

}  // namespace switchyard::model
