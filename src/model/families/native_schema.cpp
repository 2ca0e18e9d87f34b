#include "native_schema.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/moe/config_keys.hpp"

namespace switchyard::model {
namespace {

using formats::JsonConfig;
using Json = nlohmann::ordered_json;

void check_keys(const JsonConfig& json, const std::vector<std::string_view>& known) {
  for (const std::string& key : json.keys()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    fail(ErrorKind::kUnsupported, "{}: unknown key, expected one of {}", json.where(key), fmt::join(known, ", "));
  }
}

kernels::Activation read_activation(const JsonConfig& json) {
  try {
    return kernels::parse_activation(json.get_string("activation"));
  } catch (const Error& error) {
    fail(error.kind(), "{}: {}", json.where("activation"), error.what());
  }
}

std::string_view pairing_name(kernels::RopePairing pairing) {
  return pairing == kernels::RopePairing::kHalfSplit ? "half-split" : "interleaved";
}

kernels::RopePairing read_pairing(const JsonConfig& json) {
  const std::string name = json.get_string("rope_pairing");
  for (const auto pairing : {kernels::RopePairing::kHalfSplit, kernels::RopePairing::kInterleaved}) {
    if (name == pairing_name(pairing)) return pairing;
  }
  fail(ErrorKind::kBadInput, "{}: found {}, expected half-split or interleaved", json.where("rope_pairing"), name);
}

Json dense_json(const DenseFfnConfig& dense) {
  return {{"hidden", dense.hidden}, {"activation", kernels::activation_name(dense.activation)}};
}

DenseFfnConfig read_dense(const JsonConfig& json) {
  check_keys(json, {"hidden", "activation"});
  DenseFfnConfig dense;
  dense.hidden = read_size(json, "hidden");
  dense.activation = read_activation(json);
  return dense;
}

// Members of a config to and from JSON, by the keys that moe/config_keys.hpp declares.
struct KeyWriter {
  Json json = Json::object();
  void operator()(const char* key, float value) { json[key] = shortest(value); }
  template <class T>
  void operator()(const char* key, const T& value) {
    json[key] = value;
  }
};

// A key that is missing keeps its default: files of earlier versions have fewer.
struct KeyReader {
  const JsonConfig& json;
  std::vector<std::string_view> known;

