#include "run_folder.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <sstream>

#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/formats/json_config.hpp"
#include "switchyard/formats/safetensors.hpp"
#include "switchyard/model/checkpoint.hpp"
#include "switchyard/model/model_folder.hpp"

namespace switchyard::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRecipeFile = "recipe.toml";
constexpr const char* kMomentsFile = "optimizer.safetensors";

// Keys that may change from one part of a run to the next: they do not touch what a step computes, or (steps) only
// the schedule from now on.
constexpr std::array<std::string_view, 7> kFreeKeys = {
    "train.steps",        "train.evaluate_every",   "train.evaluate_batches",
    "train.sample_every", "train.checkpoint_every", "train.keep_checkpoints",
    "train.recompute"};

// "table.key = value" of every line of a recipe's canonical text.
std::vector<std::pair<std::string, std::string>> flat_keys(const std::string& toml) {
  std::vector<std::pair<std::string, std::string>> keys;
  std::istringstream lines(toml);
  std::string line, table;
  while (std::getline(lines, line)) {
    if (line.starts_with("[[")) {
      table = "layer";
      keys.emplace_back("layer", "[[layer]]");  // a layer more or fewer is a difference too
    } else if (line.starts_with("[")) {
      table = line.substr(1, line.size() - 2);
    } else if (const auto equals = line.find(" = "); equals != std::string::npos) {
      keys.emplace_back(table + "." + line.substr(0, equals), line.substr(equals + 3));
    }
  }
  return keys;
}

void check_same_recipe(const fs::path& file, const std::string& wanted) {
  // Read and written again, so that a recipe of an older version, which lacks newer keys, compares by value.
  const auto before = flat_keys(to_toml(load_recipe(file))), now = flat_keys(wanted);
  const auto ignored = [](const std::string& key) {
    return std::find(kFreeKeys.begin(), kFreeKeys.end(), key) != kFreeKeys.end() || key.starts_with("monitor.");
  };
  for (std::size_t i = 0; i < std::max(before.size(), now.size()); ++i) {
    if (i < before.size() && i < now.size()) {
      if (before[i] == now[i] || (before[i].first == now[i].first && ignored(now[i].first))) continue;
      fail(ErrorKind::kBadInput,
           "{}: this run was started with {} = {}, but the recipe now has {} = {}; a run can only "
           "be resumed with its own recipe",
           file.string(), before[i].first, before[i].second, now[i].first, now[i].second);
    }
    fail(ErrorKind::kBadInput,
         "{}: this run was started with {} [[layer]] tables than the recipe has now; a run can "
         "only be resumed with its own recipe",
         file.string(), i < before.size() ? "more" : "fewer");
  }
}

std::string checkpoint_name(Index step) { return fmt::format("step-{:08}", step); }

// Copies a stored float32 tensor into one of the run's. Names file and tensor where they do not fit.
void fill(const formats::SafetensorsFile& file, const std::string& name, Tensor& target) {
  const Tensor stored = file.tensor(name);
  if (stored.dtype() != DType::kF32 || stored.shape() != target.shape()) {
    fail(ErrorKind::kBadInput, "{}: {} is {} {}, expected F32 {}", file.path().string(), name,
         dtype_info(stored.dtype()).name, stored.shape().to_string(), target.shape().to_string());
  }
  const auto bytes = stored.bytes();
  if (!bytes.empty()) std::memcpy(target.mutable_bytes().data(), bytes.data(), bytes.size());
}

}  // namespace

RunFolder::RunFolder(const fs::path& path, const Recipe& recipe, bool resume)
    : path_(path), keep_(recipe.train.keep_checkpoints), recipe_(to_toml(recipe)) {
  const fs::path recipe_file = path_ / kRecipeFile;
  if (fs::exists(recipe_file)) {
    if (!resume) {
      fail(ErrorKind::kBadInput, "{}: holds a run already; give --resume to go on with it, or another --out",
           path_.string());
    }
    check_same_recipe(recipe_file, recipe_);
    continues_ = true;
  } else if (!model::list_checkpoints(path_).empty()) {
    fail(ErrorKind::kBadInput, "{}: holds checkpoints but no {}; give another --out", path_.string(), kRecipeFile);
  }
  std::error_code error;
  fs::create_directories(path_ / "checkpoints", error);
  if (error) fail(ErrorKind::kResource, "{}: cannot make this folder: {}", path_.string(), error.message());
  for (const auto& entry : fs::directory_iterator(path_ / "checkpoints")) {
    // What a kill during a save left behind.
    const std::string extension = entry.path().extension().string();
    if (extension == ".tmp" || extension == ".old")
      AtomicDirectory::recover(fs::path(entry.path()).replace_extension());
  }
}

