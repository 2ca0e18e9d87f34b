#pragma once
// Characters of UTF-8 text as Python's str sees them.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::text::jinja {

std::size_t count_characters(std::string_view text);
// The byte where character number `character` begins; the end of the text where there are not so many.
std::size_t byte_of_character(std::string_view text, std::size_t character);
std::size_t next_character(std::string_view text, std::size_t byte);      // the byte behind the one at `byte`
std::size_t previous_character(std::string_view text, std::size_t byte);  // the byte of the one that ends at `byte`
char32_t character_at(std::string_view text, std::size_t byte);

bool is_space(char32_t c);      // str.isspace()
bool is_printable(char32_t c);  // str.isprintable()

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string title_first(std::string_view text);  // the first character in title case, the others small
std::string title_words(std::string_view text);  // str.title()
std::string swap_case(std::string_view text);

enum class CharacterClass { kAlpha, kDigit, kDecimal, kNumeric, kAlnum, kSpace, kUpper, kLower };
// str.isalpha() and so on.
bool all_of_class(std::string_view text, CharacterClass what);

// The character of that Unicode name; 0 where there is none.
char32_t character_named(const std::string& name);

// Finds a text in others, in linear time whatever the two are.
class Searcher {
 public:
  explicit Searcher(std::string_view needle);
  std::size_t find(std::string_view text, std::size_t from = 0) const;  // npos where it is not there

 private:
  std::string_view needle_;
  std::vector<std::size_t> border_;
};

}  // namespace switchyard::text::jinja
