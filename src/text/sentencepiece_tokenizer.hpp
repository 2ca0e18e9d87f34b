#pragma once

#include <memory>
#include <string>

#include "companions.hpp"
#include "switchyard/text/tokenizer.hpp"

namespace switchyard::text {

// `model` is the content of a tokenizer.model; `companions` are the Hugging Face files found beside it. Throws
// kBadInput, with `name`, where the model is malformed.
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string model, const std::string& name,
                                                        const FolderSettings& settings, NamedFiles companions);

// The library logs to standard error by default. Call before any use of it.
void silence_sentencepiece();

}  // namespace switchyard::text