void RunFolder::begin() const { write_file_atomically(path_ / kRecipeFile, recipe_); }

fs::path RunFolder::last_checkpoint() const {
  const auto all = model::list_checkpoints(path_);
  return all.empty() ? fs::path() : all.back();
}

fs::path RunFolder::save(Index step, const model::Transformer& transformer, AdamW& optimizer,
                         const DeadSteps& dead_steps, const text::Tokenizer& tokenizer) const {
  const fs::path target = path_ / "checkpoints" / checkpoint_name(step);
  AtomicDirectory folder(target);
  model::save_model(folder.path(), transformer, &tokenizer);
  std::vector<formats::NamedTensor> tensors;
  for (const AdamW::Moments& m : optimizer.moments()) {
    tensors.push_back({m.parameter->name + ".first", &m.first});
    tensors.push_back({m.parameter->name + ".second", &m.second});
  }
  formats::write_safetensors(folder.path() / kMomentsFile, tensors);
  write_file_atomically(folder.path() / kRecipeFile, recipe_);
  std::string dead;
  for (const auto& [layer, steps] : dead_steps)
    dead += fmt::format("{}\"{}\": [{}]", dead.empty() ? "" : ", ", layer, fmt::join(steps, ", "));
  write_file_atomically(folder.path() / model::kTrainingStateFile,
                        fmt::format("{{\"version\": 1, \"step\": {}{}}}\n", step,
                                    dead.empty() ? "" : fmt::format(", \"dead_steps\": {{{}}}", dead)));
  folder.commit();

  const auto all = model::list_checkpoints(path_);
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep_) < all.size(); ++i) {
    // The state file goes first: a half-removed folder must not look like a checkpoint.
    fs::remove(all[i] / model::kTrainingStateFile);
    fs::remove_all(all[i]);
  }
  return target;
}

RunFolder::State RunFolder::load(const fs::path& checkpoint, model::Transformer& transformer, AdamW& optimizer) const {
  const auto state = formats::JsonConfig::load(checkpoint / model::kTrainingStateFile);
  if (state.get_int("version") != 1) {
    fail(ErrorKind::kUnsupported, "{}: version {}, expected 1", state.where("version"), state.get_int("version"));
  }
  State result;
  result.step = state.get_int("step");
  if (result.step < 0) fail(ErrorKind::kBadInput, "{}: {}, expected 0 or more", state.where("step"), result.step);
  if (state.has("dead_steps")) {
    const auto dead = state.object("dead_steps");
    const auto& layers = transformer.config().layers;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const std::string key = std::to_string(i);
      if (!dead.has(key)) continue;
      std::vector<Index> steps = dead.get_ints(key);
      const Index experts = layers[i].moe ? layers[i].moe->router.experts : 0;
      if (static_cast<Index>(steps.size()) != experts ||
          std::any_of(steps.begin(), steps.end(), [](Index s) { return s < 0; }))
        fail(ErrorKind::kBadInput, "{}: expected {} numbers of 0 or more, one for each expert", dead.where(key),
             experts);
      result.dead_steps[static_cast<Index>(i)] = std::move(steps);
    }
  }
  model::LoadedModel stored = model::load_model(checkpoint);
  for (autograd::Parameter* parameter : transformer.parameters()) {
    autograd::Parameter* source = stored.transformer.find(parameter->name);
    if (source == nullptr || source->value.shape() != parameter->value.shape()) {
      fail(ErrorKind::kBadInput, "{}: {} is {}, expected {}", checkpoint.string(), parameter->name,
           source == nullptr ? "missing" : source->value.shape().to_string(), parameter->value.shape().to_string());
    }
    parameter->value = std::move(source->value);
  }
  const auto moments = formats::SafetensorsFile::open(checkpoint / kMomentsFile);
  for (AdamW::Moments& m : optimizer.moments()) {
    fill(*moments, m.parameter->name + ".first", m.first);
    fill(*moments, m.parameter->name + ".second", m.second);
  }
  return result;
}

}  // namespace switchyard::train
