#include "unicode_text.hpp"

#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>

#include "switchyard/text/utf8.hpp"

namespace switchyard::text::jinja {
namespace {

bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; }

UChar32 code(char32_t c) { return static_cast<UChar32>(c); }

std::string in_utf8(const icu::UnicodeString& text) {
  std::string result;
  text.toUTF8String(result);
  return result;
}

icu::UnicodeString in_utf16(std::string_view text) {
  return icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<std::int32_t>(text.size())));
}

// The full mapping of one character; Python's has no locale either.
std::string title_character(std::string_view character) {
  icu::UnicodeString text = in_utf16(character);
  text.toTitle(nullptr, icu::Locale::getRoot());
  return in_utf8(text);
}

bool is_cased(char32_t c) { return u_hasBinaryProperty(code(c), UCHAR_CASED) != 0; }

}  // namespace

std::size_t count_characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return !continues(c); }));
}

std::size_t byte_of_character(std::string_view text, std::size_t character) {
  for (std::size_t byte = 0; byte < text.size(); ++byte) {
    if (continues(text[byte])) continue;
    if (character-- == 0) return byte;
  }
  return text.size();
}

std::size_t next_character(std::string_view text, std::size_t byte) {
  ++byte;
  while (byte < text.size() && continues(text[byte])) ++byte;
  return byte;
}

std::size_t previous_character(std::string_view text, std::size_t byte) {
  --byte;
  while (byte > 0 && continues(text[byte])) --byte;
  return byte;
}

char32_t character_at(std::string_view text, std::size_t byte) { return read_utf8(text.substr(byte)).code_point; }

bool is_space(char32_t c) { return (c >= 0x1C && c <= 0x1F) || u_hasBinaryProperty(code(c), UCHAR_WHITE_SPACE) != 0; }

bool is_printable(char32_t c) {
  if (c == U' ') return true;
  const auto category = static_cast<unsigned>(u_charType(code(c)));
  constexpr unsigned kHidden = U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CS_MASK | U_GC_CO_MASK | U_GC_CN_MASK | U_GC_ZL_MASK |
                               U_GC_ZP_MASK | U_GC_ZS_MASK;
  return ((1U << category) & kHidden) == 0;
}

std::string upper(std::string_view text) {
  icu::UnicodeString wide = in_utf16(text);
  return in_utf8(wide.toUpper(icu::Locale::getRoot()));
}

std::string lower(std::string_view text) {
  icu::UnicodeString wide = in_utf16(text);
  return in_utf8(wide.toLower(icu::Locale::getRoot()));
}

std::string title_first(std::string_view text) {
  if (text.empty()) return {};
  const std::size_t first = next_character(text, 0);
  return title_character(text.substr(0, first)) + lower(text.substr(first));
}

std::string title_words(std::string_view text) {
  const std::string small = lower(text);
  std::string result;
  bool within = false;
  for (std::size_t byte = 0; byte < small.size();) {
    const std::size_t end = next_character(small, byte);
    const std::string_view character = std::string_view(small).substr(byte, end - byte);
    result += within ? std::string(character) : title_character(character);
    within = is_cased(character_at(small, byte));
    byte = end;
  }
  return result;
}

std::string swap_case(std::string_view text) {
  std::string result;
  for (std::size_t byte = 0; byte < text.size();) {
    const std::size_t end = next_character(text, byte);
    const std::string_view character = text.substr(byte, end - byte);
    const UChar32 c = code(character_at(text, byte));
    result += u_isUUppercase(c) != 0   ? lower(character)
              : u_isULowercase(c) != 0 ? upper(character)
                                       : std::string(character);
    byte = end;
  }
  return result;
}

bool all_of_class(std::string_view text, CharacterClass what) {
  using Class = CharacterClass;
  bool found = false;
  for (std::size_t byte = 0; byte < text.size(); byte = next_character(text, byte)) {
    const char32_t c = character_at(text, byte);
    const auto type = u_getIntPropertyValue(code(c), UCHAR_NUMERIC_TYPE);
    const bool decimal = type == U_NT_DECIMAL, digit = decimal || type == U_NT_DIGIT, numeric = type != U_NT_NONE;
    const bool alpha = (U_MASK(u_charType(code(c))) & U_GC_L_MASK) != 0;
    switch (what) {
      case Class::kAlpha:
        if (!alpha) return false;
        break;
      case Class::kDigit:
        if (!digit) return false;
        break;
      case Class::kDecimal:
        if (!decimal) return false;
        break;
      case Class::kNumeric:
        if (!numeric) return false;
        break;
      case Class::kAlnum:
        if (!alpha && !numeric) return false;
        break;
      case Class::kSpace:
        if (!is_space(c)) return false;
        break;
      case Class::kUpper:
        if (u_isULowercase(code(c)) != 0 || u_charType(code(c)) == U_TITLECASE_LETTER) return false;
        if (u_isUUppercase(code(c)) == 0) continue;
        break;
      case Class::kLower:
        if (u_isUUppercase(code(c)) != 0 || u_charType(code(c)) == U_TITLECASE_LETTER) return false;
        if (u_isULowercase(code(c)) == 0) continue;
        break;
    }
    found = true;
  }
  return found;
}

char32_t character_named(const std::string& name) {
  UErrorCode status = U_ZERO_ERROR;
  const UChar32 found = u_charFromName(U_EXTENDED_CHAR_NAME, name.c_str(), &status);
  return U_FAILURE(status) != 0 ? 0 : static_cast<char32_t>(found);
}

Searcher::Searcher(std::string_view needle) : needle_(needle) {
  // A short needle costs little wherever it almost fits.
  constexpr std::size_t kShort = 32;
  if (needle.size() <= kShort) return;
  border_.assign(needle.size(), 0);
  for (std::size_t i = 1, k = 0; i < needle.size(); ++i) {
    while (k > 0 && needle[i] != needle[k]) k = border_[k - 1];
    if (needle[i] == needle[k]) ++k;
    border_[i] = k;
  }
}

std::size_t Searcher::find(std::string_view text, std::size_t from) const {
  if (border_.empty()) return text.find(needle_, from);
  for (std::size_t i = from, k = 0; i < text.size(); ++i) {
    while (k > 0 && text[i] != needle_[k]) k = border_[k - 1];
    if (text[i] == needle_[k]) ++k;
    if (k == needle_.size()) return i + 1 - k;
  }
  return std::string_view::npos;
}

}  // namespace switchyard::text::jinja
