#pragma once
// What a model folder holds and where each parameter of the model lies in it.

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "families/family.hpp"
#include "families/tensor_names.hpp"
#include "parameter_table.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/formats/tensor_files.hpp"
#include "weight_files.hpp"

namespace switchyard::model {

inline constexpr std::string_view kConfigFile = "config.json";
inline constexpr std::string_view kTrainingKey = "switchyard";  // of config.json: what only training looks at
inline constexpr const char* kPredictionLayersKey = "num_nextn_predict_layers";
inline constexpr const char* kQuantisationKey = "quantization_config";
inline constexpr std::size_t kMaxShardBytes = 5'000'000'000;  // of a folder's files, as transformers 4 cuts them

struct FolderConfig {
  const Family* family = nullptr;
  TensorScheme scheme;  // how the files name the family's tensors
  ModelConfig config;
  ScaleBlock scale_block;
  Index prediction_layers = 0;  // layers after the model's own, for multi-token prediction
  std::string text;             // the config.json, or what stands for it
  bool translated = false;      // the text was made of the keys of a GGUF file
};

// Reads and validates it; without the text.
FolderConfig read_config(const formats::JsonConfig& json);
FolderConfig read_folder_config(const std::filesystem::path& folder);
// Of what find_model_folder() found: a folder, or a GGUF file.
FolderConfig read_model_config(const std::filesystem::path& path);

// Gives the config the first layer for multi-token prediction, so that it belongs to the model. `path` is where both
// come from. kUnsupported naming the key or the tensor that is not there, or the family that has no such layer.
void add_prediction(FolderConfig& read, const formats::TensorFiles& files, const std::filesystem::path& path);
// Whether it would: the files' scheme has names for one, and the files have it.
bool has_prediction_names(const TensorScheme& scheme);
bool has_prediction(const FolderConfig& read, const formats::TensorFiles& files);

// Whether two tensors that are there have the same type, shape and bytes. Neither is kept in memory.
bool same_tensor(const formats::TensorFiles& files, std::string_view a, std::string_view b);

// The places of one parameter in the files.
struct PlannedParameter {
  std::size_t row = 0;
  std::vector<MatrixPlaces> matrices;  // one, or one an expert
};

// Told of every tensor that is missing, unknown, or of a wrong shape or type.
using OnProblem = std::function<void(const Error& error)>;

// Where every element of the model comes from. Everything is checked here, before memory is taken for the model: a
// config that promises more than the file holds must not get as far as asking for it. The first problem is thrown,
// unless on_problem takes them all; a parameter with one is then not in the plan.
std::vector<PlannedParameter> plan_load(const FolderConfig& read, const std::vector<ParameterRow>& rows,
                                        const formats::TensorFiles& files, const WeightFiles& weights,
                                        const OnProblem& on_problem = {});

}  // namespace switchyard::model
