#include "common.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>

#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

using formats::JsonConfig;

constexpr Index kMaxSize = std::numeric_limits<std::int32_t>::max();
constexpr Index kMaxLayers = 65536;  // a row is made for each before any tensor is looked at

Index read_between(const JsonConfig& json, std::string_view key, Index least, Index most) {
  const Index value = json.get_int(key);
  if (value < least || value > most) {
    fail(ErrorKind::kBadInput, "{}: found {}, expected {} to {}", json.where(key), value, least, most);
  }
  return value;
}

template <class T>
void expect(const JsonConfig& json, std::string_view key, const T& found, const T& expected) {
  if (found != expected) {
    fail(ErrorKind::kUnsupported, "{}: found {}, only {} is supported", json.where(key), found, expected);
  }
}

// `rope` is rope_scaling of transformers 4 or rope_parameters of 5.
void check_rope_kind(const JsonConfig& rope) {
  for (const std::string& key : rope.keys()) {
    if (rope.is_object(key)) {
      fail(ErrorKind::kUnsupported, "{}: found an object, only one set of values for all layers is supported",
           rope.where(key));
    }
  }
  expect_string(rope, rope.has("rope_type") ? "rope_type" : "type", "default");
}

double read_rope_theta(const JsonConfig& json, const DecoderDefaults& defaults) {
  double theta = json.get_float_or("rope_theta", defaults.rope_theta);
  double partial = json.get_float_or("partial_rotary_factor", defaults.partial_rotary_factor);
  std::string where = json.where("partial_rotary_factor");
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    if (!json.has(key)) continue;
    const JsonConfig rope = json.object(key);
    check_rope_kind(rope);
    theta = rope.get_float_or("rope_theta", theta);
    if (rope.has("partial_rotary_factor")) {
      partial = rope.get_float("partial_rotary_factor");
      where = rope.where("partial_rotary_factor");
    }
  }
  if (partial != 1.0) fail(ErrorKind::kUnsupported, "{}: found {}, only 1 is supported", where, partial);
  return theta;
}

}  // namespace

Index read_size(const JsonConfig& json, std::string_view key) { return read_between(json, key, 1, kMaxSize); }

Index read_count_or(const JsonConfig& json, std::string_view key, Index otherwise) {
  return json.has(key) ? read_between(json, key, 0, kMaxSize) : otherwise;
}

void expect_int(const JsonConfig& json, std::string_view key, Index expected) {
  expect(json, key, json.get_int_or(key, expected), expected);
}

void expect_float(const JsonConfig& json, std::string_view key, double expected) {
  expect(json, key, json.get_float_or(key, expected), expected);
}

void expect_bool(const JsonConfig& json, std::string_view key, bool expected) {
  expect(json, key, json.get_bool_or(key, expected), expected);
}

void expect_string(const JsonConfig& json, std::string_view key, std::string_view expected) {
  expect(json, key, json.get_string_or(key, std::string(expected)), std::string(expected));
}

ModelConfig read_decoder(const JsonConfig& json, const DecoderDefaults& defaults) {
  if (json.has("quantization_config")) {
    fail(ErrorKind::kUnsupported, "{}: quantised weights are not supported", json.where("quantization_config"));
  }
  expect_string(json, "hidden_act", "silu");

  ModelConfig config;
  config.vocab = read_size(json, "vocab_size");
  config.width = read_size(json, "hidden_size");
  config.max_positions = read_size(json, "max_position_embeddings");
  config.norm_eps = static_cast<float>(json.get_float("rms_norm_eps"));
  config.tied_embeddings = json.get_bool_or("tie_word_embeddings", false);

  const bool windowed = defaults.window_switch.empty() || json.get_bool_or(defaults.window_switch, false);
  if (windowed && json.has("sliding_window") && json.get_int("sliding_window") < config.max_positions) {
    fail(ErrorKind::kUnsupported, "{}: found {}, only a window of at least max_position_embeddings ({}) is supported",
         json.where("sliding_window"), json.get_int("sliding_window"), config.max_positions);
  }

  if (json.has("layer_types")) {
    for (const std::string& type : json.get_strings("layer_types")) {
      if (type != "full_attention") {
        fail(ErrorKind::kUnsupported, "{}: found {}, only full_attention is supported", json.where("layer_types"),
             type);
      }
    }
  }

  LayerConfig layer;
  AttentionConfig& attention = layer.attention;
  attention.heads = read_size(json, "num_attention_heads");
  attention.kv_heads = defaults.kv_heads_optional && !json.has("num_key_value_heads")
                           ? attention.heads
                           : read_size(json, "num_key_value_heads");
  if (json.has("head_dim")) {
    attention.head_dim = read_size(json, "head_dim");
  } else if (config.width % attention.heads == 0) {
    attention.head_dim = config.width / attention.heads;
  } else {
    fail(ErrorKind::kBadInput, "{}: found {}, expected a multiple of num_attention_heads ({}) as there is no head_dim",
         json.where("hidden_size"), config.width, attention.heads);
  }
  attention.rope_theta = read_rope_theta(json, defaults);
  config.layers.assign(static_cast<std::size_t>(read_between(json, "num_hidden_layers", 1, kMaxLayers)), layer);
  return config;
}

nlohmann::ordered_json decoder_json(const ModelConfig& config) {
  const AttentionConfig attention = config.layers.empty() ? AttentionConfig{} : config.layers.front().attention;
  nlohmann::ordered_json json;
  json["vocab_size"] = config.vocab;
  json["hidden_size"] = config.width;
  json["num_hidden_layers"] = config.layers.size();
  json["num_attention_heads"] = attention.heads;
  json["num_key_value_heads"] = attention.kv_heads;
  json["head_dim"] = attention.head_dim;
  json["max_position_embeddings"] = config.max_positions;
  json["rms_norm_eps"] = shortest(config.norm_eps);
  json["rope_theta"] = attention.rope_theta;
  json["hidden_act"] = "silu";
  json["tie_word_embeddings"] = config.tied_embeddings;
  return json;
}

double shortest(float value) {
  char text[32];
  const auto written = std::to_chars(std::begin(text), std::end(text), value);
  double result = 0.0;
  std::from_chars(std::begin(text), written.ptr, result);
  return result;
}

const DenseFfnConfig* first_dense(const ModelConfig& config) {
  for (const LayerConfig& layer : config.layers) {
    if (layer.dense) return &*layer.dense;
  }
  return nullptr;
}

const moe::MoeConfig* first_moe(const ModelConfig& config) {
  for (const LayerConfig& layer : config.layers) {
    if (layer.moe) return &*layer.moe;
  }
  return nullptr;
}

std::vector<Index> dense_layers(const ModelConfig& config) {
  std::vector<Index> layers;
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    if (config.layers[i].dense) layers.push_back(static_cast<Index>(i));
  }
  return layers;
}

Index leading_dense_layers(const ModelConfig& config) {
  const auto first = std::find_if(config.layers.begin(), config.layers.end(),
                                  [](const LayerConfig& layer) { return layer.moe.has_value(); });
  return first - config.layers.begin();
}

Index dense_hidden(const ModelConfig& config) {
  if (const DenseFfnConfig* dense = first_dense(config)) return dense->hidden;
  const moe::MoeConfig* moe = first_moe(config);
  return moe == nullptr ? 0 : moe->router.top_k * moe->expert.hidden;
}

}  // namespace switchyard::model
