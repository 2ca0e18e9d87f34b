#include "common.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

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

double positive(const JsonConfig& json, std::string_view key) {
  const double value = json.get_float(key);
  if (!(value > 0.0)) fail(ErrorKind::kBadInput, "{}: found {}, expected a number above 0", json.where(key), value);
  return value;
}
double positive_or(const JsonConfig& json, std::string_view key, double otherwise) {
  return json.has(key) ? positive(json, key) : otherwise;
}

std::vector<double> read_factors(const JsonConfig& rope, std::string_view key, Index pairs) {
  const std::vector<double> factors = rope.get_floats(key);
  if (static_cast<Index>(factors.size()) != pairs)
    fail(ErrorKind::kBadInput, "{}: found {} numbers, expected one for each of {} pairs of a head", rope.where(key),
         factors.size(), pairs);
  for (const double factor : factors)
    if (!(factor > 0.0)) fail(ErrorKind::kBadInput, "{}: found {}, expected numbers above 0", rope.where(key), factor);
  return factors;
}

// `rope` is rope_scaling of transformers 4 or rope_parameters of 5.
void read_scaling(const JsonConfig& json, const JsonConfig& rope, Index rotary_dim, Index max_positions, Rope& result) {
  for (const std::string& key : rope.keys()) {
    if (rope.is_object(key)) {
      fail(ErrorKind::kUnsupported, "{}: found an object, only one set of values for all layers is supported",
           rope.where(key));
    }
  }
  const std::string_view kind_key = rope.has("rope_type") ? "rope_type" : "type";
  const std::string kind = rope.get_string_or(kind_key, "default");
  kernels::RopeScaling& s = result.scaling;
  const std::string_view original = "original_max_position_embeddings";
  const auto original_positions = [&] {
    if (rope.has(original)) return positive(rope, original);
    return positive_or(json, original, static_cast<double>(max_positions));
  };
  if (kind == "default") return;
  if (kind == "linear") {
    s.kind = "linear";
    s.factor = positive(rope, "factor");
  } else if (kind == "yarn") {
    s.kind = "yarn";
    s.factor = positive(rope, "factor");
    s.original_positions = original_positions();
    s.beta_fast = positive_or(rope, "beta_fast", 32.0);
    s.beta_slow = positive_or(rope, "beta_slow", 1.0);
    s.truncate = rope.get_bool_or("truncate", true);
    const double mscale = rope.get_float_or("mscale", 0.0);
    result.mscale_all_dim = rope.get_float_or("mscale_all_dim", 0.0);
    s.magnitude = yarn_mscale(s.factor, 1.0);
    if (mscale != 0.0 && result.mscale_all_dim != 0.0)
      s.magnitude = yarn_mscale(s.factor, mscale) / yarn_mscale(s.factor, result.mscale_all_dim);
    s.magnitude = positive_or(rope, "attention_factor", s.magnitude);
  } else if (kind == "llama3") {
    s.kind = "llama3";
    s.factor = positive(rope, "factor");
    s.original_positions = original_positions();
    s.low_frequency_factor = positive(rope, "low_freq_factor");
    s.high_frequency_factor = positive(rope, "high_freq_factor");
  } else if (kind == "longrope" || kind == "su") {
    s.kind = "longrope";
    s.original_positions = original_positions();
    s.short_factors = read_factors(rope, "short_factor", rotary_dim / 2);
    s.long_factors = read_factors(rope, "long_factor", rotary_dim / 2);
    const double stretch = positive_or(rope, "factor", static_cast<double>(max_positions) / s.original_positions);
    const double general = stretch <= 1.0 ? 1.0 : std::sqrt(1.0 + std::log(stretch) / std::log(s.original_positions));
    s.magnitude = s.long_magnitude = positive_or(rope, "attention_factor", general);
    s.magnitude = positive_or(rope, "short_mscale", s.magnitude);
    s.long_magnitude = positive_or(rope, "long_mscale", s.long_magnitude);
  } else {
    fail(ErrorKind::kUnsupported, "{}: found {}, supported are default, linear, yarn, llama3 and longrope",
         rope.where(kind_key), kind);
  }
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

double yarn_mscale(double factor, double k) { return factor <= 1.0 ? 1.0 : 0.1 * k * std::log(factor) + 1.0; }

Rope read_rope(const JsonConfig& json, const DecoderDefaults& defaults, Index head_dim, Index max_positions) {
  Rope result;
  result.theta = positive_or(json, "rope_theta", defaults.rope_theta);
  double partial = json.get_float_or("partial_rotary_factor", defaults.partial_rotary_factor);
  std::string where = json.where("partial_rotary_factor");
  std::optional<JsonConfig> scaling;
  for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
    if (!json.has(key)) continue;
    scaling = json.object(key);
    result.theta = positive_or(*scaling, "rope_theta", result.theta);
    if (scaling->has("partial_rotary_factor")) {
      partial = scaling->get_float("partial_rotary_factor");
      where = scaling->where("partial_rotary_factor");
    }
  }
  if (!(partial > 0.0 && partial <= 1.0))
    fail(ErrorKind::kBadInput, "{}: found {}, expected a number above 0, at most 1", where, partial);
  const auto rotary_dim = static_cast<Index>(static_cast<double>(head_dim) * partial);
  if (rotary_dim < 2 || rotary_dim % 2 != 0)
    fail(ErrorKind::kUnsupported, "{}: found {}, which turns {} elements of a head, expected an even number", where,
         partial, rotary_dim);
  result.rotary_dim = rotary_dim == head_dim ? 0 : rotary_dim;
  if (scaling) read_scaling(json, *scaling, rotary_dim, max_positions, result);
  return result;
}

