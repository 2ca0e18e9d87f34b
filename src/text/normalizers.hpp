#pragma once
// The "normalizer" of a tokenizer.json.

#include <memory>
#include <string>

#include "json_node.hpp"
#include "regex.hpp"

namespace switchyard::text {

// Const functions are thread-safe.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  // `text` is valid UTF-8 and stays so.
  virtual void normalize(std::string& text, RegexScratch& scratch) const = 0;
};

// Null where the file has none. Throws kBadInput where it is malformed, kUnsupported for an unknown type.
std::unique_ptr<Normalizer> read_normalizer(const JsonNode& node);

}  // namespace switchyard::text
