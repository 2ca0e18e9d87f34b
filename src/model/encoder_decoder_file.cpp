#include "encoder_decoder_file.hpp"

#include <array>

#include "families/switch_transformers.hpp"
#include "load_parameters.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/model/model_folder.hpp"

namespace switchyard::model {
namespace {

namespace fs = std::filesystem;
using formats::JsonConfig;
using formats::TensorFiles;

// A model folder, a run or the file itself.
JsonConfig load_config(const fs::path& path) {
  if (!fs::exists(path)) fail(ErrorKind::kNotFound, "{}: no such file or folder", path.string());
  return JsonConfig::load(fs::is_directory(path) ? find_model_folder(path) / kConfigFile : path);
}

}  // namespace

bool is_encoder_decoder(const JsonConfig& json) {
  return json.is_string("model_type") && json.get_string("model_type") == kSwitchTransformers.model_type;
}

bool is_encoder_decoder(const fs::path& path) {
  try {
    // Only a file that can be a config is read as one: weights are large.
    if (fs::is_regular_file(path) && path.extension() != ".json") return false;
    return is_encoder_decoder(load_config(path));
  } catch (const Error&) {
    return false;
  } catch (const fs::filesystem_error&) {
    return false;
  }
}

EncoderDecoderFolder read_encoder_decoder(const JsonConfig& json) {
  EncoderDecoderFolder folder;
  folder.config = read_switch_config(json);
  folder.plan.family = &kSwitchTransformers;
  folder.plan.scheme = kSwitchTransformers.scheme();
  folder.plan.config.vocab = folder.config.vocab;
  folder.plan.config.width = folder.config.width;
  folder.plan.config.tied_embeddings = folder.config.tied_embeddings;
  return folder;
}

void settle_embeddings(EncoderDecoderFolder& folder, const TensorFiles& files) {
  // transformers 5 saves a model that is not tied with a table for each stack, and with a third one that nothing reads;
  // transformers 4 has one table for both whatever the config says.
  const bool both = files.contains(kEncoderTable) && files.contains(kDecoderTable);
  folder.config.separate_embeddings =
      both && !folder.config.tied_embeddings && !same_tensor(files, kEncoderTable, kDecoderTable);
  if (both && !folder.config.tied_embeddings) return;
  std::string_view first;
  for (const std::string_view name : {kEncoderTable, kDecoderTable, kSharedTable}) {
    if (!files.contains(name)) continue;
    if (first.empty()) {
      first = name;
    } else if (!same_tensor(files, first, name)) {
      fail(ErrorKind::kBadInput, "{}: tensor {} is not the same as {}, but encoder and decoder share one table",
           files.path_of(name).string(), name, first);
    }
  }
}

EncoderDecoderConfig load_encoder_decoder_config(const fs::path& path) {
  return read_encoder_decoder(load_config(path)).config;
}

LoadedEncoderDecoder load_encoder_decoder(const fs::path& path, const LoadOptions& options) {
  EncoderDecoderFolder folder = read_encoder_decoder(JsonConfig::load(path / kConfigFile));
  const TensorFiles files = TensorFiles::open(path);
  settle_embeddings(folder, files);
  const std::vector<ParameterRow> rows = parameter_table(folder.config);
  WeightFiles weights(files, folder.plan.scale_block, options.mapped);
  const std::vector<PlannedParameter> plan = plan_load(folder.plan, rows, files, weights);
  std::unique_ptr<text::Tokenizer> tokenizer =
      tokenizer_if_any([&] { return text::load_tokenizer(path); }, path, folder.config.vocab);
  EncoderDecoder model(folder.config, ParameterMemory::kNone);
  require(rows.size() == model.parameters().size(), "the model has {} parameters, its config {}",
          model.parameters().size(), rows.size());
  load_parameters(plan, rows, model.parameters(), weights, options.stored);
  model.keep_expert_stores();
  return {std::move(model), std::move(tokenizer), std::string(kSwitchTransformers.model_type)};
}

}  // namespace switchyard::model
