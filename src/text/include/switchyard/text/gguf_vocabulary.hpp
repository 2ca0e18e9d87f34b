#pragma once
// A tokenizer as GGUF metadata has it, from and to the files of a Hugging Face folder. docs/formats/gguf-models.md
// says what each field becomes.
// Source: gguf-py/gguf/vocab.py, conversion/base.py and src/llama-vocab.cpp of ggml-org/llama.cpp.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "switchyard/text/tokenizer.hpp"

namespace switchyard::text {

// Files by name with their content.
using NamedFiles = std::vector<std::pair<std::string, std::string>>;

// tokenizer.ggml.*, by the names of its keys.
struct GgufVocabulary {
  enum TokenType : std::int32_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

  std::string model;  // "llama" (SentencePiece BPE), "gpt2" (byte-level BPE), "none"
  std::string pre;    // gpt2: how the text is cut
  std::vector<std::string> tokens;
  std::vector<float> scores;  // llama: one a token
  std::vector<std::int32_t> token_type;
  std::vector<std::string> merges;                                   // gpt2: "left right" in order of rank
  std::optional<std::int32_t> bos, eos, eot, eom, unknown, padding;  // ids; eot and eom end a text too
  std::optional<bool> add_bos, add_eos, add_space_prefix;
  std::string chat_template;                                        // empty: none
  std::vector<std::pair<std::string, std::string>> more_templates;  // name and source of those for other uses

  bool operator==(const GgufVocabulary&) const = default;
};

// The files of a folder that belong to its tokenizer, with what begins and ends a text. Empty where there are none.
NamedFiles tokenizer_files(const std::filesystem::path& folder);

// The tokenizer that these files describe, made `vocab_size` tokens long. `pre`: a name for how the text is cut instead
// of the one that its regular expressions tell; may be empty. Throws kUnsupported, with the expressions, where there is
// no such name. A tokenizer of a kind that GGUF does not have gives a vocabulary of model "none" and a `note` that says
// so. `name` stands for the files in messages.
struct GgufVocabularyOf {
  GgufVocabulary vocabulary;
  std::string note;
};
GgufVocabularyOf gguf_vocabulary(const NamedFiles& files, const std::string& name, Index vocab_size,
                                 const std::string& pre);

// The other way: tokenizer.json, tokenizer_config.json and generation_config.json. Throws kUnsupported for a model or a
// cut that is not known, naming it and those that are, kBadInput where the lists do not fit together. Of model "none"
// there are no files. `name` stands for the GGUF file in messages.
NamedFiles hugging_face_files(const GgufVocabulary& vocabulary, const std::string& name);

// The tokenizer that the files make. Null where they make none. `name` stands for them in messages.
std::unique_ptr<Tokenizer> load_tokenizer(const NamedFiles& files, const std::string& name);

}  // namespace switchyard::text