void set_rope(const Rope& rope, AttentionConfig& attention) {
  attention.rope_theta = rope.theta;
  attention.rotary_dim = rope.rotary_dim;
  attention.rope_scaling = rope.scaling;
}

void add_rope(const ModelConfig& config, nlohmann::ordered_json& json) {
  const AttentionConfig attention = first_attention(config);
  json["rope_theta"] = attention.rope_theta;
  if (attention.rotary_dim != 0)
    json["partial_rotary_factor"] = static_cast<double>(attention.rotary_dim) / static_cast<double>(attention.head_dim);
  const kernels::RopeScaling& s = attention.rope_scaling;
  if (s.kind == "none") return;
  nlohmann::ordered_json rope;
  rope["rope_type"] = s.kind;
  if (s.kind != "longrope") rope["factor"] = s.factor;
  if (s.kind != "linear") rope["original_max_position_embeddings"] = s.original_positions;
  if (s.kind == "yarn") {
    rope["beta_fast"] = s.beta_fast;
    rope["beta_slow"] = s.beta_slow;
    rope["truncate"] = s.truncate;
    rope["attention_factor"] = s.magnitude;
  } else if (s.kind == "llama3") {
    rope["low_freq_factor"] = s.low_frequency_factor;
    rope["high_freq_factor"] = s.high_frequency_factor;
  } else if (s.kind == "longrope") {
    rope["short_factor"] = s.short_factors;
    rope["long_factor"] = s.long_factors;
    rope["short_mscale"] = s.magnitude;
    rope["long_mscale"] = s.long_magnitude;
  }
  json["rope_scaling"] = std::move(rope);
}

void check_quantisation(const JsonConfig& json) {
  if (!json.has("quantization_config")) return;
  const JsonConfig quantisation = json.object("quantization_config");
  const std::string method = quantisation.get_string("quant_method");
  if (method != "fp8" && method != "mxfp4")
    fail(ErrorKind::kUnsupported, "{}: found {}, supported are fp8 and mxfp4", quantisation.where("quant_method"),
         method);
}

