#include "run_folder.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
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

// The text of training.json.
std::string state_json(const RunFolder::State& state) {
  nlohmann::ordered_json json = {{"version", 1}, {"step", state.step}};
  for (const auto& [layer, steps] : state.dead_steps) json["dead_steps"][std::to_string(layer)] = steps;
  for (const auto& [layer, monitor] : state.monitor) {
    nlohmann::ordered_json loads = nlohmann::ordered_json::array();  // one step after the other
    for (const auto& load_E : monitor.load_E) {
      for (const Index load : load_E) loads.push_back(load);
    }
    json["monitor"][std::to_string(layer)] = {{"violation_steps", monitor.violation_steps},
                                              {"swings", monitor.swings},
                                              {"dead_steps", monitor.dead_steps_E},
                                              {"loads", std::move(loads)}};
  }
  return json.dump() + "\n";
}

// An array of a number of 0 or more for each of `experts` or, with `steps`, for each in any number of steps.
std::vector<Index> read_counts(const formats::JsonConfig& json, const std::string& key, Index experts,
                               bool steps = false) {
  std::vector<Index> counts = json.get_ints(key);
  const auto size = static_cast<Index>(counts.size());
  const bool fits = size == experts || (steps && experts > 0 && size % experts == 0);
  if (!fits || std::any_of(counts.begin(), counts.end(), [](Index n) { return n < 0; })) {
    fail(ErrorKind::kBadInput, "{}: expected {} numbers of 0 or more{}, one for each expert", json.where(key), experts,
         steps ? " for each step" : "");
  }
  return counts;
}

MonitorState read_monitor(const formats::JsonConfig& json, Index experts) {
  MonitorState state;
  state.violation_steps = json.get_int("violation_steps");
  state.swings = json.get_bool("swings");
  state.dead_steps_E = read_counts(json, "dead_steps", experts);
  const std::vector<Index> loads = read_counts(json, "loads", experts, true);
  for (auto load = loads.begin(); load != loads.end(); load += experts) state.load_E.emplace_back(load, load + experts);
  return state;
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

fs::path RunFolder::save(const State& state, const model::Transformer& transformer, AdamW& optimizer,
                         const text::Tokenizer& tokenizer) const {
  const fs::path target = path_ / "checkpoints" / checkpoint_name(state.step);
  AtomicDirectory folder(target);
  model::save_model(folder.path(), transformer, &tokenizer);
  std::vector<formats::NamedTensor> tensors;
  for (const AdamW::Moments& m : optimizer.moments()) {
    tensors.push_back({m.parameter->name + ".first", &m.first});
    tensors.push_back({m.parameter->name + ".second", &m.second});
  }
  formats::write_safetensors(folder.path() / kMomentsFile, tensors);
  write_file_atomically(folder.path() / kRecipeFile, recipe_);
  write_file_atomically(folder.path() / model::kTrainingStateFile, state_json(state));
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
  const auto& layers = transformer.config().layers;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::string key = std::to_string(i);
    const auto layer = static_cast<Index>(i);
    const auto of_layer = [&](std::string_view name) { return state.has(name) && state.object(name).has(key); };
    const moe::MoeConfig* moe = layers[i].moe ? &*layers[i].moe : nullptr;
    if (of_layer("dead_steps"))
      result.dead_steps[layer] = read_counts(state.object("dead_steps"), key, moe ? moe->router.experts : 0);
    if (of_layer("monitor"))
      result.monitor[layer] = read_monitor(state.object("monitor").object(key), moe ? moe->router.choices() : 0);
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
