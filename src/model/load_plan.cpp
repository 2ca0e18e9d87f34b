#include "load_plan.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <set>

#include "families/native_schema.hpp"
#include "gguf/gguf_config.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/model/model_folder.hpp"

namespace switchyard::model {
namespace {

namespace fs = std::filesystem;
using formats::JsonConfig;
using formats::TensorFiles;

constexpr std::size_t kLargestConfig = std::size_t{64} << 20;

ScaleBlock read_scale_block(const JsonConfig& json) {
  constexpr std::string_view kKey = "weight_block_size";
  ScaleBlock block;
  if (!json.is_object(kQuantisationKey)) return block;
  const JsonConfig quantisation = json.object(kQuantisationKey);
  if (!quantisation.has(kKey)) return block;
  const std::vector<Index> size = quantisation.get_ints(kKey);
  constexpr Index kMost = 1 << 20;
  if (size.size() != 2 || size[0] < 1 || size[1] < 1 || size[0] > kMost || size[1] > kMost) {
    fail(ErrorKind::kBadInput, "{}: found [{}], expected two numbers from 1 to {}", quantisation.where(kKey),
         fmt::join(size, ", "), kMost);
  }
  return {size[0], size[1]};
}

using NameSet = std::set<std::string, std::less<>>;

// Runs a check and hands its error to on_problem; without one errors go on to the caller.
class Guard {
 public:
  explicit Guard(const OnProblem& on_problem) : on_problem_(on_problem) {}
  // Whether nothing was wrong.
  template <class Check>
  bool operator()(const Check& check) const {
    if (!on_problem_) {
      check();
      return true;
    }
    try {
      check();
      return true;
    } catch (const Error& error) {
      on_problem_(error);
      return false;
    }
  }

