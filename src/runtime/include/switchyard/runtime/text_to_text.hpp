#pragma once
// A loaded encoder-decoder, and how it answers a text: token by token or with a beam.

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "switchyard/model/encoder_decoder.hpp"
#include "switchyard/runtime/engine.hpp"

namespace switchyard::runtime {

// Everything that many answers share: weights, config, tokenizer.
class TextToText {
 public:
  // A model folder. Throws as model::load_encoder_decoder. Weights keep the type that their file has and, unless
  // mapped is false, stay in the mapped file.
  static std::shared_ptr<TextToText> load(const std::filesystem::path& path, bool mapped = true);

  const model::EncoderDecoder& model() const { return model_; }
  const model::EncoderDecoderConfig& config() const { return model_.config(); }
  // Throws kNotFound where the folder has no tokenizer.
  const text::Tokenizer& tokenizer() const;
  const std::filesystem::path& folder() const { return folder_; }
  const std::string& family() const { return family_; }

 private:
  explicit TextToText(model::EncoderDecoder model) : model_(std::move(model)) {}
  model::EncoderDecoder model_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::filesystem::path folder_;
  std::string family_;
};

// Reads `source`, which must not be empty, and writes at most max_tokens tokens as generate() does for a session:
// `ends`, `vocab` and `on_token` of the options count, begin and allow_non_causal do not. The decoder begins with the
// model's start token, which is in the sampler's history and not in the result. The observers may be null.
struct RoutingObservers {
  moe::RoutingObserver* encoder = nullptr;
  moe::RoutingObserver* decoder = nullptr;
};
Generation answer(const model::EncoderDecoder& model, std::span<const std::int32_t> source, Sampler& sampler,
                  const GenerateOptions& options, const RoutingObservers& observers = {});

// Beam search as transformers 5 has it. In each step the likeliest continuations of all beams are looked at, twice as
// many as there are beams or one more for each end token; of the best `beams` of them those that end are finished, with
// the score log p / length^length_penalty, and the best that do not end go on. It stops when nothing can be better than
// the worst of `beams` finished ones (judged at the present length) or, with early_stopping, once there are as many.
struct BeamOptions {
  Index beams = 4;
  float length_penalty = 1.0F;  // above 0 favours long texts, below 0 short ones
  bool early_stopping = false;
  Index max_tokens = 0;
  std::vector<std::int32_t> ends;
  Index vocab = 0;  // only ids below it are considered; 0 = all

  void validate() const;  // kUsage naming the value
};
// The best finished text; Generation::score is its score. Ties go to the better beam and the lower id.
Generation beam_search(const model::EncoderDecoder& model, std::span<const std::int32_t> source,
                       const BeamOptions& options, const RoutingObservers& observers = {});

}  // namespace switchyard::runtime
