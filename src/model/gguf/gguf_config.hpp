#pragma once
// The config of a model in a GGUF file, both ways.

#include <map>
#include <string>
#include <vector>

#include "architecture.hpp"
#include "load_plan.hpp"

namespace switchyard::model {

// Models that no architecture of others expresses: the whole config.json in one key, tensors by their native names.
// Files of the other architectures that are written here have the key too, so that nothing is lost.
inline constexpr std::string_view kOwnArchitecture = "switchyard";
inline constexpr std::string_view kConfigKey = "switchyard.config";

// Reads and validates it. Throws kUnsupported for an architecture that is not known, with a list of those that are, and
// for values that a ModelConfig does not have; kBadInput where a key is missing or wrong. Where the file has a whole
// config.json beside the keys that all programs read, it holds as long as it says what the keys say.
FolderConfig read_gguf_config(const formats::TensorFiles& files);

// What a GGUF file says of a model, but for its name, tokenizer and weights.
struct GgufForm {
  formats::GgufMetadata metadata;
  TensorScheme scheme;
  std::map<std::string, std::vector<float>> tensors;  // stand for keys of config.json
};
// For the architecture that has the model's family. Throws kUnsupported, naming the first value that would not be the
// same for another program, where the keys cannot say all of the config.
GgufForm gguf_form(const FolderConfig& read, const std::vector<ParameterRow>& rows);
// Whether that architecture has names for a layer for multi-token prediction.
bool gguf_holds_prediction(const Family& family);
// The same for our own architecture, which can express every model.
GgufForm own_gguf_form(const FolderConfig& read);

// Where two configs differ in more than what the float32 of a GGUF key rounds: "layer 0: attention.window is 6 and 0".
// Empty where they do not. Fields that only training looks at do not count.
std::string config_difference(const ModelConfig& a, const ModelConfig& b);

}  // namespace switchyard::model
