// Grok-1: a norm before and after each branch, scores through a soft cap, GELU experts, multipliers of embeddings and
// logits. xAI 2024, xai-org/grok-1, model.py.

#include <cmath>
#include <nlohmann/json.hpp>

#include "common.hpp"
#include "family.hpp"
#include "grok_names.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

// A widening factor gives the width as model.py computes it: two thirds of it, rounded up to a multiple of 8.
Index read_hidden(const formats::JsonConfig& json, Index width) {
  if (const auto key = json.find_first_of({"intermediate_size", "moe_intermediate_size"})) return read_size(json, *key);
  const double widening = json.get_float("widening_factor");
  if (!(widening > 0.0 && widening <= 1024.0))
    fail(ErrorKind::kBadInput, "{}: found {}, expected a number above 0, at most 1024", json.where("widening_factor"),
         widening);
  const auto wide = static_cast<Index>(widening * static_cast<double>(width)) * 2 / 3;
  return (wide + 7) / 8 * 8;
}

ModelConfig read_config(const formats::JsonConfig& json) {
  ModelConfig config;
  check_quantisation(json);
  // Conversions call it either way; model.py has the tanh form.
  if (json.get_string_or("hidden_act", "gelu") != "gelu") expect_string(json, "hidden_act", "gelu_pytorch_tanh");
  config.vocab = read_size(json, "vocab_size");
  config.width = read_size(json, json.first_of({"hidden_size", "emb_size"}));
  config.max_positions =
      read_size(json, json.first_of({"max_position_embeddings", "max_sequence_len", "sequence_len"}));
  config.norm_eps = static_cast<float>(json.get_float_or("rms_norm_eps", 1e-5));
  config.tied_embeddings = json.get_bool_or("tie_word_embeddings", true);
  config.embedding_scale =
      static_cast<float>(json.get_float_or("embedding_multiplier_scale", std::sqrt(static_cast<double>(config.width))));
  config.logit_scale = 0.57735026F;
  if (json.has("output_multiplier_scale")) {
    // A stray comma in one conversion's config class makes a list of it.
    const std::vector<double> scale = json.get_floats("output_multiplier_scale");
    if (scale.size() != 1)
      fail(ErrorKind::kBadInput, "{}: found {} numbers, expected one", json.where("output_multiplier_scale"),
           scale.size());
    config.logit_scale = static_cast<float>(scale.front());
  }

  LayerConfig layer;
  layer.post_norms = true;
  AttentionConfig& attention = layer.attention;
  attention.heads = read_size(json, json.first_of({"num_attention_heads", "num_q_heads"}));
  attention.kv_heads = read_size(json, json.first_of({"num_key_value_heads", "num_kv_heads"}));
  if (const auto key = json.find_first_of({"head_dim", "key_size"})) {
    attention.head_dim = read_size(json, *key);
  } else if (config.width % attention.heads == 0) {
    attention.head_dim = config.width / attention.heads;
  } else {
    fail(ErrorKind::kBadInput, "{}: found {}, expected a multiple of num_attention_heads ({}) as there is no head_dim",
         json.where("hidden_size"), config.width, attention.heads);
  }
  set_rope(read_rope(json, {}, attention.head_dim, config.max_positions), attention);
  attention.scale = static_cast<float>(
      json.get_float_or("attn_output_multiplier", 1.0 / std::sqrt(static_cast<double>(attention.head_dim))));
  const auto cap = json.find_first_of({"attn_logit_softcapping", "max_attn_value"});
  attention.softcap = static_cast<float>(cap ? json.get_float(*cap) : 30.0);

  moe::MoeConfig moe;
  moe.router.experts = read_size(json, json.first_of({"num_local_experts", "num_experts"}));
  moe.router.top_k =
      read_size(json, json.first_of({"num_experts_per_tok", "num_selected_experts", "num_experts_per_token"}));
  moe.expert = {read_hidden(json, config.width), kernels::Activation::kGatedGeluTanh, false};
  layer.moe = moe;
  config.layers.assign(read_layers(json, json.first_of({"num_hidden_layers", "num_layers"})), layer);
  return config;
}

nlohmann::ordered_json write_config(const ModelConfig& config) {
  const AttentionConfig attention = first_attention(config);
  nlohmann::ordered_json json = decoder_json(config);
  json["hidden_act"] = "gelu_pytorch_tanh";
  json["embedding_multiplier_scale"] = shortest(config.embedding_scale);
  json["output_multiplier_scale"] = shortest(config.logit_scale);
  json["attn_output_multiplier"] = shortest(attention.scale);
  json["max_attn_value"] = shortest(attention.softcap);
  add_experts(config, "num_experts", json);
  return json;
}

}  // namespace

const Family kGrok = {"grok-1", "Grok1ModelForCausalLM", read_config, write_config, kGrokNames};

}  // namespace switchyard::model
