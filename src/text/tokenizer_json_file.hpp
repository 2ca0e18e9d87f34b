#pragma once
// Reads the JSON of a tokenizer.json. The two long lists, the model's vocabulary and merges, go straight into tables;
// the rest becomes a small tree.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::text {

struct TokenizerJsonFile {
  nlohmann::json rest;  // without model.vocab and model.merges

  enum class Form { kNone, kObject, kList };
  Form vocab_form = Form::kNone;  // {"token": id, ...}, or [["token", score], ...] with ids in order
  struct Token {
    std::size_t begin, length;  // in `characters`
    std::int64_t id;
    double score;
  };
  std::vector<Token> tokens;

  bool has_merges = false;
  struct Merge {
    std::size_t begin, left, right;  // two tokens side by side in `characters`
  };
  std::vector<Merge> merges;

  std::string characters;
  std::string_view text(std::size_t begin, std::size_t length) const {
    return std::string_view(characters).substr(begin, length);
  }
};

// `name` is for messages. Throws kBadInput where the text is not JSON, is nested too deeply, or has another kind of
// value in these lists.
TokenizerJsonFile read_tokenizer_json(std::string_view json, const std::string& name);

}  // namespace switchyard::text
