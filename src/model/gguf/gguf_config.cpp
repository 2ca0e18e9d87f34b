#include "gguf_config.hpp"

#include <algorithm>
#include <cmath>

#include "families/native_schema.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

using formats::GgufMetadata;
using formats::JsonConfig;
using Json = nlohmann::ordered_json;

constexpr const char* kArchitectureKey = "general.architecture";
constexpr const char* kEmbedding = "token_embd.weight";
constexpr const char* kOutput = "output.weight";

const GgufArchitecture& architecture_of(const GgufContents& contents) {
  const std::string& name = contents.metadata->string(kArchitectureKey);
  std::string known;
  std::string_view last;
  for (const GgufArchitecture& architecture : gguf_architectures()) {
    if (architecture.name == name && architecture.matches(GgufReading(contents, name))) return architecture;
    if (architecture.name == last) continue;
    last = architecture.name;
    known += fmt::format("{}, ", last);
  }
  fail(ErrorKind::kUnsupported, "{}: key {}: found {}, supported are {}{}", contents.metadata->file(), kArchitectureKey,
       name, known, kOwnArchitecture);
}

Index vocabulary_of(const GgufReading& reading) {
  if (const auto size = reading.find_size("vocab_size")) return *size;
  const Shape* embedding = reading.file().find_tensor(kEmbedding);
  if (embedding == nullptr || embedding->rank() != 2)
    fail(ErrorKind::kBadInput, "{}: tensor {} is missing or no matrix; it tells the size of the vocabulary",
         reading.metadata().file(), kEmbedding);
  return (*embedding)[0];
}

void read_key(const GgufKey& key, GgufReading& reading) {
  Json value;
  switch (key.type) {
    case GgufKey::Type::kSize:
      if (const auto found = reading.find_size(key.name)) value = *found;
      break;
    case GgufKey::Type::kNumber:
      if (const auto found = reading.find_number(key.name)) value = *found;
      break;
    case GgufKey::Type::kFlag:
      if (const auto found = reading.find_flag(key.name)) value = *found;
      break;
  }
  if (!value.is_null()) return reading.set(key.config, std::move(value));
  if (key.required)
    reading.metadata().refuse(reading.key(key.name), key.type == GgufKey::Type::kSize ? "an integer" : "a number");
}

// Rows of a head take turns only as a whole.
void check_paired_rows(const GgufReading& reading, const GgufArchitecture& architecture, const ModelConfig& config) {
  const bool paired = std::any_of(architecture.tensors.begin(), architecture.tensors.end(),
                                  [](const TensorRule& rule) { return rule.layout == Layout::kPairedRows; });
  for (const LayerConfig& layer : config.layers) {
    if (paired && rotary_elements(layer.attention) != layer.attention.head_dim)
      fail(ErrorKind::kUnsupported, "{}: key {}: found {}, expected the {} elements of a head",
           reading.metadata().file(), reading.key("rope.dimension_count"), rotary_elements(layer.attention),
           layer.attention.head_dim);
  }
}

FolderConfig translated(const GgufContents& contents, const GgufArchitecture& architecture) {
  GgufReading reading(contents, architecture.name);
  reading.config["architectures"] = {architecture.family->architecture};
  reading.config["model_type"] = architecture.family->model_type;
  for (const GgufKey& key : architecture.keys) read_key(key, reading);
  reading.config["vocab_size"] = vocabulary_of(reading);
  reading.config["tie_word_embeddings"] = !contents.has(kOutput);
  architecture.read(reading);
  const std::string text = reading.config.dump();
  FolderConfig read = read_config(JsonConfig::parse(text, contents.metadata->file() + ": metadata as config.json"));
  check_paired_rows(reading, architecture, read.config);
  read.text = text;
  read.translated = true;
  read.scheme = scheme_of(architecture);
  return read;
}

FolderConfig embedded(const GgufMetadata& metadata) {
  const std::string& text = metadata.string(kConfigKey);
  FolderConfig read = read_config(JsonConfig::parse(text, fmt::format("{}: key {}", metadata.file(), kConfigKey)));
  read.text = text;
  return read;
}

bool same_number(double a, double b) {
  constexpr double kRounding = 1e-6;  // some units of float32's last place
  return a == b || std::abs(a - b) <= kRounding * std::max(std::abs(a), std::abs(b));
}

// The path of the first difference, with both values; empty where there is none.
std::string difference(const Json& a, const Json& b, const std::string& path) {
  if (a.is_number() && b.is_number()) {
    if (same_number(a.get<double>(), b.get<double>())) return {};
  } else if (a.is_object() && b.is_object()) {
    const std::string prefix = path.empty() ? "" : path + ".";
    for (const auto& [key, value] : a.items()) {
      const auto other = b.find(key);
      if (std::string found = difference(value, other == b.end() ? Json() : *other, prefix + key); !found.empty())
        return found;
    }
    for (const auto& [key, value] : b.items()) {
      if (!a.contains(key)) return difference(Json(), value, prefix + key);
    }
    return {};
  } else if (a.is_array() && b.is_array() && a.size() == b.size()) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (std::string found = difference(a[i], b[i], fmt::format("{}[{}]", path, i)); !found.empty()) return found;
    }
    return {};
  } else if (a == b) {
    return {};
  }
  const auto shown = [](const Json& value) {
    const std::string text = value.is_null() ? "not there" : value.dump();
    constexpr std::size_t kMost = 60;
    return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
  };
  return fmt::format("{} is {} and {}", path, shown(a), shown(b));
}

