// DBRX: LayerNorm without bias, one matrix for q, k and v whose result is clipped, softmax top-k divided by a p-norm.
// Databricks 2024; transformers/models/dbrx.

#include <nlohmann/json.hpp>

#include "common.hpp"
#include "dbrx_names.hpp"
#include "family.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

using formats::JsonConfig;

ModelConfig read_config(const JsonConfig& json) {
  check_quantisation(json);
  ModelConfig config;
  config.norm = "layer";
  config.norm_eps = 1e-5F;  // that of torch's LayerNorm; no key
  config.vocab = read_size(json, "vocab_size");
  config.width = read_size(json, json.first_of({"d_model", "hidden_size"}));
  config.max_positions = read_size(json, json.first_of({"max_seq_len", "max_position_embeddings"}));
  config.tied_embeddings = json.get_bool_or("tie_word_embeddings", false);

  LayerConfig layer;
  AttentionConfig& attention = layer.attention;
  const JsonConfig attn = json.object("attn_config");
  attention.heads = read_size(json, json.first_of({"n_heads", "num_attention_heads"}));
  attention.kv_heads = attn.has("kv_n_heads") ? read_size(attn, "kv_n_heads") : 1;
  if (config.width % attention.heads != 0)
    fail(ErrorKind::kBadInput, "{}: found {}, expected a multiple of n_heads ({})", json.where("d_model"), config.width,
         attention.heads);
  attention.head_dim = config.width / attention.heads;
  set_rope(read_rope(attn, {}, attention.head_dim, config.max_positions), attention);
  attention.clip = static_cast<float>(attn.get_float_or("clip_qkv", 0.0));

  const JsonConfig ffn = json.object("ffn_config");
  if (ffn.has("ffn_act_fn")) expect_string(ffn.object("ffn_act_fn"), "name", "silu");
  moe::MoeConfig moe;
  moe.router.experts = read_size(ffn, "moe_num_experts");
  moe.router.top_k = read_size(ffn, "moe_top_k");
  moe.expert.hidden = read_size(ffn, "ffn_hidden_size");
  // Absent means 1, null means none: a reader of null would see it as absent.
  if (ffn.is_null("moe_normalize_expert_weights")) {
    moe.router.normalise = "none";
  } else {
    moe.router.normalise = "p-norm";
    moe.router.norm_p = static_cast<float>(ffn.get_float_or("moe_normalize_expert_weights", 1.0));
  }
  layer.moe = moe;
  config.layers.assign(read_layers(json, json.first_of({"n_layers", "num_hidden_layers"})), layer);
  return config;
}

nlohmann::ordered_json write_config(const ModelConfig& config) {
  using Json = nlohmann::ordered_json;
  const moe::MoeConfig moe = experts_of(config);
  const AttentionConfig attention = first_attention(config);
  Json json;
  json["vocab_size"] = config.vocab;
  json["d_model"] = config.width;
  json["n_layers"] = config.layers.size();
  json["n_heads"] = attention.heads;
  json["max_seq_len"] = config.max_positions;
  json["tie_word_embeddings"] = config.tied_embeddings;
  json["attn_config"] = {{"kv_n_heads", attention.kv_heads}, {"rope_theta", attention.rope_theta}};
  json["attn_config"]["clip_qkv"] = attention.clip == 0.0F ? Json(nullptr) : Json(shortest(attention.clip));
  json["ffn_config"] = {{"ffn_act_fn", {{"name", "silu"}}},
                        {"ffn_hidden_size", moe.expert.hidden},
                        {"moe_num_experts", moe.router.experts},
                        {"moe_top_k", moe.router.top_k}};
  json["ffn_config"]["moe_normalize_expert_weights"] =
      moe.router.normalise == "none" ? Json(nullptr) : Json(shortest(moe.router.norm_p));
  return json;
}

}  // namespace

const Family kDbrx = {"dbrx", "DbrxForCausalLM", read_config, write_config, kDbrxNames};

}  // namespace switchyard::model
