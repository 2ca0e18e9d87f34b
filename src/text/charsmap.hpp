#pragma once
// The normalisation table of a SentencePiece model: a trie from byte strings to their replacements.
// A table is the size of a double-array trie, the trie's 32-bit units, and zero-ended strings that its values point to.
// The trie's unit at i leads to i ^ offset ^ byte.
// Source: Aoe, "An efficient digital search algorithm by using a double-array structure" (1989), and the unit layout of
// the darts-clone library.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::text {

class CharsMap {
 public:
  CharsMap() = default;  // empty
  // Throws kBadInput, beginning with `where`, where a step or a value of the trie would lead outside.
  CharsMap(std::string_view table, const std::string& where);

  bool empty() const { return units_.empty(); }

  struct Prefix {
    std::size_t length;
    std::string_view replacement;
  };
  // Of the table's entries that `text` starts with.
  std::optional<Prefix> longest_prefix(std::string_view text) const;
  std::optional<std::string_view> shortest(std::string_view text) const;

 private:
  template <class Found>
  void prefixes(std::string_view text, Found&& found) const;
  std::string_view replacement(std::uint32_t value) const;

  std::vector<std::uint32_t> units_;
  std::string strings_;
};

// False where `text` is not base64 (RFC 4648, with or without its padding).
bool decode_base64(std::string_view text, std::string& bytes);

}  // namespace switchyard::text
