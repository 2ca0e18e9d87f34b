#include <sentencepiece_trainer.h>

#include <algorithm>
#include <array>
#include <exception>
#include <unordered_map>

#include "sentencepiece_model.hpp"
#include "sentencepiece_tokenizer.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/mapped_file.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

constexpr std::size_t kBlockBytes = 4096, kLongestBlock = std::size_t{1} << 16;

// Cuts texts into the trainer's "sentences". The trainer itself cuts at every run of spaces, so a cut in front of one
// loses nothing, and newlines stay inside, where pieces may be learnt from them. Characters that the trainer reserves
// for itself would make it drop the whole sentence; they are left out, which also cuts.
class BlockIterator final : public sentencepiece::SentenceIterator {
 public:
  BlockIterator(std::span<const std::string_view> texts, std::size_t limit) : texts_(texts) {
    std::size_t total = 0;
    for (const std::string_view text : texts) total += text.size();
    share_ = total <= limit ? 1.0 : static_cast<double>(limit) / static_cast<double>(total);
    Next();
  }

  bool done() const override { return done_; }
  const std::string& value() const override { return value_; }
  sentencepiece::util::Status status() const override { return {}; }

  void Next() override {
    while (true) {
      std::string_view block = next_block();
      if (block.empty()) {
        done_ = true;
        return;
      }
      // Evenly spread: a block is taken where the running share passes a whole number.
      const double before = share_ * static_cast<double>(seen_++);
      if (share_ < 1.0 && static_cast<std::uint64_t>(before + share_) == static_cast<std::uint64_t>(before)) continue;
      value_ = block;
      return;
    }
  }

 private:
  // Empty at the end.
  std::string_view next_block() {
    while (current_ < texts_.size() && position_ == texts_[current_].size()) {
      ++current_;
      position_ = 0;
    }
    if (current_ == texts_.size()) return {};
    const std::string_view left = texts_[current_].substr(position_);
    for (const std::string_view reserved : kReserved) {
      if (left.substr(0, reserved.size()) == reserved) {
        position_ += reserved.size();
        return next_block();
      }
    }
    std::size_t end = cut(left);
    for (const std::string_view reserved : kReserved) end = std::min(end, left.substr(0, end).find(reserved));
    position_ += end;
    return left.substr(0, end);
  }

  static std::size_t cut(std::string_view text) {
    if (text.size() <= kBlockBytes) return text.size();
    const std::string_view window = text.substr(0, kLongestBlock);
    for (std::size_t i = kBlockBytes; i < window.size(); ++i) {
      if (window[i] == ' ' && window[i - 1] != ' ') return i;
    }
    std::size_t end = window.size();
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
    return end;
  }

  static constexpr std::array<std::string_view, 3> kReserved = {kEscapedSpace, "\xE2\x96\x85",
                                                                std::string_view("\0", 1)};
  std::span<const std::string_view> texts_;
  double share_ = 1.0;
  std::uint64_t seen_ = 0;
  std::size_t current_ = 0, position_ = 0;
  std::string value_;
  bool done_ = false;
};

// The library's words for too many characters: "Vocabulary size is smaller than required_chars. 262 vs 263. ...".
// 0 where the message says something else.
Index needed_vocabulary(std::string_view message) {
  if (message.find("smaller than required_chars") == std::string_view::npos) return 0;
  const std::size_t versus = message.find(" vs ");
  if (versus == std::string_view::npos) return 0;
  Index needed = 0;
  for (const char c : message.substr(versus + 4)) {
    if (c < '0' || c > '9') break;
    needed = needed * 10 + (c - '0');
  }
  return needed;
}

}  // namespace

std::unique_ptr<Tokenizer> train_sentencepiece(std::span<const std::string_view> texts,
                                               std::span<const std::string> names,
                                               const SentencePieceTraining& training) {
  require(texts.size() == names.size(), "{} texts with {} names", texts.size(), names.size());
  constexpr Index kFixed = 3 + 256;  // <unk>, <s>, </s> and the bytes
  if (training.vocab_size <= kFixed || training.vocab_size > 1 << 20) {
    fail(ErrorKind::kBadInput, "a SentencePiece vocabulary of {} tokens, expected {} to {}", training.vocab_size,
         kFixed + 1, 1 << 20);
  }
  if (!(training.character_coverage > 0.0 && training.character_coverage <= 1.0)) {
    fail(ErrorKind::kBadInput, "a SentencePiece character coverage of {}, expected more than 0 and at most 1",
         training.character_coverage);
  }
  if (training.max_training_bytes < 1) {
    fail(ErrorKind::kBadInput, "{} bytes to learn SentencePiece from, expected at least 1",
         training.max_training_bytes);
  }
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (const auto invalid = find_invalid_utf8(texts[i])) {
      fail(ErrorKind::kBadInput, "{}: is not valid UTF-8: invalid byte sequence at byte {}", names[i], *invalid);
    }
  }
  silence_sentencepiece();
  BlockIterator blocks(texts, static_cast<std::size_t>(training.max_training_bytes));
  if (blocks.done()) fail(ErrorKind::kBadInput, "there is no text to learn a SentencePiece vocabulary from");
  std::string model;
  const std::unordered_map<std::string, std::string> settings = {
      {"model_type", "bpe"},
      {"vocab_size", std::to_string(training.vocab_size)},
      {"character_coverage", fmt::format("{}", training.character_coverage)},
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"byte_fallback", "true"},
      {"split_digits", "true"},
      {"allow_whitespace_only_pieces", "true"},
      {"max_sentence_length", std::to_string(kLongestBlock + 1)},
      // A text that is too small then ends in a smaller model, whose size the message below can name.
      {"hard_vocab_limit", "false"},
      {"minloglevel", "4"},
  };
  try {
    const auto status = sentencepiece::SentencePieceTrainer::Train(settings, &blocks, &model);
    if (!status.ok()) {
      if (const Index needed = needed_vocabulary(status.message()); needed > 0) {
        fail(ErrorKind::kBadInput,
             "a SentencePiece vocabulary of {} tokens is too small: the characters of this text (coverage {}) need at "
             "least {}",
             training.vocab_size, training.character_coverage, needed);
      }
      fail(ErrorKind::kBadInput, "SentencePiece cannot learn a vocabulary of {} tokens from this text: {}",
           training.vocab_size, status.message());
    }
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    fail(ErrorKind::kInternal, "SentencePiece training failed: {}", error.what());
  }
  auto tokenizer = make_sentencepiece_tokenizer(std::move(model), "the trained model", {}, {});
  if (tokenizer->vocab_size() != training.vocab_size) {
    fail(ErrorKind::kBadInput,
         "the text is too small for a SentencePiece vocabulary of {} tokens: the largest it gives is {}",
         training.vocab_size, tokenizer->vocab_size());
  }
  return tokenizer;
}

std::unique_ptr<Tokenizer> train_sentencepiece(std::span<const std::filesystem::path> files,
                                               const SentencePieceTraining& training) {
  std::vector<std::shared_ptr<const MappedFile>> mapped;
  std::vector<std::string_view> texts;
  std::vector<std::string> names;
  for (const auto& file : files) {
    mapped.push_back(MappedFile::open(file));
    const auto bytes = mapped.back()->bytes();
    texts.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    names.push_back(file.string());
  }
  return train_sentencepiece(texts, names, training);
}

}  // namespace switchyard::text
