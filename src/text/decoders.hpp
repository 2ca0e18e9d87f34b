#pragma once
// The "decoder" of a tokenizer.json: from the tokens of a sequence to its text.

#include <memory>
#include <string>
#include <vector>

#include "json_node.hpp"
#include "regex.hpp"

namespace switchyard::text {

// Const functions are thread-safe.
class Decoder {
 public:
  virtual ~Decoder() = default;
  // All tokens of a sequence, in and out; those that come out only have to be joined.
  virtual void decode(std::vector<std::string>& tokens, RegexScratch& scratch) const = 0;
  // One token that stands within a text, to the bytes it stands for there. False: what follows in a sequence of
  // decoders works on the joined text and is not about single tokens.
  virtual bool decode_one(std::string& token, RegexScratch& scratch) const = 0;
};

// Null where the file has none. Throws kBadInput where it is malformed, kUnsupported for an unknown type.
std::unique_ptr<Decoder> read_decoder(const JsonNode& node);

// From characters for bytes (byte_alphabet.hpp) to the bytes; a token that has other characters stays as it is.
std::string byte_level_bytes(std::string_view token);

}  // namespace switchyard::text
