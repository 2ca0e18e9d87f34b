#pragma once
// The tokenizer that tokenizer.json and tiktoken files describe: added tokens, normaliser, pre-tokenizers, model,
// decoder. What each does follows the Hugging Face tokenizers library.

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "added_tokens.hpp"
#include "bpe.hpp"
#include "companions.hpp"
#include "decoders.hpp"
#include "normalizers.hpp"
#include "pre_tokenizers.hpp"
#include "switchyard/text/tokenizer.hpp"
#include "unigram.hpp"

namespace switchyard::text {

struct Pipeline {
  std::string name;  // of the file, for messages
  std::string kind;
  std::unique_ptr<Normalizer> normalizer;
  std::vector<std::unique_ptr<PreTokenizer>> pre_tokenizers;
  std::variant<std::unique_ptr<Bpe>, std::unique_ptr<Unigram>> model;
  // Tokens as the file writes them. The model's own table may hold their bytes instead.
  Vocabulary tokens;
  bool byte_tokens = false;  // `tokens` holds bytes, and decoding is joining them
  std::unique_ptr<Decoder> decoder;
  std::vector<AddedToken> added;  // with ids; content is valid UTF-8
  SpecialTokens special;
  bool parse_special = true;  // encode() finds special tokens in the text
  NamedFiles files;           // what save() writes

  std::int32_t id_limit() const;                    // the highest id + 1, added tokens included
  std::int32_t find(std::string_view token) const;  // an added token's id, or a token's; -1 where there is none
};

// Throws kBadInput where parts do not fit together.
std::unique_ptr<Tokenizer> make_pipeline_tokenizer(Pipeline pipeline);

}  // namespace switchyard::text