  bool has(const char* key) {
    known.emplace_back(key);
    return json.has(key);
  }
  void operator()(const char* key, bool& value) {
    if (has(key)) value = json.get_bool(key);
  }
  void operator()(const char* key, float& value) {
    if (has(key)) value = static_cast<float>(json.get_float(key));
  }
  void operator()(const char* key, std::string& value) {
    if (has(key)) value = json.get_string(key);
  }
  void operator()(const char* key, double& value) {
    if (has(key)) value = json.get_float(key);
  }
  void operator()(const char* key, std::vector<double>& value) {
    if (has(key)) value = json.get_floats(key);
  }
  template <class Integer>
  void operator()(const char* key, Integer& value) {
    if (has(key)) value = static_cast<Integer>(json.get_int(key));
  }
  void operator()(const char* key, std::vector<Index>& value) {
    if (has(key)) value = json.get_ints(key);
  }
};

template <class Visit>
Json keys_json(const Visit& visit) {
  KeyWriter writer;
  visit(writer);
  return std::move(writer.json);
}

template <class Visit>
void read_keys(const JsonConfig& json, const Visit& visit) {
  KeyReader reader{json, {}};
  visit(reader);
  check_keys(json, reader.known);
}

template <class V, class Attention>
void visit_attention(V& v, Attention& a) {
  v("heads", a.heads);
  v("kv_heads", a.kv_heads);
  v("head_dim", a.head_dim);
  v("rope_theta", a.rope_theta);
  v("rotary_dim", a.rotary_dim);
  v("qkv_bias", a.qkv_bias);
  v("output_bias", a.output_bias);
  v("qk_norm", a.qk_norm);
  v("qk_norm_whole", a.qk_norm_whole);
  v("clip", a.clip);
  v("scale", a.scale);
  v("softcap", a.softcap);
  v("window", a.window);
  v("sinks", a.sinks);
}

template <class V, class Scaling>
void visit_rope_scaling(V& v, Scaling& s) {
  v("kind", s.kind);
  v("factor", s.factor);
  v("original_positions", s.original_positions);
  v("beta_fast", s.beta_fast);
  v("beta_slow", s.beta_slow);
  v("truncate", s.truncate);
  v("low_frequency_factor", s.low_frequency_factor);
  v("high_frequency_factor", s.high_frequency_factor);
  v("short_factors", s.short_factors);
  v("long_factors", s.long_factors);
  v("magnitude", s.magnitude);
  v("long_magnitude", s.long_magnitude);
}

template <class V, class Latent>
void visit_latent(V& v, Latent& l) {
  v("query_rank", l.query_rank);
  v("rank", l.rank);
  v("rope_dim", l.rope_dim);
  v("value_dim", l.value_dim);
  v("norm_eps", l.norm_eps);
}

Json attention_json(const AttentionConfig& attention) {
  Json json = keys_json([&](auto& v) { visit_attention(v, attention); });
  json["rope_pairing"] = pairing_name(attention.rope_pairing);
  if (attention.rope_scaling.kind != "none")
    json["rope_scaling"] = keys_json([&](auto& v) { visit_rope_scaling(v, attention.rope_scaling); });
  if (attention.latent) json["latent"] = keys_json([&](auto& v) { visit_latent(v, *attention.latent); });
  return json;
}

AttentionConfig read_attention(const JsonConfig& json) {
  AttentionConfig attention;
  KeyReader reader{json, {"rope_pairing", "rope_scaling", "latent"}};
  visit_attention(reader, attention);
  check_keys(json, reader.known);
  attention.rope_pairing = read_pairing(json);
  if (json.has("rope_scaling"))
    read_keys(json.object("rope_scaling"), [&](auto& v) { visit_rope_scaling(v, attention.rope_scaling); });
  if (json.has("latent")) {
    LatentConfig latent;
    read_keys(json.object("latent"), [&](auto& v) { visit_latent(v, latent); });
    attention.latent = latent;
  }
  return attention;
}

Json moe_json(const moe::MoeConfig& moe) {
  Json json;
  json["router"] = keys_json([&](auto& v) {
    v("experts", moe.router.experts);
    moe::visit_router_inference(v, moe.router);
    // Noise matters to training alone, unless it brings weights.
    if (moe.router.noise == "shazeer") v("noise", moe.router.noise);
  });
  json["expert"] = {{"hidden", moe.expert.hidden}, {"activation", kernels::activation_name(moe.expert.activation)}};
  if (moe.expert.bias) json["expert"]["bias"] = true;
  if (moe.expert.activation.kind == kernels::Activation::Kind::kClampedSwiGLU) {
    json["expert"]["limit"] = shortest(moe.expert.activation.limit);
    json["expert"]["slope"] = shortest(moe.expert.activation.slope);
  }
  if (moe.shared.hidden != 0) json["shared"] = {{"hidden", moe.shared.hidden}, {"gated", moe.shared.gated}};
  return json;
}

moe::MoeConfig read_moe(const JsonConfig& json) {
  check_keys(json, {"router", "expert", "shared"});
  moe::MoeConfig moe;
  read_keys(json.object("router"), [&](auto& v) {
    v("experts", moe.router.experts);
    moe::visit_router_inference(v, moe.router);
    v("noise", moe.router.noise);
  });
  const JsonConfig expert = json.object("expert");
  check_keys(expert, {"hidden", "activation", "bias", "limit", "slope"});
  moe.expert.hidden = read_size(expert, "hidden");
  moe.expert.activation = read_activation(expert);
  moe.expert.bias = expert.get_bool_or("bias", false);
  kernels::Activation& activation = moe.expert.activation;
  activation.limit = static_cast<float>(expert.get_float_or("limit", static_cast<double>(activation.limit)));
  activation.slope = static_cast<float>(expert.get_float_or("slope", static_cast<double>(activation.slope)));
  if (json.has("shared")) {
    const JsonConfig shared = json.object("shared");
    check_keys(shared, {"hidden", "gated"});
    moe.shared.hidden = read_size(shared, "hidden");
    moe.shared.gated = shared.get_bool("gated");
  }
  return moe;
}

Json row_json(const LayerConfig& layer) {
  Json json;
  json["attention"] = attention_json(layer.attention);
  if (layer.post_norms) json["post_norms"] = true;
  if (layer.dense) json["dense"] = dense_json(*layer.dense);
  if (layer.moe) json["moe"] = moe_json(*layer.moe);
  return json;
}

LayerConfig read_row(const JsonConfig& json) {
  check_keys(json, {"attention", "post_norms", "dense", "moe"});
  LayerConfig layer;
  layer.post_norms = json.get_bool_or("post_norms", false);
  layer.attention = read_attention(json.object("attention"));
  if (json.has("dense")) layer.dense = read_dense(json.object("dense"));
  if (json.has("moe")) layer.moe = read_moe(json.object("moe"));
  return layer;
}

Json training_row_json(const moe::MoeConfig& moe) {
  Json json;
  json["router"] = keys_json([&](auto& v) { moe::visit_router_training(v, moe.router); });
  json["capacity"] = keys_json([&](auto& v) { moe::visit_capacity(v, moe.capacity); });
  json["balance"] = keys_json([&](auto& v) { moe::visit_balance(v, moe.balance); });
  return json;
}

void read_training_row(const JsonConfig& json, moe::MoeConfig& moe) {
  check_keys(json, {"router", "capacity", "balance"});
  if (json.has("router")) read_keys(json.object("router"), [&](auto& v) { moe::visit_router_training(v, moe.router); });
  read_keys(json.object("capacity"), [&](auto& v) { moe::visit_capacity(v, moe.capacity); });
  read_keys(json.object("balance"), [&](auto& v) { moe::visit_balance(v, moe.balance); });
}

// Gives equal rows one name, "row-0", "row-1" and so on.
class RowNames {
 public:
  std::string name(const Json& row) {
    auto found = std::find(rows_.begin(), rows_.end(), row);
    if (found == rows_.end()) found = rows_.insert(rows_.end(), row);
    return fmt::format("row-{}", found - rows_.begin());
  }
  Json json() const {
    Json named = Json::object();
    for (std::size_t i = 0; i < rows_.size(); ++i) named[fmt::format("row-{}", i)] = rows_[i];
    return named;
  }

