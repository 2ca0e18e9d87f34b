#include "switchyard/model/checkpoint.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "families/native_schema.hpp"
#include "gguf/gguf_config.hpp"
#include "gguf/gguf_tokenizer.hpp"
#include "load_parameters.hpp"
#include "load_plan.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/formats/safetensors.hpp"
#include "switchyard/model/model_folder.hpp"

namespace switchyard::model {
namespace {

namespace fs = std::filesystem;
using autograd::Parameter;
using autograd::ParameterRole;
using formats::JsonConfig;
using formats::TensorFiles;

// `config` is the text of a GGUF file's config.
std::unique_ptr<text::Tokenizer> tokenizer_of(const fs::path& path, const TensorFiles& files,
                                              const std::string& config) {
  if (files.gguf() == nullptr) return text::load_tokenizer(path);
  text::NamedFiles named = gguf_tokenizer_files(*files.gguf(), config);
  named.emplace_back(kConfigFile, config);
  auto tokenizer = text::load_tokenizer(named, files.gguf()->file());
  if (!tokenizer)
    fail(ErrorKind::kNotFound, "{}: no tokenizer: key tokenizer.ggml.model is \"none\" or missing", path.string());
  return tokenizer;
}

// A file of a vocabulary alone, or of a model of a kind that does not run here, has a tokenizer all the same.
std::string config_beside_tokenizer(const TensorFiles& files) {
  try {
    return read_gguf_config(files).text;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUnsupported && error.kind() != ErrorKind::kBadInput) throw;
    return "{}";
  }
}

// The parameters in the order of the rows that the model was made from.
template <class P>
void check_order(const std::vector<ParameterRow>& rows, std::span<P* const> parameters) {
  require(rows.size() == parameters.size(), "the model has {} parameters, its config {}", parameters.size(),
          rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    require(parameters[i]->name == rows[i].name && parameters[i]->shape() == rows[i].shape,
            "parameter {} is {} {}, its config says {} {}", i, parameters[i]->name, parameters[i]->shape().to_string(),
            rows[i].name, rows[i].shape.to_string());
  }
}

// A matrix of a parameter and its place in a tensor of the file.
struct Part {
  const Parameter* parameter = nullptr;
  Index number = 0;  // of the matrix, among those of the parameter
  bool stacked = false;
  TensorPlace place;

  std::size_t count() const { return static_cast<std::size_t>(place.rows * place.cols); }
  std::size_t begin() const { return static_cast<std::size_t>(number) * count(); }  // in the parameter's values
};

// The whole tensor, where it is a stretch of one parameter as it stands.
std::optional<Tensor> borrowed(const std::vector<Part>& parts) {
  const Part& first = parts.front();
  std::size_t count = 0;
  for (const Part& part : parts) {
    if (part.parameter != first.parameter || part.parameter->is_stored() || part.place.transposed) return {};
    count += part.count();
  }
  if (static_cast<std::size_t>(first.place.shape.numel()) != count) return {};
  const std::span<const std::byte> bytes = first.parameter->value.bytes();
  // Not owned: the parameter outlives the call.
  return Tensor::borrowed(DType::kF32, first.place.shape,
                          bytes.subspan(first.begin() * sizeof(float), count * sizeof(float)),
                          std::shared_ptr<const void>(std::shared_ptr<const void>(), bytes.data()));
}

void scatter(const Part& part, std::span<float> to) {
  std::vector<float> decoded;
  std::span<const float> from;
  if (part.parameter->is_stored()) {
    decoded.resize(part.count());
    decode(part.stacked ? part.parameter->weight(part.number) : part.parameter->weight(), decoded);
    from = decoded;
  } else {
    from = part.parameter->value.f32().subspan(part.begin(), part.count());
  }
  const TensorPlace& place = part.place;
  for (Index r = 0; r < place.rows; ++r) {
    const auto row = from.subspan(static_cast<std::size_t>(r * place.cols), static_cast<std::size_t>(place.cols));
    Index at = place.first() + r * place.row_stride();
    for (const float value : row) {
      to[static_cast<std::size_t>(at)] = value;
      at += place.col_stride();
    }
  }
}

Tensor assembled(const std::vector<Part>& parts) {
  if (std::optional<Tensor> whole = borrowed(parts)) return std::move(*whole);
  Tensor tensor = Tensor::uninitialized(DType::kF32, parts.front().place.shape);
  for (const Part& part : parts) scatter(part, tensor.f32());
  return tensor;
}

// The tensors of a file, in the order of the first parameters that lie in them.
std::vector<formats::DeferredTensor> tensors_to_write(const Family& family, const std::vector<ParameterRow>& rows,
                                                      std::span<const Parameter* const> parameters) {
  const TensorNames names(family.scheme(), rows);
  std::vector<std::string> order;
  std::map<std::string, std::vector<Part>> parts;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const TensorRule* rule = names.rule_to_write(rows[i]);
    require(rule != nullptr, "family {} has no name for {}", family.model_type, rows[i].name);
    std::vector<MatrixPlaces> matrices = names.places(*rule, rows[i]);
    for (std::size_t e = 0; e < matrices.size(); ++e) {
      require(matrices[e].size() == 1, "family {} has {} in parts", family.model_type, rows[i].name);
      TensorPlace& place = matrices[e].front();
      const std::string name = place.name;
      std::vector<Part>& of_name = parts[name];
      if (of_name.empty()) order.push_back(name);
      of_name.push_back({parameters[i], static_cast<Index>(e), rows[i].of_experts, std::move(place)});
    }
  }
  std::vector<formats::DeferredTensor> tensors;
  for (const std::string& name : order) {
    const Shape shape = parts[name].front().place.shape;
    tensors.push_back({name, DType::kF32, shape, [of_name = std::move(parts[name])] { return assembled(of_name); }});
  }
  return tensors;
}

