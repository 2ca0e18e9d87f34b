#include "qwen_layers.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common.hpp"

namespace switchyard::model {

moe::MoeConfig read_qwen_experts(const formats::JsonConfig& json) {
  moe::MoeConfig moe;
  moe.router.experts = read_size(json, json.first_of({"num_experts", "num_local_experts"}));
  moe.router.top_k = read_size(json, "num_experts_per_tok");
  moe.router.normalise = json.get_bool_or("norm_topk_prob", false) ? "sum" : "none";
  moe.expert.hidden = read_size(json, "moe_intermediate_size");
  return moe;
}

void place_qwen_layers(const formats::JsonConfig& json, const moe::MoeConfig& moe, ModelConfig& config) {
  const std::vector<Index> dense_only =
      json.has("mlp_only_layers") ? json.get_ints("mlp_only_layers") : std::vector<Index>{};
  const Index step = json.has("decoder_sparse_step") ? read_size(json, "decoder_sparse_step") : 1;
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const Index index = static_cast<Index>(i);
    const bool listed = std::find(dense_only.begin(), dense_only.end(), index) != dense_only.end();
    if (!listed && (index + 1) % step == 0) {
      config.layers[i].moe = moe;
    } else {
      config.layers[i].dense = DenseFfnConfig{.hidden = read_size(json, "intermediate_size")};
    }
  }
}

void add_qwen_layers(const ModelConfig& config, nlohmann::ordered_json& json) {
  const moe::MoeConfig moe = experts_of(config);
  json["intermediate_size"] = dense_hidden(config);
  json["moe_intermediate_size"] = moe.expert.hidden;
  json["num_experts"] = moe.router.experts;
  json["num_experts_per_tok"] = moe.router.top_k;
  json["norm_topk_prob"] = moe.router.normalise == "sum";
  json["mlp_only_layers"] = dense_layers(config);
  json["decoder_sparse_step"] = 1;
  add_windows(config, json);
  json["use_sliding_window"] = json.contains("layer_types");
}

}  // namespace switchyard::model