 private:
  std::vector<Json> rows_;
};

// Beside the sizes: what most models leave at its default.
template <class V, class Config>
void visit_model(V& v, Config& c) {
  v("norm", c.norm);
  v("norm_bias", c.norm_bias);
  v("output_bias", c.output_bias);
  v("embedding_scale", c.embedding_scale);
  v("residual_scale", c.residual_scale);
  v("logit_scale", c.logit_scale);
}

}  // namespace

Json architecture_json(const ModelConfig& config) {
  RowNames rows;
  Json layers = Json::array();
  for (const LayerConfig& layer : config.layers) layers.push_back(rows.name(row_json(layer)));
  Json json;
  json["vocab_size"] = config.vocab;
  json["hidden_size"] = config.width;
  json["max_position_embeddings"] = config.max_positions;
  json["rms_norm_eps"] = shortest(config.norm_eps);
  json["tie_word_embeddings"] = config.tied_embeddings;
  json.update(keys_json([&](auto& v) { visit_model(v, config); }));
  json["rows"] = rows.json();
  json["layers"] = std::move(layers);
  return json;
}

ModelConfig read_architecture(const JsonConfig& json) {
  ModelConfig config;
  config.vocab = read_size(json, "vocab_size");
  config.width = read_size(json, "hidden_size");
  config.max_positions = read_size(json, "max_position_embeddings");
  config.norm_eps = static_cast<float>(json.get_float("rms_norm_eps"));
  config.tied_embeddings = json.get_bool("tie_word_embeddings");
  KeyReader reader{json, {}};
  visit_model(reader, config);
  const JsonConfig rows = json.object("rows");
  for (const std::string& name : json.get_strings("layers")) config.layers.push_back(read_row(rows.object(name)));
  return config;
}

Json training_json(const ModelConfig& config) {
  const Json defaults = training_row_json(moe::MoeConfig{});
  RowNames rows;
  Json layers = Json::array();
  bool all_default = true;
  for (const LayerConfig& layer : config.layers) {
    const Json row = layer.moe ? training_row_json(*layer.moe) : defaults;
    all_default = all_default && row == defaults;
    layers.push_back(rows.name(row));
  }
  Json json = Json::object();
  if (config.dropout != 0.0F) json["dropout"] = shortest(config.dropout);
  if (!all_default) {
    json["rows"] = rows.json();
    json["layers"] = std::move(layers);
  }
  return json;
}

void read_training(const JsonConfig& json, ModelConfig& config) {
  check_keys(json, {"dropout", "rows", "layers"});
  config.dropout = static_cast<float>(json.get_float_or("dropout", 0.0));
  if (!json.has("layers")) return;
  const JsonConfig rows = json.object("rows");
  const std::vector<std::string> layers = json.get_strings("layers");
  if (layers.size() != config.layers.size()) {
    fail(ErrorKind::kBadInput, "{}: found {} names, expected one for each of {} layers", json.where("layers"),
         layers.size(), config.layers.size());
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (config.layers[i].moe) read_training_row(rows.object(layers[i]), *config.layers[i].moe);
  }
}

}  // namespace switchyard::model
