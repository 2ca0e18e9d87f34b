// Mixtral: every layer MoE, softmax top-k divided by its sum. Jiang et al. 2024, arXiv 2401.04088;
// transformers/models/mixtral.

#include <nlohmann/json.hpp>

#include "common.hpp"
#include "family.hpp"
#include "llama_names.hpp"

namespace switchyard::model {
namespace {

// transformers 5 may write its own names, those of the other families, instead of Mixtral's.
constexpr auto kNames = join(kLlamaNames, kBlockExpertNames, kExpertNames);

ModelConfig read_config(const formats::JsonConfig& json) {
  ModelConfig config = read_decoder(json, {.rope_theta = 1e6, .windowed = Windowed::kEverywhere});
  moe::MoeConfig moe;
  moe.router.experts = read_size(json, json.first_of({"num_local_experts", "num_experts"}));
  moe.router.top_k = read_size(json, "num_experts_per_tok");
  moe.router.normalise = "sum";
  moe.expert.hidden = read_size(json, "intermediate_size");
  for (LayerConfig& layer : config.layers) layer.moe = moe;
  return config;
}

nlohmann::ordered_json write_config(const ModelConfig& config) {
  const moe::MoeConfig* first = first_moe(config);
  const moe::MoeConfig moe = first == nullptr ? moe::MoeConfig{} : *first;
  nlohmann::ordered_json json = decoder_json(config);
  json["intermediate_size"] = moe.expert.hidden;
  json["num_local_experts"] = moe.router.experts;
  json["num_experts_per_tok"] = moe.router.top_k;
  const Index window = first_attention(config).window;
  json["sliding_window"] = window == 0 ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(window);
  return json;
}

}  // namespace

const Family kMixtral = {"mixtral", "MixtralForCausalLM", read_config, write_config, kNames};

}  // namespace switchyard::model
