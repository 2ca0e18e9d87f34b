#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "switchyard/text/tokenizer.hpp"

namespace switchyard::text {

// Hugging Face files found beside a tokenizer.model: name and content.
using CompanionFiles = std::vector<std::pair<std::string, std::string>>;

// `model` is the content of a tokenizer.model. Throws kBadInput, with `name`, where it is malformed.
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string model, const std::string& name,
                                                        CompanionFiles companions);

// The library logs to standard error by default. Call before any use of it.
void silence_sentencepiece();

}  // namespace switchyard::text
