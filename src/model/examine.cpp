#include "switchyard/model/examine.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "encoder_decoder_file.hpp"
#include "families/common.hpp"
#include "families/router_reasons.hpp"
#include "load_plan.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/model/checkpoint.hpp"
#include "switchyard/model/model_folder.hpp"
#include "switchyard/tensor/not_finite.hpp"
#include "switchyard/text/tokenizer.hpp"

namespace switchyard::model {
namespace {

namespace fs = std::filesystem;
using formats::TensorFiles;

class Examiner {
 public:
  Examiner(const fs::path& folder, const ExamineOptions& options) : folder_(folder), options_(options) {}

  Examination run() {
    if (!config()) return std::move(result_);
    tensors();
    tokenizer();
    return std::move(result_);
  }

 private:
  void add(Level level, const char* check, std::string text) {
    result_.findings.push_back({level, check, std::move(text)});
  }

  bool config() {
    try {
      if (is_gguf_file(folder_)) {
        read_ = read_model_config(folder_);
        decoder_only();
      } else if (const auto json = formats::JsonConfig::load(folder_ / kConfigFile); is_encoder_decoder(json)) {
        encoder_decoder(json);
      } else {
        read_ = read_folder_config(folder_);
        decoder_only();
      }
    } catch (const Error& error) {
      add(Level::kProblem, "config", error.what());
      return false;
    }
    return true;
  }

  void decoder_only() {
    result_.model_type = read_.family->model_type;
    rows_ = parameter_table(read_.config);
    result_.routing = router_reasons(
        [this](const formats::JsonConfig& changed) {
          const ModelConfig other = read_.family->read_config(changed);
          const moe::MoeConfig* moe = first_moe(other);
          return moe == nullptr ? std::nullopt : std::optional(moe->router);
        },
        read_.text);
    add(Level::kFine, "config",
        fmt::format("{} ({}), {} layers, width {}", read_.family->model_type, read_.family->architecture,
                    read_.config.layers.size(), read_.config.width));
  }

  void encoder_decoder(const formats::JsonConfig& json) {
    pair_ = read_encoder_decoder(json);
    const EncoderDecoderConfig& config = pair_->config;
    read_ = pair_->plan;
    result_.model_type = read_.family->model_type;
    result_.routing = router_reasons(
        [](const formats::JsonConfig& changed) {
          const EncoderDecoderConfig other = read_encoder_decoder(changed).config;
          const moe::MoeConfig* moe = first_moe(other);
          return moe == nullptr ? std::nullopt : std::optional(moe->router);
        },
        read_file(folder_ / kConfigFile));
    if (!result_.routing.empty())
      result_.routing.push_back(
          {{"capacity",
            fmt::format("in the encoder an expert takes the first {} tokens of a text that choose it, others pass it "
                        "by; none in the decoder",
                        json.get_int_or("expert_capacity", 64))},
           {json.has("expert_capacity") ? fmt::format("expert_capacity = {}", json.get_int("expert_capacity"))
                                        : "expert_capacity"}});
    add(Level::kFine, "config",
        fmt::format("{} ({}), {} layers of encoder, {} of decoder, width {}", read_.family->model_type,
                    read_.family->architecture, config.encoder.size(), config.decoder.size(), config.width));
  }

  void tensors() {
    try {
      const TensorFiles files = TensorFiles::open(folder_);
      if (pair_) {
        settle_embeddings(*pair_, files);
        rows_ = parameter_table(pair_->config);
      }
      const WeightFiles weights(files, read_.scale_block, true);
      std::size_t problems = 0;
      plan_load(read_, rows_, files, weights, [&](const Error& error) {
        ++problems;
        add(Level::kProblem, "tensors", error.what());
      });
      if (problems == 0)
        add(Level::kFine, "tensors",
            fmt::format("{}: all {} parameters are there, with the right shapes and readable types; nothing is unknown",
                        types_of(files), rows_.size()));
      if (!pair_) prediction(files, weights);
      if (options_.values) values(files);
    } catch (const Error& error) {
      add(Level::kProblem, "tensors", error.what());
    }
  }

