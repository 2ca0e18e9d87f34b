#pragma once
// Tokens that stand beside the model's vocabulary and are found in the text before it is cut into pieces.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "switchyard/text/tokenizer.hpp"
#include "vocabulary.hpp"

namespace switchyard::text {

struct AddedToken {
  std::int32_t id = -1;
  std::string content;
  bool single_word = false;             // only where no word character stands beside it
  bool lstrip = false, rstrip = false;  // takes the white space beside it
  bool normalized = false;              // found in the normalised text
  bool special = false;
};

// The stretches of `foreign` within a part of the text, from its begin on.
std::vector<ForeignText> foreign_within(std::span<const ForeignText> foreign, std::size_t begin, std::size_t end);

// Finds added tokens: the leftmost, of those the longest, then on behind it. Const functions are thread-safe.
class AddedTokenMatcher {
 public:
  AddedTokenMatcher() : children_(0), tokens_at_(1, -1) {}
  struct Entry {
    std::string pattern;
    const AddedToken* token;  // must outlive the matcher
  };
  explicit AddedTokenMatcher(const std::vector<Entry>& entries);

  bool empty() const { return tokens_.empty(); }

  // Hands on the parts of `text` from left to right: a token, or null with text between tokens. With parse_special
  // false a special token is text like any other, though nothing within it is found. No token touches a stretch of
  // `foreign`, but for those that are not special in what the model generated, and for spaces and words.
  void split(std::string_view text, bool parse_special, std::span<const ForeignText> foreign,
             const std::function<void(std::string_view part, const AddedToken* token)>& sink) const;

 private:
  struct Match {
    std::size_t length = 0;
    const AddedToken* token = nullptr;
  };
  Match longest_at(std::string_view text, std::size_t at) const;

  std::vector<const AddedToken*> tokens_;
  bool first_bytes_[256] = {};
  MergeTable children_;  // (node, byte) to the next node
  std::vector<std::int32_t> tokens_at_;
};

}  // namespace switchyard::text
