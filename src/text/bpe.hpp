#pragma once
// Byte-pair encoding of one piece of text.
// Source: Sennrich et al., "Neural machine translation of rare words with subword units" (ACL 2016). The details follow
// the BPE model of the Hugging Face tokenizers library, and tiktoken where merges are ranked by id.

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "vocabulary.hpp"

namespace switchyard::text {

struct BpeSettings {
  enum class Unit { kByte, kCharacter };  // what a piece is cut into at first
  Unit unit = Unit::kByte;
  // The pair whose union is the token of the lowest id merges first; there is no list of merges.
  bool rank_is_id = false;
  bool ignore_merges = false;  // a piece that is a token is taken whole
  // What becomes of a unit that is no token: its bytes as tokens "<0x00>" to "<0xFF>", or the unknown token, or
  // nothing.
  bool byte_fallback = false;
  std::string unknown;  // empty: none
  bool fuse_unknown = false;
  std::string continuing_prefix, end_suffix;  // kCharacter only
};

class Bpe {
 public:
  struct Rule {
    std::int32_t left, right, id;  // in order of rank
  };
  // `unknown_id`: of settings.unknown, -1 where the vocabulary lacks it.
  Bpe(Vocabulary vocabulary, const std::vector<Rule>& rules, BpeSettings settings, std::int32_t unknown_id);

  // Appends the ids of `piece`, which is valid UTF-8 where the units are characters. Throws kBadInput where a unit
  // needs the unknown token, which the vocabulary lacks.
  void encode(std::string_view piece, PieceCache& cache, std::vector<std::int32_t>& ids) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  class Word;
  void encode_part(std::string_view part, PieceCache& cache, std::vector<std::int32_t>& ids) const;
  void merge(std::string_view part, std::vector<std::int32_t>& ids) const;
  void add_units(std::string_view part, Word& word) const;
  std::int32_t unit_id(std::string_view part, std::size_t begin, std::size_t length, std::string& spelling) const;
  bool may_cut(char32_t left, char32_t right) const;
  void find_joins(const std::vector<Rule>& rules);

  Vocabulary vocabulary_;
  BpeSettings settings_;
  MergeTable merges_;
  std::int32_t unknown_id_;
  std::array<std::int32_t, 256> byte_ids_;   // kByte: of the unit; kCharacter: of the fallback token
  std::array<std::int32_t, 128> ascii_ids_;  // kCharacter without prefix and suffix
  bool all_bytes_ = false;                   // byte_fallback has all 256 tokens
  // Two characters side by side that no merge joins: a long piece is cut there, as nothing can reach across.
  bool cuts_ = false;
  std::array<std::uint64_t, 256> ascii_joins_{};  // 128 x 128 bits
  std::vector<std::uint64_t> joins_;              // other pairs, a hash set of left << 32 | right, 0 where free
};

}  // namespace switchyard::text
