#include "switchyard/model/config_file.hpp"

#include "load_plan.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/model/model_folder.hpp"

namespace switchyard::model {
namespace {

using formats::JsonConfig;

ConfigFile read(const JsonConfig& json) {
  FolderConfig read = read_config(json);
  ConfigFile file;
  file.origin = json.origin();
  file.family = read.family->model_type;
  file.config = std::move(read.config);
  file.prediction_layers = read.prediction_layers;
  for (const std::string_view key : {"torch_dtype", "dtype"}) {
    if (json.is_string(key)) file.stored.dtype = json.get_string(key);
  }
  if (json.is_object("quantization_config"))
    file.stored.quantisation = json.object("quantization_config").get_string_or("quant_method", "");
  return file;
}

}  // namespace

ConfigFile read_config_file(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) fail(ErrorKind::kNotFound, "{}: no such file or folder", path.string());
  if (std::filesystem::is_directory(path)) return read(JsonConfig::load(find_model_folder(path) / kConfigFile));
  return read(JsonConfig::load(path));
}

ConfigFile parse_config(std::string_view text, std::string origin) {
  return read(JsonConfig::parse(text, std::move(origin)));
}

}  // namespace switchyard::model
