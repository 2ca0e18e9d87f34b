#pragma once
// The "pre_tokenizer" of a tokenizer.json: cuts a text into the pieces that the model encodes one by one.

#include <memory>
#include <string_view>
#include <vector>

#include "json_node.hpp"
#include "regex.hpp"

namespace switchyard::text {

// Takes pieces one after the other; their bytes live only as long as the call.
class PieceSink {
 public:
  virtual ~PieceSink() = default;
  // `at_start`: the piece begins where the whole text begins.
  virtual void piece(std::string_view piece, bool at_start) = 0;
};

// Const functions are thread-safe.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  // `piece` is valid UTF-8 and not empty; so is what `sink` gets.
  virtual void split(std::string_view piece, bool at_start, RegexScratch& scratch, PieceSink& sink) const = 0;
};

struct PreTokenizers {
  std::vector<std::unique_ptr<PreTokenizer>> steps;
  // The last step writes bytes as characters (ByteLevel). It is left out of `steps`: the model works on bytes.
  bool byte_level = false;
};

// Throws kBadInput where it is malformed, kUnsupported for an unknown type.
PreTokenizers read_pre_tokenizer(const JsonNode& node);

// The step that PreTokenizers::byte_level leaves out, for a model that works on characters.
std::unique_ptr<PreTokenizer> byte_characters_step();

// tiktoken's: the matches of a regular expression; what lies between them is dropped.
std::unique_ptr<PreTokenizer> keep_matches(Regex regex);

}  // namespace switchyard::text
