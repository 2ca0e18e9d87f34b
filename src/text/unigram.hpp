#pragma once
// The unigram model: of all ways to cut a piece into tokens, the one with the highest sum of scores.
// Source: Kudo, "Subword regularization" (ACL 2018). The details follow the Hugging Face tokenizers library.

#include <cstdint>
#include <string_view>
#include <vector>

#include "vocabulary.hpp"

namespace switchyard::text {

class Unigram {
 public:
  // `scores` by id. Characters without a token become `unknown_id`, several in a row one token, or with byte_fallback
  // the tokens "<0x00>" to "<0xFF>" of their bytes. -1: there is no unknown token.
  Unigram(Vocabulary vocabulary, std::vector<double> scores, std::int32_t unknown_id, bool byte_fallback);

  // Appends the ids of `piece`, which is valid UTF-8. Throws kBadInput where it needs an unknown token and there is
  // none.
  void encode(std::string_view piece, PieceCache& cache, std::vector<std::int32_t>& ids) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  void search(std::string_view piece, std::vector<std::int32_t>& ids) const;
  void add_token(std::string_view text, std::vector<std::int32_t>& ids) const;

  Vocabulary vocabulary_;
  std::vector<double> scores_;
  std::int32_t unknown_id_;
  bool byte_fallback_;
  double lowest_score_ = 0;
  // A trie of all tokens: (node << 8 | byte) to the next node, and the token that ends at a node.
  MergeTable children_;
  std::vector<std::int32_t> token_at_;
};

}  // namespace switchyard::text
