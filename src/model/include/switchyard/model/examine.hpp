#pragma once
// Everything that can be said about a model folder without running it: what is missing, too much, of the wrong shape or
// type, not a number; and how the engine will route, and why.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "switchyard/model/describe.hpp"

namespace switchyard::model {

enum class Level {
  kFine,
  kNote,     // works, but is worth knowing
  kProblem,  // the model cannot be used, or would compute something else than it should
};

struct Finding {
  Level level = Level::kFine;
  std::string check;  // "config", "tensors", "values", "tokenizer"
  std::string text;
};

// A step of the router and what decides it: keys of config.json whose change would change it. Empty: the architecture
// always does so.
struct RouterReason {
  RouterStep step;
  std::vector<std::string> keys;
};

struct Examination {
  std::string model_type;             // empty where the config cannot be read
  std::vector<Finding> findings;      // in the order of the checks
  std::vector<RouterReason> routing;  // of the first MoE layer
  std::size_t problems() const;
};

struct ExamineOptions {
  bool values = true;                                                           // look at every number of every tensor
  std::function<void(std::uint64_t bytes_done, std::uint64_t bytes)> progress;  // of the values; may be empty
};

// Of a folder or a GGUF file. Throws kNotFound where there is neither; what is wrong with it becomes a finding.
Examination examine(const std::filesystem::path& folder, const ExamineOptions& options = {});

}  // namespace switchyard::model
