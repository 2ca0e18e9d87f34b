#pragma once
// UTF-8 as the Unicode standard (section 3.9) defines it: overlong forms, surrogates and values above U+10FFFF are
// invalid. All functions are thread-safe.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace switchyard::text {

enum class Utf8Status {
  kValid,       // a whole character
  kInvalid,     // bytes that no continuation can make valid
  kIncomplete,  // the text ends within a character that is valid so far
};

// What stands at the start of `text`, which must not be empty.
struct Utf8Step {
  Utf8Status status;
  std::size_t length;   // bytes: of the character, of the invalid part (maximal subpart), or of all that is left
  char32_t code_point;  // only where valid
};
Utf8Step read_utf8(std::string_view text);

// The offset of the first byte that is not part of a valid character; nothing where all of `text` is valid.
std::optional<std::size_t> find_invalid_utf8(std::string_view text);

// Appends one character. The code point must be a Unicode scalar value (kInternal otherwise).
void append_utf8(std::string& text, char32_t code_point);

// Each invalid or incomplete part becomes one U+FFFD. The result is always valid, so that it can be put into JSON.
std::string replace_invalid_utf8(std::string_view text);

}  // namespace switchyard::text