// Scalings of RoPE that a file can only hold as divisors, as those.
ModelConfig with_divisors(ModelConfig config) {
  for (LayerConfig& layer : config.layers) {
    AttentionConfig& attention = layer.attention;
    kernels::RopeScaling& scaling = attention.rope_scaling;
    if (scaling.kind == "llama3") {
      kernels::RopeScaling divided;
      divided.short_factors = llama3_divisors(rotary_elements(attention), attention.rope_theta, scaling);
      divided.long_factors = divided.short_factors;
      divided.kind = "longrope";
      scaling = divided;
    }
    // Where the tables are the same it does not matter where one takes over from the other.
    if (scaling.kind == "longrope" && scaling.short_factors == scaling.long_factors &&
        scaling.magnitude == scaling.long_magnitude)
      scaling.original_positions = 0.0;
  }
  return config;
}

// Null where there is none.
const GgufArchitecture* architecture_for(const Family& family) {
  const auto all = gguf_architectures();
  const auto found = std::find_if(
      all.begin(), all.end(), [&](const GgufArchitecture& one) { return one.family->model_type == family.model_type; });
  return found == all.end() ? nullptr : &*found;
}

}  // namespace

std::string config_difference(const ModelConfig& a, const ModelConfig& b) {
  Json first = architecture_json(with_divisors(a)), second = architecture_json(with_divisors(b));
  const Json rows = first["rows"], layers = first["layers"];
  const Json other_rows = second["rows"], other_layers = second["layers"];
  for (Json* json : {&first, &second}) {
    json->erase("rows");
    json->erase("layers");
  }
  if (std::string found = difference(first, second, ""); !found.empty()) return found;
  if (layers.size() != other_layers.size())
    return fmt::format("the number of layers is {} and {}", layers.size(), other_layers.size());
  for (std::size_t i = 0; i < layers.size(); ++i) {
    std::string found = difference(rows.at(layers[i].get<std::string>()),
                                   other_rows.at(other_layers[i].get<std::string>()), fmt::format("layer {}: ", i));
    if (found.empty()) continue;
    const std::size_t dot = found.find(": .");
    return dot == std::string::npos ? found : found.erase(dot + 2, 1);
  }
  return {};
}

FolderConfig read_gguf_config(const formats::TensorFiles& files) {
  const GgufContents contents = contents_of(files);
  const GgufMetadata& metadata = *contents.metadata;
  if (const std::string* name = metadata.find_string(kArchitectureKey); name != nullptr && *name == kOwnArchitecture) {
    FolderConfig read = embedded(metadata);
    read.scheme = {};
    return read;
  }
  FolderConfig read = translated(contents, architecture_of(contents));
  if (!metadata.contains(kConfigKey)) return read;
  FolderConfig whole = embedded(metadata);
  if (!config_difference(whole.config, read.config).empty()) return read;
  whole.scheme = read.scheme;
  return whole;
}

GgufForm gguf_form(const FolderConfig& read, const std::vector<ParameterRow>& rows) {
  const Family& family = *read.family;
  const GgufArchitecture* found = architecture_for(family);
  if (found == nullptr)
    fail(ErrorKind::kUnsupported, "model_type: {} has no architecture in GGUF that other programs know",
         family.model_type);
  GgufForm form;
  form.metadata.set(kArchitectureKey, std::string(found->name));
  const Json config = family.write_config(read.config);
  GgufWriting writing(config, found->name, form.metadata);
  for (const GgufKey& key : found->keys) {
    const Json value = writing.at(key.config);
    if (value.is_null()) continue;
    if (key.type == GgufKey::Type::kSize) writing.size(key.name, value.get<Index>());
    if (key.type == GgufKey::Type::kNumber) writing.number(key.name, value.get<double>());
    if (key.type == GgufKey::Type::kFlag) writing.flag(key.name, value.get<bool>());
  }
  writing.size("vocab_size", read.config.vocab);
  found->write(writing);
  form.tensors = std::move(writing.tensors);
  form.scheme = scheme_of(*found);

  // Read again, as any program would, without the whole config.json.
  std::map<std::string, Shape> shapes;
  const TensorNames names(form.scheme, rows);
  for (const ParameterRow& row : rows) {
    const TensorRule* rule = names.rule_to_write(row);
    if (rule == nullptr)
      fail(ErrorKind::kUnsupported, "GGUF architecture {} has no name for {}, which the model has", found->name,
           row.name);
    for (const MatrixPlaces& places : names.places(*rule, row))
      for (const TensorPlace& place : places) shapes.emplace(place.name, place.shape);
  }
  for (const auto& [name, numbers] : form.tensors) shapes.emplace(name, Shape({static_cast<Index>(numbers.size())}));
  GgufContents contents;
  contents.metadata = &form.metadata;
  contents.find_tensor = [&](const std::string& name) {
    const auto at = shapes.find(name);
    return at == shapes.end() ? nullptr : &at->second;
  };
  contents.load_small = [&](const std::string& name) {
    const std::vector<float>& numbers = form.tensors.at(name);
    return std::vector<double>(numbers.begin(), numbers.end());
  };
  const FolderConfig again = translated(contents, *found);
  if (const std::string differs = config_difference(read.config, again.config); !differs.empty())
    fail(ErrorKind::kUnsupported, "GGUF architecture {} cannot say all of the config: {} after reading it back",
         found->name, differs);
  return form;
}

bool gguf_holds_prediction(const Family& family) {
  const GgufArchitecture* found = architecture_for(family);
  return found != nullptr && has_prediction_names(scheme_of(*found));
}

GgufForm own_gguf_form(const FolderConfig& read) {
  GgufForm form;
  form.metadata.set(kArchitectureKey, std::string(kOwnArchitecture));
  form.metadata.set(kConfigKey, read.text);
  return form;
}

}  // namespace switchyard::model