nlohmann::ordered_json config_json(const Family& family, const ModelConfig& config, const text::Tokenizer* tokenizer) {
  nlohmann::ordered_json json = published_config(family, config);
  json["torch_dtype"] = "float32";
  // Written even where there is none: transformers would put the class's own defaults there.
  for (const auto& [key, id] : {std::pair("bos_token_id", tokenizer ? tokenizer->bos_id() : std::nullopt),
                                std::pair("eos_token_id", tokenizer ? tokenizer->eos_id() : std::nullopt)}) {
    json[key] = id ? nlohmann::ordered_json(*id) : nlohmann::ordered_json(nullptr);
  }
  if (auto training = training_json(config); !training.empty()) json[kTrainingKey] = std::move(training);
  return json;
}

// Stores of the experts' views, which every forward pass would have to make anew.
void keep_expert_stores(Transformer& transformer) {
  std::vector<LayerConfig> layers = transformer.config().layers;
  if (transformer.config().prediction) layers.push_back(transformer.config().prediction->layer);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (!layers[i].moe) continue;
    const auto part = [&](const char* name) {
      return transformer.find(fmt::format("layers.{}.moe.experts.{}", i, name));
    };
    autograd::MoeParameters experts;
    experts.gate_EFD = part("gate");
    experts.up_EFD = part("up");
    experts.down_EDF = part("down");
    experts.gate_bias_EF = part("gate_bias");
    experts.up_bias_EF = part("up_bias");
    experts.down_bias_ED = part("down_bias");
    transformer.set_expert_store(static_cast<Index>(i), autograd::make_expert_store(experts));
  }
}

}  // namespace

ModelConfig load_model_config(const fs::path& path) { return read_model_config(path).config; }

std::unique_ptr<text::Tokenizer> load_model_tokenizer(const fs::path& path) {
  if (!is_gguf_file(path)) return text::load_tokenizer(path);
  const TensorFiles files = TensorFiles::open(path);
  return tokenizer_of(path, files, config_beside_tokenizer(files));
}

const text::Tokenizer& require_tokenizer(const std::unique_ptr<text::Tokenizer>& tokenizer, const fs::path& path) {
  if (tokenizer == nullptr) {
    load_model_tokenizer(path);  // says why there is none
    fail(ErrorKind::kNotFound, "{}: the tokenizer was not there when the model was loaded", path.string());
  }
  return *tokenizer;
}

std::optional<text::ChatTemplate> load_model_chat_template(const fs::path& path) {
  if (!is_gguf_file(path)) return text::ChatTemplate::load(path);
  const TensorFiles files = TensorFiles::open(path);
  return text::ChatTemplate::load(gguf_tokenizer_files(*files.gguf(), config_beside_tokenizer(files)), path.string());
}

LoadedModel load_model(const fs::path& path, const LoadOptions& options) {
  const bool gguf = is_gguf_file(path);
  FolderConfig read;
  if (!gguf) read = read_folder_config(path);
  const TensorFiles files = TensorFiles::open(path);
  if (gguf) read = read_gguf_config(files);
  if (options.prediction) add_prediction(read, files, path);
  const std::vector<ParameterRow> rows = parameter_table(read.config);
  WeightFiles weights(files, read.scale_block, options.mapped);
  const std::vector<PlannedParameter> plan = plan_load(read, rows, files, weights);
  std::unique_ptr<text::Tokenizer> tokenizer =
      tokenizer_if_any([&] { return tokenizer_of(path, files, read.text); }, path, read.config.vocab);

  Transformer transformer(read.config, ParameterMemory::kNone);
  const std::span<Parameter* const> parameters = transformer.parameters();
  check_order<Parameter>(rows, parameters);
  load_parameters(plan, rows, parameters, weights, options.stored);
  if (options.stored) keep_expert_stores(transformer);
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
  const std::vector<formats::DeferredTensor> tensors = tensors_to_write(family, rows, parameters);
  formats::write_safetensors_sharded(folder, std::span<const formats::DeferredTensor>(tensors), {{"format", "pt"}},
                                     kMaxShardBytes);
  if (tokenizer != nullptr) tokenizer->save(folder);
  write_file_atomically(folder / kConfigFile, config_json(family, config, tokenizer).dump(2) + "\n");
  return std::string(family.model_type);
}

}  // namespace switchyard::model
