#pragma once
// Finding the model in what a user names.

#include <filesystem>
#include <vector>

namespace switchyard::model {

// Marks a whole training checkpoint among a run's folders (train/trainer.hpp).
inline constexpr const char* kTrainingStateFile = "training.json";

// Checkpoints of a run folder, checkpoints/step-*, in ascending order of step; only whole ones.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& run);

// Whether the path is a GGUF file: by its name, or by its first bytes.
bool is_gguf_file(const std::filesystem::path& path);

// A folder with a config.json is a model, and so is a GGUF file; a run folder stands for its last checkpoint. Throws
// kNotFound saying what was looked for.
std::filesystem::path find_model_folder(const std::filesystem::path& path);

}  // namespace switchyard::model
