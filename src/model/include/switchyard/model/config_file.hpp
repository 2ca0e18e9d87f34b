#pragma once
// A published config.json: the architecture that it describes, and what it says of the weights beside it. Nothing of
// the weights is read.

#include <filesystem>
#include <string>
#include <string_view>

#include "switchyard/model/config.hpp"

namespace switchyard::model {

// How the checkpoint says that it holds its weights. "" where it does not say.
struct StatedStorage {
  std::string dtype;         // "bfloat16": torch_dtype of transformers 4, dtype of 5
  std::string quantisation;  // quantization_config.quant_method: "fp8", "mxfp4"; of a GGUF file "q4_k"
};

struct ConfigFile {
  std::string origin;  // the file, or what parse_config() was told
  std::string family;  // model_type
  ModelConfig config;  // valid
  StatedStorage stored;
  Index prediction_layers = 0;  // layers of multi-token prediction behind the model's own, which `config` leaves out
};

// `path` is a model folder, a run folder (its last checkpoint counts), a GGUF file or the file itself under any name.
// Throws as
// load_model() does for the config: kNotFound, kBadInput or kUnsupported naming file and key, an unknown architecture
// with the known ones.
ConfigFile read_config_file(const std::filesystem::path& path);
// The text of one; `origin` stands for the file in messages.
ConfigFile parse_config(std::string_view text, std::string origin);

}  // namespace switchyard::model
