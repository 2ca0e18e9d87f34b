#pragma once
// A model folder: config.json, model.safetensors (or shards with an index) and the tokenizer's files, in the dialect
// of a published architecture where the model is one of them, else with our own model_type "switchyard".

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "switchyard/model/transformer.hpp"
#include "switchyard/text/chat_template.hpp"
#include "switchyard/text/tokenizer.hpp"

namespace switchyard::model {

struct LoadedModel {
  Transformer transformer;
  std::unique_ptr<text::Tokenizer> tokenizer;  // null where there is none that can be read
  std::string family;                          // model_type of config.json
};

struct LoadOptions {
  // False: everything becomes float32, as training wants it. True: the matrices of attention and of feed-forward
  // networks, the embedding and the output stay as their file holds them (autograd::StoredWeights), and only norms,
  // biases, routers and buffers, which are small, become float32.
  bool stored = false;
  // Of stored weights: whether they are read from the mapped file as they are used, or copied to memory at once.
  bool mapped = true;
  // Whether the layer for multi-token prediction belongs to the model (ModelConfig::prediction): weights that only
  // guessing ahead reads. kUnsupported, naming key or tensor, where there is none.
  bool prediction = false;
};

// `path` is a folder or a GGUF file, of a split one any part.
// Throws kNotFound / kBadInput / kUnsupported naming the file and the key or tensor: a missing or unknown tensor, a
// wrong shape or type, a config that does not fit, a tokenizer with more ids than the vocabulary. What becomes float32
// goes straight into its parameter: the model is in memory once. Everything is checked before memory is taken for it.
// Formats and dialects: docs/formats/checkpoint.md and docs/formats/gguf-models.md.
LoadedModel load_model(const std::filesystem::path& path, const LoadOptions& options = {});
// Only the config: nothing of the weights is read.
ModelConfig load_model_config(const std::filesystem::path& path);
// Only the tokenizer, of a folder or a GGUF file. Throws as text::load_tokenizer(), kNotFound where there is none.
std::unique_ptr<text::Tokenizer> load_model_tokenizer(const std::filesystem::path& path);
// *tokenizer, which was loaded with the model at `path`. Where it is null, throws what load_model_tokenizer() has to
// say.
const text::Tokenizer& require_tokenizer(const std::unique_ptr<text::Tokenizer>& tokenizer,
                                         const std::filesystem::path& path);

// Only the chat template, of a folder or a GGUF file. Throws as text::ChatTemplate::load(); nothing where there is
// none.
std::optional<text::ChatTemplate> load_model_chat_template(const std::filesystem::path& path);

// Writes into `folder`, which must exist and hold no other model (a caller that wants all or nothing passes
// AtomicDirectory::path()). tokenizer may be null. Returns the model_type that was written: the first family that
// expresses the architecture exactly. Weights are written as float32, also where they are stored in another type: one
// tensor at a time is converted. Throws kResource where the disk is full or read-only.
std::string save_model(const std::filesystem::path& folder, const Transformer& transformer,
                       const text::Tokenizer* tokenizer);

}  // namespace switchyard::model
