#include "switchyard/model/config_file.hpp"

#include <algorithm>
#include <map>

#include "gguf/gguf_config.hpp"
#include "load_plan.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/model/model_folder.hpp"

namespace switchyard::model {
namespace {

using formats::JsonConfig;

ConfigFile config_file(FolderConfig read, std::string origin) {
  ConfigFile file;
  file.origin = std::move(origin);
  file.family = read.family->model_type;
  file.config = std::move(read.config);
  file.prediction_layers = read.prediction_layers;
  return file;
}

ConfigFile read(const JsonConfig& json) {
  ConfigFile file = config_file(read_config(json), json.origin());
  for (const std::string_view key : {"torch_dtype", "dtype"}) {
    if (json.is_string(key)) file.stored.dtype = json.get_string(key);
  }
  if (json.is_object(kQuantisationKey))
    file.stored.quantisation = json.object(kQuantisationKey).get_string_or("quant_method", "");
  return file;
}

// The type that most bytes are of.
StatedStorage storage_of(const formats::TensorFiles& files) {
  std::map<DType, std::size_t> bytes;
  for (const std::string& name : files.names()) bytes[files.info(name).dtype] += files.info(name).bytes;
  const auto most =
      std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  StatedStorage stored;
  if (most == bytes.end()) return stored;
  switch (most->first) {
    case DType::kF32:
      stored.dtype = "float32";
      break;
    case DType::kF16:
      stored.dtype = "float16";
      break;
    case DType::kBF16:
      stored.dtype = "bfloat16";
      break;
    default:
      for (const char c : dtype_info(most->first).name)
        stored.quantisation += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return stored;
}

ConfigFile read_gguf(const std::filesystem::path& path) {
  const auto files = formats::TensorFiles::open(path);
  ConfigFile file = config_file(read_gguf_config(files), path.string());
  file.stored = storage_of(files);
  return file;
}

}  // namespace

ConfigFile read_config_file(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) fail(ErrorKind::kNotFound, "{}: no such file or folder", path.string());
  if (is_gguf_file(path)) return read_gguf(path);
  if (std::filesystem::is_directory(path)) return read(JsonConfig::load(find_model_folder(path) / kConfigFile));
  return read(JsonConfig::load(path));
}

ConfigFile parse_config(std::string_view text, std::string origin) {
  return read(JsonConfig::parse(text, std::move(origin)));
}

}  // namespace switchyard::model
