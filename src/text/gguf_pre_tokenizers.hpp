#pragma once
// The names that GGUF has for the ways in which byte-level tokenizers cut a text (tokenizer.ggml.pre).

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::text {

struct GgufPreTokenizer {
  std::string_view name;
  std::vector<std::string_view> splits;  // regular expressions, one after the other; matches and gaps are pieces
  bool gpt2_last = false;                // GPT-2's own expression after them
  bool nfc = false;                      // published tokenizers of this name put the text into this form before
  bool ignore_merges = false;            // a piece that is a token is taken whole
};

// Null where the name is not known, one of other spellings included.
const GgufPreTokenizer* find_gguf_pre_tokenizer(std::string_view name);
std::string known_gguf_pre_tokenizers();  // for messages

// A member of a JSON object, or the default where it is not there or of another type.
std::string member_text(const nlohmann::json& object, const char* key);
bool member_flag(const nlohmann::json& object, const char* key, bool otherwise = false);

// The one that cuts as the parts of a tokenizer.json say: pre_tokenizer and model. Null where there is none.
const GgufPreTokenizer* recognise_gguf_pre_tokenizer(const nlohmann::json& tokenizer);
// The same of a tiktoken file's single expression.
const GgufPreTokenizer* recognise_gguf_pattern(std::string_view pattern);
// The expressions of a tokenizer.json, for messages.
std::string describe_pre_tokenizer(const nlohmann::json& tokenizer);

// pre_tokenizer of a tokenizer.json.
nlohmann::ordered_json pre_tokenizer_json(const GgufPreTokenizer& pre);

}  // namespace switchyard::text
