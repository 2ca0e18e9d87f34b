// Reading and writing single keys.

#include "architecture.hpp"
#include "families/common.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::model {

using formats::GgufArray;
using Json = nlohmann::ordered_json;

GgufContents contents_of(const formats::TensorFiles& files) {
  GgufContents contents;
  contents.metadata = files.gguf();
  contents.find_tensor = [&files](const std::string& name) {
    return files.contains(name) ? &files.info(name).shape : nullptr;
  };
  contents.load_small = [&files](const std::string& name) {
    constexpr Index kMost = 1 << 16;
    const formats::TensorEntry& info = files.info(name);
    if (info.shape.numel() > kMost || dtype_info(info.dtype).is_quantised || !dtype_info(info.dtype).is_float)
      fail(ErrorKind::kBadInput, "{}: tensor {}: found {} of {}, expected at most {} numbers of F32, F16 or BF16",
           files.path_of(name).string(), name, info.shape.to_string(), dtype_info(info.dtype).name, kMost);
    const Tensor values = files.view(name).to_f32();
    return std::vector<double>(values.f32().begin(), values.f32().end());
  };
  return contents;
}

std::optional<Index> GgufReading::find_size(std::string_view name) const {
  const std::string full = key(name);
  const formats::GgufValue* value = metadata().find(full);
  if (value == nullptr || !std::holds_alternative<GgufArray>(*value)) return metadata().find_integer(full);
  const std::vector<Index> of_layers = metadata().integers(full);
  if (of_layers.empty()) metadata().refuse(full, "a number, or one for each layer");
  for (const Index of_layer : of_layers) {
    if (of_layer != of_layers.front())
      fail(ErrorKind::kUnsupported, "{}: key {}: found {} and {}, only one value for all layers is supported",
           metadata().file(), full, of_layers.front(), of_layer);
  }
  return of_layers.front();
}

Index GgufReading::size(std::string_view name) const {
  const auto found = find_size(name);
  return found ? *found : metadata().integer(key(name));
}

// Of a float32 the double that a config.json would have had: 1e-05, not 9.99999975e-06.
std::optional<double> GgufReading::find_number(std::string_view name) const {
  const formats::GgufValue* value = metadata().find(key(name));
  if (value != nullptr && std::holds_alternative<float>(*value)) return shortest(std::get<float>(*value));
  return metadata().find_number(key(name));
}

std::optional<bool> GgufReading::find_flag(std::string_view name) const { return metadata().find_boolean(key(name)); }

std::string GgufReading::find_text(std::string_view name) const {
  const std::string* text = metadata().find_string(key(name));
  return text == nullptr ? std::string() : *text;
}

void GgufReading::set(std::string_view path, Json value) {
  Json* object = &config;
  for (std::size_t dot; (dot = path.find('.')) != std::string_view::npos; path.remove_prefix(dot + 1))
    object = &(*object)[std::string(path.substr(0, dot))];
  (*object)[std::string(path)] = std::move(value);
}

Json GgufWriting::at(std::string_view path) const {
  const Json* object = config_;
  for (;;) {
    const std::size_t dot = path.find('.');
    const auto found = object->find(std::string(path.substr(0, dot)));
    if (found == object->end()) return nullptr;
    if (dot == std::string_view::npos) return *found;
    object = &*found;
    if (!object->is_object()) return nullptr;
    path.remove_prefix(dot + 1);
  }
}

void GgufWriting::size(std::string_view name, Index value) {
  if (value < 0 || value > Index{0xFFFFFFFF})
    fail(ErrorKind::kUnsupported, "{}: {} does not fit into a GGUF key", key(name), value);
  metadata_->set(key(name), static_cast<std::uint32_t>(value));
}

void GgufWriting::number(std::string_view name, double value) { metadata_->set(key(name), static_cast<float>(value)); }

void GgufWriting::flag(std::string_view name, bool value) { metadata_->set(key(name), value); }

void GgufWriting::text(std::string_view name, std::string value) { metadata_->set(key(name), std::move(value)); }

}  // namespace switchyard::model
