#pragma once
// The normalisation of a SentencePiece model, and where a normalised text may be cut.
// Source: Kudo and Richardson, "SentencePiece" (EMNLP 2018), and the sentencepiece library, which does the same but
// gives no access to it.

#include <array>
#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "charsmap.hpp"
#include "sentencepiece_model.hpp"

namespace switchyard::text {

// Const functions are thread-safe.
class SentencePieceNormalizer {
 public:
  explicit SentencePieceNormalizer(const SentencePieceModel& model);
  // `text` is valid UTF-8; so is the result, in which spaces are U+2581 where the model escapes them.
  std::string normalize(std::string_view text) const;

 private:
  // What the text starts with, and what that becomes.
  struct Step {
    std::size_t length;
    std::string_view replacement;
  };
  Step step(std::string_view text) const;

  bool add_dummy_prefix_, remove_extra_whitespaces_, whitespace_as_suffix_;
  std::string_view space_;
  CharsMap table_;
  // User-defined pieces are never normalised. Longer ones first, by their first byte.
  std::array<std::vector<std::string>, 256> user_defined_;
};

// Tells where two characters meet that no piece has side by side. No piece can reach across such a place, so the parts
// can be encoded one by one.
class CharacterJoins {
 public:
  explicit CharacterJoins(const SentencePieceModel& model);
  bool joins(char32_t left, char32_t right) const;

 private:
  static std::uint64_t key(char32_t left, char32_t right) { return std::uint64_t{left} << 32 | right; }
  std::bitset<128 * 128> ascii_;
  std::vector<std::uint64_t> others_;  // a hash set of key() + 1, 0 where free
};

}  // namespace switchyard::text
