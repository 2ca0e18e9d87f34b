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

// A stretch of a text, in bytes, that somebody else wrote than the rest: somebody using the program, or the model.
struct ForeignText {
  std::size_t begin, end;
  bool generated;  // by the model
};

// Ids are 0 to vocab_size() - 1. Const functions are thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // The ids of a text; no begin or end token is added. Special tokens that the text spells out ("<|im_end|>") become
  // those tokens where the tokenizer comes from a tokenizer.json or a tiktoken file, as in the reference libraries,
  // unless the tokenizer_config.json beside it says split_special_tokens; the other kinds know none. Bytes that are not
  // valid UTF-8: published tokenizers know only text and get U+FFFD for each invalid part (replace_invalid_utf8); the
  // byte tokenizer takes any bytes; the character tokenizer and a SentencePiece model that loses nothing throw
  // kBadInput with the byte offset. Throws kBadInput too where the text has a character that the vocabulary cannot
  // express.
  virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;

  // The same, but a special token spelt out in the text is text like any other: for text that is not trusted.
  virtual std::vector<std::int32_t> encode_plain(std::string_view text) const { return encode(text); }

  // A text of several authors, such as a rendered conversation. Tokens that stand beside the vocabulary are found as by
  // encode(), control tokens of a SentencePiece model too, but not where they touch a stretch of `foreign` (ascending,
  // apart): nobody can write the end of a turn into a message. What the model generated may spell such tokens as are
  // not special ("<think>"), since it was printed so; what a user wrote, none but spaces and words.
  virtual std::vector<std::int32_t> encode_mixed(std::string_view text, std::span<const ForeignText> foreign) const {
    static_cast<void>(foreign);
    return encode_plain(text);
  }

  // The text of a whole sequence. For the tokenizers made here decode(encode(text)) == text; a published one may
  // normalise. With a tokenizer.json or tiktoken file the text has special tokens spelt out and U+FFFD for what is no
  // character, as the reference library gives it; with the others the result is not valid UTF-8 where the ids end
  // within a character. Throws kBadInput where an id is out of range.
  virtual std::string decode(std::span<const std::int32_t> ids) const;

  // The bytes that one token stands for within a text; empty for begin, end and other control tokens, and for an id
  // without a token. Throws kBadInput where the id is out of range.
  virtual std::string token_bytes(std::int32_t id) const = 0;

  // The token for people to read: a control token by its name, others as token_bytes().
  virtual std::string token_text(std::int32_t id) const { return token_bytes(id); }

  virtual Index vocab_size() const = 0;
  // "byte", "char", "sentencepiece", "byte-level bpe", "bpe", "unigram" or "tiktoken".
  virtual std::string kind() const = 0;
  virtual std::optional<std::int32_t> bos_id() const { return std::nullopt; }
  virtual std::optional<std::int32_t> eos_id() const { return std::nullopt; }

  // All ids that end a text: those of generation_config.json, or else of config.json, or else eos_id().
  virtual std::vector<std::int32_t> end_ids() const;

  // Whether the published tokenizer puts bos_id() in front of a text. Then there is one.
  virtual bool add_bos() const { return false; }
  // Whether it puts eos_id() behind one, as those of encoder-decoders do. Then there is one.
  virtual bool add_eos() const { return false; }

  // Writes the files that belong into a Hugging Face checkpoint folder, which must exist: what load_tokenizer() reads,
  // and tokenizer.json with tokenizer_config.json, from which `transformers` gets the same ids. A published tokenizer
  // is written as it was found, with the tokenizer's files that stood beside it; a SentencePiece model that normalises
  // and had none is written as tokenizer.model alone.
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

// Recognises what the folder holds, in this order: switchyard_tokenizer.json (byte and char), tokenizer.json (Hugging
// Face), tokenizer.model (SentencePiece, or tiktoken by its content), spiece.model (SentencePiece as T5 has it, with
// tokens <extra_id_0> and on behind it), tiktoken.model or *.tiktoken. A tokenizer.model
// that loses nothing, such as those trained here, goes before the tokenizer.json beside it, which says the same; and so
// does any tokenizer.model where the tokenizer.json has parts that are not supported. tokenizer_config.json,
// generation_config.json and config.json beside them tell begin and end tokens.
// Throws kNotFound, naming the files looked for; kBadInput where a file is malformed; kUnsupported, naming file and
// key, for what this build cannot do.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& folder);

// Whether the folder has a file that load_tokenizer() would read.
bool has_tokenizer(const std::filesystem::path& folder);

// The parsers behind load_tokenizer(), for bytes in memory. `name` is for messages. The input is not trusted.
std::unique_ptr<Tokenizer> parse_switchyard_tokenizer(std::string_view json, const std::string& name);
std::unique_ptr<Tokenizer> parse_sentencepiece(std::string_view model, const std::string& name);
std::unique_ptr<Tokenizer> parse_tokenizer_json(std::string_view json, const std::string& name);
// `pattern` cuts the text; empty: the one that name and number of tokens tell.
std::unique_ptr<Tokenizer> parse_tiktoken(std::string_view ranks, const std::string& name, const std::string& pattern);

}  // namespace switchyard::text
