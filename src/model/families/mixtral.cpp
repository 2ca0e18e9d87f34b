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
  moe::MoeConfig moe = read_experts(json);
  moe.router.normalise = "sum";
  for (LayerConfig& layer : config.layers) layer.moe = moe;
  return config;
}

nlohmann::ordered_json write_config(const ModelConfig& config) {
  nlohmann::ordered_json json = decoder_json(config);
  add_experts(config, "num_local_experts", json);
  const Index window = first_attention(config).window;
  json["sliding_window"] = window == 0 ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(window);
  return json;
}

}  // namespace

const Family kMixtral = {"mixtral", "MixtralForCausalLM", read_config, write_config, kNames};

}  // namespace switchyard::model
