#include "switchyard/model/checkpoint.hpp"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "families/family.hpp"
#include "families/native_schema.hpp"
#include "families/tensor_names.hpp"
#include "parameter_table.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/formats/safetensors.hpp"

namespace switchyard::model {
namespace {

namespace fs = std::filesystem;
using autograd::Parameter;
using formats::JsonConfig;
using formats::TensorFiles;

constexpr std::string_view kConfigFile = "config.json";
constexpr std::string_view kTrainingKey = "switchyard";
constexpr std::size_t kMaxShardBytes = 5'000'000'000;  // as transformers 4 cuts them
constexpr Index kConvertGrain = 1 << 16;

struct FolderConfig {
  const Family* family = nullptr;
  ModelConfig config;
};

FolderConfig read_folder_config(const fs::path& folder) {
  const JsonConfig json = JsonConfig::load(folder / kConfigFile);
  FolderConfig result;
  result.family = &family_of(json);
  result.config = result.family->read_config(json);
  if (json.has(kTrainingKey)) read_training(json.object(kTrainingKey), result.config);
  result.config.validate(json.origin() + ": model");
  return result;
}

std::unique_ptr<text::Tokenizer> load_folder_tokenizer(const fs::path& folder, Index vocab) {
  std::unique_ptr<text::Tokenizer> tokenizer;
  try {
    tokenizer = text::load_tokenizer(folder);
  } catch (const Error& error) {
    // The weights are of use without one: to see what is routed, to compare logits.
    if (error.kind() != ErrorKind::kNotFound && error.kind() != ErrorKind::kUnsupported) throw;
  }
  if (tokenizer && tokenizer->vocab_size() > vocab) {
    fail(ErrorKind::kBadInput, "{}: the tokenizer has {} ids, but vocab_size in {} is {}", folder.string(),
         tokenizer->vocab_size(), kConfigFile, vocab);
  }
  return tokenizer;
}

struct PlannedRun {
  std::size_t row = 0;
  TensorRun run;
};

void check_file_tensor(const TensorFiles& files, const TensorRun& run) {
  if (!files.contains(run.file_tensor)) {
    fail(ErrorKind::kBadInput, "{}: tensor {} is missing; {} asks for it", files.path().string(), run.file_tensor,
         kConfigFile);
  }
  const formats::SafetensorsEntry& info = files.info(run.file_tensor);
  const std::string path = files.path_of(run.file_tensor).string();
  if (info.shape != run.file_shape) {
    fail(ErrorKind::kBadInput, "{}: tensor {}: found shape {}, expected {} by {}", path, run.file_tensor,
         info.shape.to_string(), run.file_shape.to_string(), kConfigFile);
  }
  constexpr DType kReadable[] = {DType::kF32, DType::kF64, DType::kF16, DType::kBF16};
  if (std::find(std::begin(kReadable), std::end(kReadable), info.dtype) == std::end(kReadable)) {
    const bool is_float = dtype_info(info.dtype).is_float;
    fail(is_float ? ErrorKind::kUnsupported : ErrorKind::kBadInput,
         "{}: tensor {}: found type {}, expected F32, F64, F16 or BF16", path, run.file_tensor,
         dtype_info(info.dtype).name);
  }
}

// transformers 4 once stored the frequencies that follow from rope_theta.
bool is_derived(std::string_view file_tensor) { return file_tensor.ends_with("rotary_emb.inv_freq"); }

// Where every element of the model comes from. Everything is checked here, before memory is taken for the model: a
// config that promises more than the file holds must not get as far as asking for it.
std::vector<PlannedRun> plan_load(const Family& family, const std::vector<ParameterRow>& rows,
                                  const TensorFiles& files) {
  std::vector<PlannedRun> plan;
  std::set<std::string_view> used;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::vector<TensorRule> rules = rules_for(family, rows[i]);
    const auto held = std::find_if(rules.begin(), rules.end(), [&](const TensorRule& rule) {
      return files.contains(first_file_tensor(rule, rows[i]));
    });
    const TensorRule& rule = held == rules.end() ? rules.front() : *held;
    for_each_run(rule, rows[i], [&](const TensorRun& run) {
      check_file_tensor(files, run);
      used.insert(files.info(run.file_tensor).name);
      plan.push_back({i, run});
    });
  }
  for (const std::string& name : files.names()) {
    if (used.count(name) != 0 || is_derived(name)) continue;
    fail(ErrorKind::kBadInput, "{}: tensor {} is unknown: no part of a model of type {} with this {}",
         files.path_of(name).string(), name, family.model_type, kConfigFile);
  }
  // The disk is read from front to back.
  std::stable_sort(plan.begin(), plan.end(), [&](const PlannedRun& a, const PlannedRun& b) {
    const auto place = [&](const PlannedRun& p) {
      return std::pair(std::string_view(files.path_of(p.run.file_tensor).native()),
                       files.info(p.run.file_tensor).offset);
    };
    return place(a) < place(b);
  });
  return plan;
}

template <class T>
void convert(std::span<const T> from, std::span<float> to) {
  parallel_for(static_cast<Index>(to.size()), kConvertGrain, [&](Index begin, Index end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      if constexpr (std::is_arithmetic_v<T>) {
        to[i] = static_cast<float>(from[i]);
      } else {
        to[i] = to_float(from[i]);
      }
    }
  });
}