void read_windows(const JsonConfig& json, const DecoderDefaults& defaults, ModelConfig& config) {
  Index window = 0;
  const bool on = defaults.window_switch.empty() || json.get_bool_or(defaults.window_switch, false);
  if (on && json.has("sliding_window")) window = read_size(json, "sliding_window");
  const std::size_t layers = config.layers.size();
  std::vector<bool> slides(layers, defaults.windowed == Windowed::kEverywhere);
  if (defaults.windowed != Windowed::kEverywhere && json.has("layer_types")) {
    const std::vector<std::string> types = json.get_strings("layer_types");
    if (types.size() != layers)
      fail(ErrorKind::kBadInput, "{}: found {} names, expected one for each of {} layers", json.where("layer_types"),
           types.size(), layers);
    for (std::size_t i = 0; i < layers; ++i) {
      if (types[i] != "full_attention" && types[i] != "sliding_attention")
        fail(ErrorKind::kUnsupported, "{}: found {}, only full_attention and sliding_attention are supported",
             json.where("layer_types"), types[i]);
      slides[i] = types[i] == "sliding_attention";
      if (slides[i] && window == 0)
        fail(ErrorKind::kBadInput, "{}: layer {} is sliding_attention, but there is no sliding_window",
             json.where("layer_types"), i);
    }
  } else if (window != 0 && defaults.windowed != Windowed::kEverywhere && defaults.windowed != Windowed::kNone) {
    const bool bounded = defaults.windowed != Windowed::kEven;
    const auto border = bounded ? static_cast<std::size_t>(read_count_or(json, "max_window_layers", 28)) : layers;
    for (std::size_t i = 0; i < layers; ++i)
      slides[i] = defaults.windowed == Windowed::kFromMax ? i >= border : i % 2 == 0 && i < border;
  }
  for (std::size_t i = 0; i < layers; ++i)
    config.layers[i].attention.window = slides[i] && window < config.max_positions ? window : 0;
}

ModelConfig read_sizes(const JsonConfig& json) {
  check_quantisation(json);
  ModelConfig config;
  config.vocab = read_size(json, "vocab_size");
  config.width = read_size(json, "hidden_size");
  config.max_positions = read_size(json, "max_position_embeddings");
  config.norm_eps = static_cast<float>(json.get_float("rms_norm_eps"));
  config.tied_embeddings = json.get_bool_or("tie_word_embeddings", false);
  return config;
}

ModelConfig read_decoder(const JsonConfig& json, const DecoderDefaults& defaults) {
  expect_string(json, "hidden_act", "silu");
  ModelConfig config = read_sizes(json);
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
  set_rope(read_rope(json, defaults, attention.head_dim, config.max_positions), attention);
  config.layers.assign(read_layers(json), layer);
  read_windows(json, defaults, config);
  return config;
}

nlohmann::ordered_json decoder_json(const ModelConfig& config) {
  const AttentionConfig attention = first_attention(config);
  nlohmann::ordered_json json;
  json["vocab_size"] = config.vocab;
  json["hidden_size"] = config.width;
  json["num_hidden_layers"] = config.layers.size();
  json["num_attention_heads"] = attention.heads;
  json["num_key_value_heads"] = attention.kv_heads;
  json["head_dim"] = attention.head_dim;
  json["max_position_embeddings"] = config.max_positions;
  json["rms_norm_eps"] = shortest(config.norm_eps);
  add_rope(config, json);
  json["hidden_act"] = "silu";
  json["tie_word_embeddings"] = config.tied_embeddings;
  return json;
}

void add_windows(const ModelConfig& config, nlohmann::ordered_json& json) {
  Index window = 0;
  nlohmann::ordered_json types = nlohmann::ordered_json::array();
  for (const LayerConfig& layer : config.layers) {
    window = std::max(window, layer.attention.window);
    types.push_back(layer.attention.window == 0 ? "full_attention" : "sliding_attention");
  }
  if (window == 0) {
    json["sliding_window"] = nullptr;
  } else {
    json["sliding_window"] = window;
    json["layer_types"] = std::move(types);
  }
}

AttentionConfig first_attention(const ModelConfig& config) {
  return config.layers.empty() ? AttentionConfig{} : config.layers.front().attention;
}

std::size_t read_layers(const JsonConfig& json, std::string_view key) {
  return static_cast<std::size_t>(read_between(json, key, 1, kMaxLayers));
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

moe::MoeConfig experts_of(const ModelConfig& config) {
  const moe::MoeConfig* first = first_moe(config);
  return first == nullptr ? moe::MoeConfig{} : *first;
}

moe::MoeConfig read_experts(const JsonConfig& json) {
  moe::MoeConfig moe;
  moe.router.experts = read_size(json, json.first_of({"num_local_experts", "num_experts"}));
  moe.router.top_k = read_size(json, "num_experts_per_tok");
  moe.expert.hidden = read_size(json, "intermediate_size");
  return moe;
}

void add_experts(const ModelConfig& config, const char* count_key, nlohmann::ordered_json& json) {
  const moe::MoeConfig moe = experts_of(config);
  json["intermediate_size"] = moe.expert.hidden;
  json[count_key] = moe.router.experts;
  json["num_experts_per_tok"] = moe.router.top_k;
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
