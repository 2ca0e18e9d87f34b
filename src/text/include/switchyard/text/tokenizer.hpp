#pragma once
// Text to token ids and back.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "switchyard/base/index.hpp"

namespace switchyard::text {

// Ids are 0 to vocab_size() - 1. Const functions are thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // The ids of a text; no begin or end token is added. Throws kBadInput, with the byte offset, where the text is not
  // valid UTF-8 (the byte tokenizer takes any bytes) or has a character that the vocabulary cannot express.
  virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;

  // The text of a whole sequence. For the tokenizers made here decode(encode(text)) == text; a published
  // SentencePiece model may normalise. The result is not valid UTF-8 where the ids end within a character.
  // Throws kBadInput where an id is out of range.
  virtual std::string decode(std::span<const std::int32_t> ids) const;

  // The bytes that one token stands for within a text; empty for begin, end and other control tokens. Throws kBadInput
  // where the id is out of range.
  virtual std::string token_bytes(std::int32_t id) const = 0;

  virtual Index vocab_size() const = 0;
  virtual std::string kind() const = 0;  // "byte", "char" or "sentencepiece"
  virtual std::optional<std::int32_t> bos_id() const { return std::nullopt; }
  virtual std::optional<std::int32_t> eos_id() const { return std::nullopt; }

  // Writes the files that belong into a Hugging Face checkpoint folder, which must exist: what load_tokenizer() reads,
  // and tokenizer.json with tokenizer_config.json, from which `transformers` gets the same ids. A SentencePiece model
  // that was loaded with Hugging Face files beside it keeps those as they were; one that normalises and had none is
  // written as tokenizer.model alone.
  virtual void save(const std::filesystem::path& folder) const = 0;

 protected:
  void check_id(std::int32_t id) const;
};

// Turns generated ids into text piece by piece. What push() returned is always whole characters of valid UTF-8; bytes
// that can never become a character come out as U+FFFD. Follows on from a prompt: no leading space is dropped.
// The tokenizer must outlive it. Not thread-safe.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}
  std::string push(std::int32_t id);
  // What is held back, as U+FFFD. Afterwards the decoder is as new.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  std::string held_;
};

// One id a byte: 256 ids.
std::unique_ptr<Tokenizer> make_byte_tokenizer();

// One id a Unicode code point of `training_text`, in the order of the code points. Throws kBadInput where the text is
// empty or, with the byte offset, not valid UTF-8.
std::unique_ptr<Tokenizer> make_char_tokenizer(std::string_view training_text);

// Byte-pair encoding learnt by the SentencePiece library. The settings lose nothing: no normalisation, spaces and
// newlines kept, and a character outside the vocabulary is spelt in bytes. Digits stay single. Ids 0, 1 and 2 are
// <unk> (never produced), <s> and </s>; then come the 256 bytes.
// Source: Kudo and Richardson, "SentencePiece" (EMNLP 2018); Sennrich et al., "Neural machine translation of rare words
// with subword units" (ACL 2016).
struct SentencePieceTraining {
  Index vocab_size = 4096;
  // This share of the text's characters gets pieces of its own; the rest, the rarest ones, are spelt in bytes.
  double character_coverage = 0.9995;
  // Of a larger text, evenly spread blocks that make up this much are learnt from.
  Index max_training_bytes = Index{32} << 20;
};
// Throws kBadInput where a text is not valid UTF-8 (with name and byte offset), or where the texts are too small for
// the vocabulary or have too many characters for it (with the size that would do). The same input gives the same
// tokenizer. `names` are for messages; one a text.
std::unique_ptr<Tokenizer> train_sentencepiece(std::span<const std::string_view> texts,
                                               std::span<const std::string> names,
                                               const SentencePieceTraining& training);
std::unique_ptr<Tokenizer> train_sentencepiece(std::span<const std::filesystem::path> files,
                                               const SentencePieceTraining& training);

// Recognises what the folder holds: switchyard_tokenizer.json (byte and char) or tokenizer.model (SentencePiece).
// Throws kNotFound, naming the files looked for; kBadInput where the file is malformed; kUnsupported where the folder
// only has a tokenizer of another kind.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& folder);

// The two parsers behind load_tokenizer(), for bytes in memory. `name` is for messages. The input is not trusted.
std::unique_ptr<Tokenizer> parse_switchyard_tokenizer(std::string_view json, const std::string& name);
std::unique_ptr<Tokenizer> parse_sentencepiece(std::string_view model, const std::string& name);

}  // namespace switchyard::text
