// Qwen1.5-MoE and Qwen2-MoE: softmax top-k, a shared expert behind a sigmoid gate, biases on q, k and v.
// Yang et al. 2024, arXiv 2407.10671; transformers/models/qwen2_moe.

#include <nlohmann/json.hpp>

#include "common.hpp"
#include "family.hpp"
#include "llama_names.hpp"
#include "qwen_layers.hpp"

namespace switchyard::model {
namespace {

constexpr std::array kSharedNames = {
    TensorRule{"layers.{i}.moe.shared.gate", "model.layers.{i}.mlp.shared_expert.gate_proj.weight"},
    TensorRule{"layers.{i}.moe.shared.up", "model.layers.{i}.mlp.shared_expert.up_proj.weight"},
    TensorRule{"layers.{i}.moe.shared.down", "model.layers.{i}.mlp.shared_expert.down_proj.weight"},
    TensorRule{"layers.{i}.moe.shared_gate", "model.layers.{i}.mlp.shared_expert_gate.weight", Layout::kRow},
};
constexpr auto kNames = join(kLlamaNames, kExpertNames, kSharedNames);

ModelConfig read_config(const formats::JsonConfig& json) {
  ModelConfig config = read_decoder(json, {.windowed = Windowed::kEvenBelowMax, .window_switch = "use_sliding_window"});
  moe::MoeConfig moe = read_qwen_experts(json);
  moe.shared = {.hidden = read_size(json, "shared_expert_intermediate_size"), .gated = true};
  place_qwen_layers(json, moe, config);
  const bool bias = json.get_bool_or("qkv_bias", true);
  for (LayerConfig& layer : config.layers) layer.attention.qkv_bias = bias;
  return config;
}

nlohmann::ordered_json write_config(const ModelConfig& config) {
  const moe::MoeConfig* moe = first_moe(config);
  nlohmann::ordered_json json = decoder_json(config);
  // transformers 4 takes the width divided by the heads whatever stands here: a model of another head width is left
  // to other dialects.
  json.erase("head_dim");
  add_qwen_layers(config, json);
  json["shared_expert_intermediate_size"] = moe == nullptr ? 0 : moe->shared.hidden;
  json["qkv_bias"] = !config.layers.empty() && config.layers.front().attention.qkv_bias;
  return json;
}

}  // namespace

const Family kQwen2Moe = {"qwen2_moe", "Qwen2MoeForCausalLM", read_config, write_config, kNames};

}  // namespace switchyard::model
