#pragma once
// The keys that the DeepSeek families and GLM-4.5 share: experts, ungated shared experts, leading dense layers.

#include <nlohmann/json_fwd.hpp>

#include "switchyard/formats/json_config.hpp"
#include "switchyard/model/config.hpp"

namespace switchyard::model {

// Experts and top-k; n_shared_experts shared ones as one of their summed width.
moe::MoeConfig read_deepseek_experts(const formats::JsonConfig& json);
// moe_layer_freq, which most files do not have.
Index read_layer_step(const formats::JsonConfig& json);
// Layer i is MoE where i >= first_k_dense_replace and i is a multiple of `step`.
void place_deepseek_layers(const formats::JsonConfig& json, const moe::MoeConfig& moe, Index step, ModelConfig& config);
void add_deepseek_layers(const ModelConfig& config, nlohmann::ordered_json& json);

}  // namespace switchyard::model