 private:
  const OnProblem& on_problem_;
};

// The number of the layer that a tensor called PREFIX NUMBER ".*" belongs to; -1 where it is called otherwise.
Index layer_of(std::string_view prefix, std::string_view name) {
  if (!name.starts_with(prefix)) return -1;
  name.remove_prefix(prefix.size());
  Index layer = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  return error == std::errc() && end != name.data() + name.size() && *end == '.' && layer >= 0 ? layer : -1;
}

// Layers of multi-token prediction stand after the model's own (DeepSeek-V3, GLM-4.5). The projection of the two hidden
// states tells them where the config does not say how many there are.
bool predicts_more_tokens(const TensorFiles& files, const FolderConfig& read, std::string_view name) {
  const TensorScheme& scheme = read.scheme;
  const Index layer = layer_of(scheme.layer_prefix, name);
  const auto layers = static_cast<Index>(read.config.layers.size());
  return layer >= layers &&
         (layer - layers < read.prediction_layers ||
          files.contains(fmt::format("{}{}.{}", scheme.layer_prefix, layer, scheme.prediction_marker)));
}

constexpr std::string_view kProjection = "layers.{i}.prediction.projection";

// The tensor of the first layer for multi-token prediction that has a native name; empty where the scheme has none.
std::string prediction_tensor(const FolderConfig& read, std::string_view native) {
  for (const TensorRule& rule : read.scheme.rules) {
    if (rule.native == native) return fill_in(rule.published, "{i}", static_cast<Index>(read.config.layers.size()));
  }
  return {};
}

// A tied output may be there once more: of the same type and bytes as the embedding it is passed over.
void check_tied_output(const TensorFiles& files, const std::string& output, const std::string& embedding) {
  if (files.contains(embedding) && same_tensor(files, output, embedding)) return;
  fail(ErrorKind::kBadInput, "{}: tensor {} is not the same as {}, but {} ties the two", files.path_of(output).string(),
       output, embedding, kConfigFile);
}

// The published name of the output where the model has none of its own.
std::string tied_output_name(const FolderConfig& read, const TensorFiles& files) {
  if (!read.config.tied_embeddings) return {};
  for (const TensorRule& rule : read.scheme.rules) {
    if (rule.native == "output" && files.contains(rule.published)) return std::string(rule.published);
  }
  return {};
}

void check_no_other_tensors(const FolderConfig& read, const TensorFiles& files, const NameSet& used,
                            const std::string& embedding, const Guard& guard) {
  const std::string tied_output = tied_output_name(read, files);
  for (const std::string& name : files.names()) {
    const std::span<const std::string_view> ignored = read.scheme.ignored;
    if (used.count(name) != 0 || predicts_more_tokens(files, read, name) ||
        std::any_of(ignored.begin(), ignored.end(), [&](auto pattern) { return matches_pattern(pattern, name); })) {
      continue;
    }
    guard([&] {
      if (name == tied_output) return check_tied_output(files, name, embedding);
      fail(ErrorKind::kBadInput, "{}: tensor {} is unknown: no part of a model of type {} with this {}",
           files.path_of(name).string(), name, read.family->model_type, kConfigFile);
    });
  }
}

}  // namespace

bool same_tensor(const TensorFiles& files, std::string_view a, std::string_view b) {
  if (files.info(a).dtype != files.info(b).dtype || files.info(a).shape != files.info(b).shape) return false;
  const Tensor x = files.view(a), y = files.view(b);
  const bool same = std::memcmp(x.bytes().data(), y.bytes().data(), x.bytes().size()) == 0;
  files.release(a);
  files.release(b);
  return same;
}

FolderConfig read_config(const JsonConfig& json) {
  FolderConfig result;
  result.family = &family_of(json);
  result.scheme = result.family->scheme();
  result.config = result.family->read_config(json);
  if (json.has(kTrainingKey)) read_training(json.object(kTrainingKey), result.config);
  result.config.validate(json.origin() + ": model");
  result.scale_block = read_scale_block(json);
  result.prediction_layers = json.get_int_or(kPredictionLayersKey, 0);
  if (result.prediction_layers < 0)
    fail(ErrorKind::kBadInput, "{}: found {}, expected 0 or more", json.where(kPredictionLayersKey),
         result.prediction_layers);
  return result;
}

FolderConfig read_folder_config(const fs::path& folder) {
  const fs::path path = folder / kConfigFile;
  std::string text = read_file(path, kLargestConfig);
  FolderConfig read = read_config(JsonConfig::parse(text, path.string()));
  read.text = std::move(text);
  return read;
}

FolderConfig read_model_config(const fs::path& path) {
  return is_gguf_file(path) ? read_gguf_config(TensorFiles::open(path)) : read_folder_config(path);
}

bool has_prediction_names(const TensorScheme& scheme) {
  return std::any_of(scheme.rules.begin(), scheme.rules.end(),
                     [](const TensorRule& rule) { return rule.native == kProjection; });
}

bool has_prediction(const FolderConfig& read, const TensorFiles& files) {
  const std::string projection = prediction_tensor(read, kProjection);
  return !projection.empty() && files.contains(projection);
}

void add_prediction(FolderConfig& read, const TensorFiles& files, const fs::path& path) {
  const std::string projection = prediction_tensor(read, kProjection);
  if (projection.empty()) {
    fail(ErrorKind::kUnsupported,
         "{}: model_type {} has no layer for multi-token prediction, with which --draft guesses; deepseek_v3, kimi_k2 "
         "and glm4_moe can have one",
         path.string(), read.family->model_type);
  }
  if (!files.contains(projection)) {
    const fs::path config = files.gguf() != nullptr ? path : path / kConfigFile;
    if (read.prediction_layers == 0) {
      fail(ErrorKind::kUnsupported,
           "{}: key {}: found 0, expected 1: the model has no layer for multi-token prediction, with which --draft "
           "guesses",
           config.string(), kPredictionLayersKey);
    }
    fail(ErrorKind::kUnsupported,
         "{}: tensor {} is missing: by key {} of {} the model has a layer for multi-token prediction, with which "
         "--draft guesses, but these files were made without it",
         path.string(), projection, kPredictionLayersKey, config.string());
  }
  PredictionConfig prediction{read.config.layers.back()};
  prediction.embedding = files.contains(prediction_tensor(read, "layers.{i}.prediction.embedding"));
  prediction.output = files.contains(prediction_tensor(read, "layers.{i}.prediction.output"));
  read.config.prediction = std::move(prediction);
}

std::vector<PlannedParameter> plan_load(const FolderConfig& read, const std::vector<ParameterRow>& rows,
                                        const TensorFiles& files, const WeightFiles& weights,
                                        const OnProblem& on_problem) {
  const Guard guard(on_problem);
  const TensorNames names(read.scheme, rows);
  std::vector<PlannedParameter> plan;
  NameSet used;
  std::string embedding;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::vector<const TensorRule*> rules = names.rules_for(rows[i]);
    require(!rules.empty(), "model type {} has no name for {}", read.family->model_type, rows[i].name);
    const auto held = std::find_if(rules.begin(), rules.end(), [&](const TensorRule* rule) {
      return weights.contains(TensorNames::first_name(*rule, rows[i]));
    });
    std::vector<MatrixPlaces> matrices = names.places(held == rules.end() ? *rules.front() : **held, rows[i]);
    bool sound = true;
    std::set<std::string_view> checked;
    for (const MatrixPlaces& places : matrices) {
      for (const TensorPlace& place : places) {
        // What there is to check is the same for all places of a parameter in one tensor.
        if (!checked.insert(place.name).second) continue;
        sound = guard([&] { weights.check(place, used); }) && sound;
        used.insert(place.name);
      }
    }
    if (rows[i].name == "embedding") embedding = matrices.front().front().name;
    if (sound) plan.push_back({i, std::move(matrices)});
  }
  check_no_other_tensors(read, files, used, embedding, guard);
  return plan;
}

}  // namespace switchyard::model
