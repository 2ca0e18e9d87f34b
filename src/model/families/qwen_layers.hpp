#pragma once
// The keys that Qwen2-MoE and Qwen3-MoE share: the router, the experts, and which layers are MoE.

#include <nlohmann/json_fwd.hpp>

#include "switchyard/formats/json_config.hpp"
#include "switchyard/model/config.hpp"

namespace switchyard::model {

moe::MoeConfig read_qwen_experts(const formats::JsonConfig& json);
// Layer i is MoE where it is not in mlp_only_layers and i + 1 is a multiple of decoder_sparse_step.
void place_qwen_layers(const formats::JsonConfig& json, const moe::MoeConfig& moe, ModelConfig& config);
// The same keys. Dense layers go into mlp_only_layers.
void add_qwen_layers(const ModelConfig& config, nlohmann::ordered_json& json);

}  // namespace switchyard::model
