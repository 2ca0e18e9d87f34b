#pragma once
// What an encoder-decoder wrote, as text for people: sentinels and other special tokens by their names.

#include <string>

#include "switchyard/text/tokenizer.hpp"

namespace switchyard::cli {

// Piece by piece, as text::StreamDecoder, whose rules hold for what lies between special tokens. The space before the
// first word is dropped: nothing stands before it. The tokenizer must outlive it.
class AnswerText {
 public:
  explicit AnswerText(const text::Tokenizer& tokenizer) : tokenizer_(&tokenizer), decoder_(tokenizer) {}
  std::string push(std::int32_t id) {
    std::string piece = decoder_.push(id);
    if (tokenizer_->token_bytes(id).empty()) piece += decoder_.finish() + tokenizer_->token_text(id);
    if (at_start_ && !piece.empty()) {
      at_start_ = false;
      if (piece.front() == ' ') piece.erase(0, 1);
    }
    return piece;
  }
  std::string finish() { return decoder_.finish(); }

 private:
  const text::Tokenizer* tokenizer_;
  text::StreamDecoder decoder_;
  bool at_start_ = true;
};

}  // namespace switchyard::cli
