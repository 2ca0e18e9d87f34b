#pragma once
// The tokenizer in a GGUF file's metadata.

#include <string>

#include "switchyard/formats/gguf.hpp"
#include "switchyard/text/gguf_vocabulary.hpp"

namespace switchyard::model {

// Where files are whole: tokenizer.json under the key that GGUF has for it, others under this and their name.
inline constexpr std::string_view kTokenizerJsonKey = "tokenizer.huggingface.json";
inline constexpr std::string_view kFilePrefix = "switchyard.file.";

text::GgufVocabulary read_gguf_vocabulary(const formats::GgufMetadata& metadata);
void add_gguf_vocabulary(const text::GgufVocabulary& vocabulary, formats::GgufMetadata& metadata);

// The files that the tokenizer came from, whole.
void add_tokenizer_files(const text::NamedFiles& files, formats::GgufMetadata& metadata);
// The files of the model's tokenizer: those that are whole in the metadata, as long as they say what its keys say, or
// else files made of the keys. Empty where there is no tokenizer. `config` is the model's config.json. Throws as
// text::hugging_face_files().
text::NamedFiles gguf_tokenizer_files(const formats::GgufMetadata& metadata, const std::string& config);

}  // namespace switchyard::model