  // The layer for multi-token prediction, without which the model works.
  void prediction(const TensorFiles& files, const WeightFiles& weights) {
    if (!has_prediction(read_, files)) {
      if (read_.prediction_layers > 0)
        add(Level::kNote, "tensors",
            fmt::format("{} of multi-token prediction {} said to be there and cannot be used: no --draft",
                        read_.prediction_layers == 1 ? "a layer" : "layers",
                        read_.prediction_layers == 1 ? "is" : "are"));
      return;
    }
    try {
      FolderConfig with = read_;
      add_prediction(with, files, folder_);
      plan_load(with, parameter_table(with.config), files, weights);
      const Index more = count_parameters(with.config).total - count_parameters(read_.config).total;
      add(Level::kFine, "tensors",
          fmt::format("a layer for multi-token prediction, {} parameters that only --draft reads", more));
    } catch (const Error& error) {
      add(Level::kNote, "tensors", fmt::format("no --draft: {}", error.what()));
    }
  }

  // "291 tensors, 241 BF16 and 50 F32, in 3 files"
  static std::string types_of(const TensorFiles& files) {
    std::map<std::string_view, std::size_t> types;
    std::set<fs::path> paths;
    for (const std::string& name : files.names()) {
      ++types[dtype_info(files.info(name).dtype).name];
      paths.insert(files.path_of(name));
    }
    std::vector<std::string> parts;
    for (const auto& [type, count] : types) parts.push_back(fmt::format("{} {}", count, type));
    return fmt::format("{} tensors ({}) in {} file{}", files.names().size(), fmt::join(parts, ", "), paths.size(),
                       paths.size() == 1 ? "" : "s");
  }

  void values(const TensorFiles& files) {
    std::uint64_t bytes = 0, done = 0;
    for (const std::string& name : files.names()) bytes += files.info(name).bytes;
    std::size_t problems = 0;
    for (const std::string& name : files.names()) {
      const formats::TensorEntry& info = files.info(name);
      // Factors of MXFP4 are stored as plain bytes.
      const bool factors = info.dtype == DType::kU8 && name.ends_with("_scales");
      const DType dtype = factors ? DType::kF8E8M0 : info.dtype;
      const NotFinite found = find_not_finite(dtype, files.view(name).bytes());
      files.release(name);
      done += info.bytes;
      if (options_.progress) options_.progress(done, bytes);
      if (found.count == 0) continue;
      ++problems;
      add(Level::kProblem, "values",
          fmt::format("{}: tensor {} {}: {} of {} numbers are NaN or infinite, the first is element {}",
                      files.path_of(name).string(), name, info.shape.to_string(), found.count, info.shape.numel(),
                      found.first));
    }
    if (problems == 0) add(Level::kFine, "values", "no NaN and no infinity in any tensor");
  }

  void tokenizer() {
    try {
      const std::unique_ptr<text::Tokenizer> tokenizer = load_model_tokenizer(folder_);
      const Index ids = tokenizer->vocab_size(), vocab = read_.config.vocab;
      if (ids > vocab) {
        add(Level::kProblem, "tokenizer",
            fmt::format("it has {} ids, but the model's vocabulary only {}: texts could not be read", ids, vocab));
      } else {
        add(Level::kFine, "tokenizer", fmt::format("{}, {} ids for a vocabulary of {}", tokenizer->kind(), ids, vocab));
        if (ids < vocab)
          add(Level::kNote, "tokenizer", fmt::format("{} rows of the vocabulary have no token", vocab - ids));
      }
      if (!tokenizer->eos_id()) add(Level::kNote, "tokenizer", "no end token is known: the model cannot end its text");
    } catch (const Error& error) {
      const bool absent = error.kind() == ErrorKind::kNotFound;
      add(absent ? Level::kNote : Level::kProblem, "tokenizer", error.what());
    }
  }

  const fs::path& folder_;
  const ExamineOptions& options_;
  FolderConfig read_;
  std::optional<EncoderDecoderFolder> pair_;  // of an encoder-decoder; read_ then has its family alone
  std::vector<ParameterRow> rows_;
  Examination result_;
};

}  // namespace

std::size_t Examination::problems() const {
  return static_cast<std::size_t>(std::count_if(
      findings.begin(), findings.end(), [](const Finding& finding) { return finding.level == Level::kProblem; }));
}

Examination examine(const fs::path& folder, const ExamineOptions& options) {
  if (!is_gguf_file(folder) && !fs::exists(folder / kConfigFile))
    fail(ErrorKind::kNotFound, "{}: no {} there", folder.string(), kConfigFile);
  return Examiner(folder, options).run();
}

}  // namespace switchyard::model
