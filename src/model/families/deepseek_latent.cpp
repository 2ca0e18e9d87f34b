#include "deepseek_latent.hpp"

#include <cmath>
#include <nlohmann/json.hpp>

#include "common.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::model {

ModelConfig read_latent_decoder(const formats::JsonConfig& json) {
  expect_string(json, "hidden_act", "silu");
  ModelConfig config = read_sizes(json);
  LayerConfig layer;
  AttentionConfig& attention = layer.attention;
  LatentConfig latent;
  latent.query_rank = read_count_or(json, "q_lora_rank", 0);
  latent.rank = read_size(json, "kv_lora_rank");
  latent.rope_dim = read_size(json, "qk_rope_head_dim");
  latent.value_dim = read_size(json, "v_head_dim");
  attention.heads = attention.kv_heads = read_size(json, "num_attention_heads");
  attention.head_dim = read_size(json, "qk_nope_head_dim") + latent.rope_dim;
  attention.latent = latent;
  attention.qkv_bias = attention.output_bias = json.get_bool_or("attention_bias", false);
  attention.rope_pairing =
      json.get_bool_or("rope_interleave", true) ? kernels::RopePairing::kInterleaved : kernels::RopePairing::kHalfSplit;
  const Rope rope = read_rope(json, {}, latent.rope_dim, config.max_positions);
  if (rope.rotary_dim != 0)
    fail(ErrorKind::kUnsupported, "{}: only 1 is supported", json.where("partial_rotary_factor"));
  set_rope(rope, attention);
  if (rope.mscale_all_dim != 0.0) {
    const double m = yarn_mscale(rope.scaling.factor, rope.mscale_all_dim);
    attention.scale = static_cast<float>(m * m / std::sqrt(static_cast<double>(attention.head_dim)));
  }
  config.layers.assign(read_layers(json), layer);
  return config;
}

nlohmann::ordered_json latent_decoder_json(const ModelConfig& config) {
  const AttentionConfig attention = first_attention(config);
  const LatentConfig latent = attention.latent.value_or(LatentConfig{});
  nlohmann::ordered_json json = decoder_json(config);
  json.erase("head_dim");
  json["q_lora_rank"] =
      latent.query_rank == 0 ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(latent.query_rank);
  json["kv_lora_rank"] = latent.rank;
  json["qk_rope_head_dim"] = latent.rope_dim;
  json["qk_nope_head_dim"] = attention.head_dim - latent.rope_dim;
  json["v_head_dim"] = latent.value_dim;
  json["rope_interleave"] = attention.rope_pairing == kernels::RopePairing::kInterleaved;
  json["attention_bias"] = attention.output_bias;
  // What the scores are scaled by beyond 1 / sqrt(head_dim) stands with YaRN: m(mscale_all_dim)^2.
  const double factor = attention.rope_scaling.factor;
  if (attention.scale != 0.0F && attention.rope_scaling.kind == "yarn" && factor > 1.0) {
    const double m =
        std::sqrt(static_cast<double>(attention.scale) * std::sqrt(static_cast<double>(attention.head_dim)));
    json["rope_scaling"]["mscale_all_dim"] = shortest(static_cast<float>((m - 1.0) / (0.1 * std::log(factor))));
  }
  return json;
}

void read_groups(const formats::JsonConfig& json, const char* group_score, moe::RouterConfig& router) {
  router.groups = json.has("n_group") ? read_size(json, "n_group") : 1;
  router.groups_kept = json.has("topk_group") ? read_size(json, "topk_group") : 1;
  if (router.groups == 1) {
    router.groups_kept = 1;
    return;
  }
  router.select = "group-limited";
  router.group_score = group_score;
}

void add_groups(const ModelConfig& config, nlohmann::ordered_json& json) {
  const moe::MoeConfig* moe = first_moe(config);
  json["n_group"] = moe == nullptr ? 1 : moe->router.groups;
  json["topk_group"] = moe == nullptr ? 1 : moe->router.groups_kept;
}

}  // namespace switchyard::model
