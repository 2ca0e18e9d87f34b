// MiniMax-M2: sigmoid scores with a bias that only selection sees, weights divided by their sum, RMSNorm over all heads
// of q and of k, the first part of each head rotated. MiniMax 2025; transformers/models/minimax_m2.

#include <nlohmann/json.hpp>

#include "common.hpp"
#include "family.hpp"
#include "minimax_m2_names.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

constexpr std::string_view kRotaryDim = "rotary_dim";  // how published files say it

ModelConfig read_config(const formats::JsonConfig& json) {
  // Keys of the published code that its successors use for other schemes.
  expect_string(json, "scoring_func", "sigmoid");
  expect_bool(json, "use_routing_bias", true);
  expect_bool(json, "use_qk_norm", true);
  expect_string(json, "qk_norm_type", "per_layer");
  expect_int(json, "shared_intermediate_size", 0);
  ModelConfig config = read_decoder(json, {.rope_theta = 5e6});
  moe::MoeConfig moe = read_experts(json);
  moe.router.score = "sigmoid";
  moe.router.selection_bias = true;
  moe.router.normalise = "sum";
  for (LayerConfig& layer : config.layers) {
    layer.attention.qk_norm_whole = true;
    if (json.has(kRotaryDim)) {
      const Index rotary = read_size(json, kRotaryDim), head = layer.attention.head_dim;
      if (rotary > head || rotary % 2 != 0) {
        fail(ErrorKind::kBadInput, "{}: found {}, expected an even number up to head_dim ({})", json.where(kRotaryDim),
             rotary, head);
      }
      layer.attention.rotary_dim = rotary == head ? 0 : rotary;
    }
    layer.moe = moe;
  }
  return config;
}

nlohmann::ordered_json write_config(const ModelConfig& config) {
  const AttentionConfig attention = first_attention(config);
  nlohmann::ordered_json json = decoder_json(config);
  json["head_dim"] = attention.head_dim;
  json.erase("partial_rotary_factor");
  json[kRotaryDim] = rotary_elements(attention);
  add_experts(config, "num_local_experts", json);
  json["scoring_func"] = "sigmoid";
  json["use_routing_bias"] = true;
  json["use_qk_norm"] = true;
  json["qk_norm_type"] = "per_layer";
  return json;
}

}  // namespace

const Family kMinimaxM2 = {"minimax_m2", "MiniMaxM2ForCausalLM", read_config, write_config, kMinimaxM2Names};

}  // namespace switchyard::model
