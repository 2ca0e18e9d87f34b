#pragma once
// Our own way to write a ModelConfig as JSON: distinct rows by name, and the name of each layer's row. Complete, so
// that two configs are the same architecture exactly where their JSON is the same. Described in
// docs/formats/checkpoint.md.

#include <nlohmann/json_fwd.hpp>

#include "switchyard/formats/json_config.hpp"
#include "switchyard/model/config.hpp"

namespace switchyard::model {

// Without the fields that only training looks at (dropout, capacity, balance).
nlohmann::ordered_json architecture_json(const ModelConfig& config);
// Unknown keys below "rows" are refused: an option of a later version must not be dropped in silence.
ModelConfig read_architecture(const formats::JsonConfig& json);

// The fields that only training looks at. Empty where all have their defaults.
nlohmann::ordered_json training_json(const ModelConfig& config);
void read_training(const formats::JsonConfig& json, ModelConfig& config);

}  // namespace switchyard::model