void copy_run(const Tensor& file_tensor, const TensorRun& run, Tensor& parameter) {
  const auto begin = static_cast<std::size_t>(run.file_begin);
  const auto count = static_cast<std::size_t>(run.count);
  const std::span<float> to = parameter.f32().subspan(static_cast<std::size_t>(run.parameter_begin), count);
  switch (file_tensor.dtype()) {
    case DType::kF32:
      return convert(file_tensor.values<float>().subspan(begin, count), to);
    case DType::kF64:
      return convert(file_tensor.values<double>().subspan(begin, count), to);
    case DType::kF16:
      return convert(file_tensor.values<Float16>().subspan(begin, count), to);
    case DType::kBF16:
      return convert(file_tensor.values<BFloat16>().subspan(begin, count), to);
    default:
      require(false, "tensor {} of type {} was not refused", run.file_tensor, dtype_info(file_tensor.dtype()).name);
  }
}

// The parameters in the order of the rows that the model was made from.
template <class P>
void check_order(const std::vector<ParameterRow>& rows, std::span<P* const> parameters) {
  require(rows.size() == parameters.size(), "the model has {} parameters, its config {}", parameters.size(),
          rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    require(parameters[i]->name == rows[i].name && parameters[i]->value.shape() == rows[i].shape,
            "parameter {} is {} {}, its config says {} {}", i, parameters[i]->name,
            parameters[i]->value.shape().to_string(), rows[i].name, rows[i].shape.to_string());
  }
}

nlohmann::ordered_json config_json(const Family& family, const ModelConfig& config, const text::Tokenizer* tokenizer) {
  nlohmann::ordered_json json;
  json["architectures"] = {family.architecture};
  json["model_type"] = family.model_type;
  json.update(family.write_config(config));
  json["torch_dtype"] = "float32";
  // Written even where there is none: transformers would put the class's own defaults there.
  for (const auto& [key, id] : {std::pair("bos_token_id", tokenizer ? tokenizer->bos_id() : std::nullopt),
                                std::pair("eos_token_id", tokenizer ? tokenizer->eos_id() : std::nullopt)}) {
    json[key] = id ? nlohmann::ordered_json(*id) : nlohmann::ordered_json(nullptr);
  }
  if (auto training = training_json(config); !training.empty()) json[kTrainingKey] = std::move(training);
  return json;
}

}  // namespace

ModelConfig load_model_config(const fs::path& folder) { return read_folder_config(folder).config; }

LoadedModel load_model(const fs::path& folder) {
  FolderConfig read = read_folder_config(folder);
  const std::vector<ParameterRow> rows = parameter_table(read.config);
  const TensorFiles files = TensorFiles::open(folder);
  const std::vector<PlannedRun> plan = plan_load(*read.family, rows, files);
  std::unique_ptr<text::Tokenizer> tokenizer = load_folder_tokenizer(folder, read.config.vocab);

  Transformer transformer(std::move(read.config));
  const std::span<Parameter* const> parameters = transformer.parameters();
  check_order(rows, parameters);
  for (const PlannedRun& planned : plan) {
    copy_run(files.load(planned.run.file_tensor), planned.run, parameters[planned.row]->value);
  }
  return {std::move(transformer), std::move(tokenizer), std::string(read.family->model_type)};
}

std::string save_model(const fs::path& folder, const Transformer& transformer, const text::Tokenizer* tokenizer) {
  const ModelConfig& config = transformer.config();
  const auto all = families();
  const auto chosen =
      std::find_if(all.begin(), all.end(), [&](const Family* family) { return describes(*family, config); });
  require(chosen != all.end(), "no family describes the model, not even our own");
  const Family& family = **chosen;

  const std::vector<ParameterRow> rows = parameter_table(config);
  const std::span<const Parameter* const> parameters = transformer.parameters();
  check_order(rows, parameters);
  std::vector<std::string> names;
  std::vector<Tensor> tensors;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::span<const std::byte> bytes = parameters[i]->value.bytes();
    for_each_run(rules_for(family, rows[i]).front(), rows[i], [&](const TensorRun& run) {
      require(run.count == run.file_shape.numel(), "{} would be written in parts", run.file_tensor);
      const auto run_bytes = static_cast<std::size_t>(run.count) * sizeof(float);
      const auto begin = static_cast<std::size_t>(run.parameter_begin) * sizeof(float);
      names.push_back(run.file_tensor);
      // Not owned: the parameter outlives the call.
      tensors.push_back(Tensor::borrowed(DType::kF32, run.file_shape, bytes.subspan(begin, run_bytes),
                                         std::shared_ptr<const void>(std::shared_ptr<const void>(), bytes.data())));
    });
  }
  std::vector<formats::NamedTensor> named;
  for (std::size_t i = 0; i < names.size(); ++i) named.push_back({names[i], &tensors[i]});

  formats::write_safetensors_sharded(folder, named, {{"format", "pt"}}, kMaxShardBytes);
  if (tokenizer != nullptr) tokenizer->save(folder);
  write_file_atomically(folder / kConfigFile, config_json(family, config, tokenizer).dump(2) + "\n");
  return std::string(family.model_type);
}

}  // namespace switchyard::model
