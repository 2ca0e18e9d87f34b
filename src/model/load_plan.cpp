#include "load_plan.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <set>

#include "families/native_schema.hpp"

namespace switchyard::model {
namespace {

namespace fs = std::filesystem;
using formats::JsonConfig;
using formats::TensorFiles;

ScaleBlock read_scale_block(const JsonConfig& json) {
  constexpr std::string_view kKey = "weight_block_size";
  ScaleBlock block;
  if (!json.is_object("quantization_config")) return block;
  const JsonConfig quantisation = json.object("quantization_config");
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

// The number of the layer that a tensor called "model.layers.NUMBER.*" belongs to; -1 where it is called otherwise.
Index layer_of(std::string_view name) {
  constexpr std::string_view kPrefix = "model.layers.";
  if (!name.starts_with(kPrefix)) return -1;
  name.remove_prefix(kPrefix.size());
  Index layer = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
  return error == std::errc() && end != name.data() + name.size() && *end == '.' && layer >= 0 ? layer : -1;
}

// Layers of multi-token prediction stand after the model's own (DeepSeek-V3, GLM-4.5). The projection of the two hidden
// states tells them where the config does not say how many there are.
bool predicts_more_tokens(const TensorFiles& files, const FolderConfig& read, Index layer) {
  const auto layers = static_cast<Index>(read.config.layers.size());
  return layer >= layers && (layer - layers < read.prediction_layers ||
                             files.contains(fmt::format("model.layers.{}.eh_proj.weight", layer)));
}

// A tied output may be there once more: of the same type and bytes as the embedding it is passed over.
void check_tied_output(const TensorFiles& files, const std::string& output, const std::string& embedding) {
  const auto same = [&] {
    if (!files.contains(embedding) || files.info(output).dtype != files.info(embedding).dtype ||
        files.info(output).shape != files.info(embedding).shape) {
      return false;
    }
    const Tensor a = files.view(output), b = files.view(embedding);
    return std::memcmp(a.bytes().data(), b.bytes().data(), a.bytes().size()) == 0;
  };
  if (same()) return files.release(output);
  fail(ErrorKind::kBadInput, "{}: tensor {} is not the same as {}, but {} ties the two", files.path_of(output).string(),
       output, embedding, kConfigFile);
}

// The published name of the output where the model has none of its own.
std::string tied_output_name(const FolderConfig& read, const TensorFiles& files) {
  if (!read.config.tied_embeddings) return {};
  for (const TensorRule& rule : read.family->tensors) {
    if (rule.native == "output" && files.contains(rule.published)) return std::string(rule.published);
  }
  return {};
}

void check_no_other_tensors(const FolderConfig& read, const TensorFiles& files, const NameSet& used,
                            const std::string& embedding, const Guard& guard) {
  const std::string tied_output = tied_output_name(read, files);
  for (const std::string& name : files.names()) {
    const std::span<const std::string_view> ignored = read.family->ignored;
    if (used.count(name) != 0 || predicts_more_tokens(files, read, layer_of(name)) ||
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

FolderConfig read_config(const JsonConfig& json) {
  FolderConfig result;
  result.family = &family_of(json);
  result.config = result.family->read_config(json);
  if (json.has(kTrainingKey)) read_training(json.object(kTrainingKey), result.config);
  result.config.validate(json.origin() + ": model");
  result.scale_block = read_scale_block(json);
  constexpr std::string_view kPredictionLayers = "num_nextn_predict_layers";
  result.prediction_layers = json.get_int_or(kPredictionLayers, 0);
  if (result.prediction_layers < 0)
    fail(ErrorKind::kBadInput, "{}: found {}, expected 0 or more", json.where(kPredictionLayers),
         result.prediction_layers);
  return result;
}

FolderConfig read_folder_config(const fs::path& folder) { return read_config(JsonConfig::load(folder / kConfigFile)); }

std::vector<PlannedParameter> plan_load(const FolderConfig& read, const std::vector<ParameterRow>& rows,
                                        const TensorFiles& files, const WeightFiles& weights,
                                        const OnProblem& on_problem) {
  const Guard guard(on_problem);
  const TensorNames names(*read.family, rows);
  std::vector<PlannedParameter> plan;
  NameSet used;
  std::string embedding;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::vector<const TensorRule*> rules = names.rules_for(rows[i]);
    const auto held = std::find_if(rules.begin(), rules.end(), [&](const TensorRule* rule) {
      return weights.contains(TensorNames::first_name(*rule, rows[i]));
    });
    std::vector<TensorPlace> places = names.places(held == rules.end() ? *rules.front() : **held, rows[i]);
    bool sound = true;
    for (const TensorPlace& place : places) {
      sound = guard([&] { weights.check(place, used); }) && sound;
      used.insert(place.name);
    }
    if (rows[i].name == "embedding") embedding = places.front().name;
    if (sound) plan.push_back({i, std::move(places)});
  }
  check_no_other_tensors(read, files, used, embedding, guard);
  return plan;
}

}  // namespace switchyard::model
