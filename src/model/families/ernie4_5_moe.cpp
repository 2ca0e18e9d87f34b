// ERNIE-4.5: softmax scores with a bias that only selection sees, weights divided by their sum, shared experts without
// a gate, RoPE of neighbouring elements. Baidu 2025, "ERNIE 4.5 technical report"; transformers/models/ernie4_5_moe.

#include <nlohmann/json.hpp>
#include <vector>

#include "common.hpp"
#include "ernie4_5_moe_names.hpp"
#include "family.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

// Multi-token prediction, which generation does not use.
constexpr std::string_view kIgnored[] = {"*rotary_emb.inv_freq", "model.mtp_*"};

// The divisor of the weights is at least this. Ours has no such bound: it matters only where the bias makes every
// chosen expert one of practically no probability.
constexpr double kNormMin = 1e-12;

ModelConfig read_config(const formats::JsonConfig& json) {
  expect_bool(json, "use_bias", false);
  expect_string(json, "moe_gate_act", "softmax");
  expect_float(json, "moe_norm_min", kNormMin);
  ModelConfig config = read_decoder(json, {.rope_theta = 5e5, .kv_heads_optional = true});
  moe::MoeConfig moe;
  moe.router.experts = read_size(json, json.first_of({"moe_num_experts", "num_experts", "num_local_experts"}));
  moe.router.top_k = read_size(json, json.first_of({"moe_k", "num_experts_per_tok"}));
  moe.router.selection_bias = true;
  moe.router.normalise = "sum";
  moe.expert.hidden = read_size(json, "moe_intermediate_size");
  moe.shared.hidden = read_count_or(json, "moe_num_shared_experts", 2) * moe.expert.hidden;

  const auto layers = static_cast<Index>(config.layers.size());
  const Index start = read_count_or(json, "moe_layer_start_index", 1);
  Index end = json.get_int_or("moe_layer_end_index", -1);
  if (end < -1) {
    fail(ErrorKind::kBadInput, "{}: found {}, expected the last layer with experts or -1",
         json.where("moe_layer_end_index"), end);
  }
  if (end == -1) end = layers - 1;
  const Index interval = json.has("moe_layer_interval") ? read_size(json, "moe_layer_interval") : 1;
  for (Index i = 0; i < layers; ++i) {
    LayerConfig& layer = config.layers[static_cast<std::size_t>(i)];
    layer.attention.rope_pairing = kernels::RopePairing::kInterleaved;
    if ((i + 1) % interval == 0 && i >= start && i <= end) {
      layer.moe = moe;
    } else {
      layer.dense = DenseFfnConfig{.hidden = read_size(json, "intermediate_size")};
    }
  }
  return config;
}

// Which layers have experts: every `interval`-th from `start` to `end`, -1 for the last of them. What other patterns
// there are, these do not say: the config then reads otherwise.
struct ExpertLayers {
  Index start = 0, end = -1, interval = 1;
};
ExpertLayers expert_layers(const ModelConfig& config) {
  std::vector<Index> with;
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    if (config.layers[i].moe) with.push_back(static_cast<Index>(i));
  }
  if (with.empty()) return {};
  ExpertLayers said;
  said.start = with.front();
  if (with.size() > 1) said.interval = with[1] - with[0];
  if ((said.start + 1) % said.interval != 0) said.interval = 1;
  if (with.back() + said.interval < static_cast<Index>(config.layers.size())) said.end = with.back();
  return said;
}

nlohmann::ordered_json write_config(const ModelConfig& config) {
  const ExpertLayers where = expert_layers(config);
  const moe::MoeConfig moe = experts_of(config);
  nlohmann::ordered_json json = decoder_json(config);
  json["intermediate_size"] = dense_hidden(config);
  json["moe_num_experts"] = moe.router.experts;
  json["moe_k"] = moe.router.top_k;
  json["moe_intermediate_size"] = moe.expert.hidden;
  json["moe_num_shared_experts"] = moe.expert.hidden == 0 ? 0 : moe.shared.hidden / moe.expert.hidden;
  json["moe_layer_start_index"] = where.start;
  json["moe_layer_end_index"] = where.end;
  json["moe_layer_interval"] = where.interval;
  json["moe_norm_min"] = kNormMin;
  json["use_bias"] = false;
  return json;
}

}  // namespace

const Family kErnieMoe = {"ernie4_5_moe", "Ernie4_5_MoeForCausalLM", read_config, write_config, kErnieMoeNames,
                          kIgnored};

}  // namespace switchyard::model
