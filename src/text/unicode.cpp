#include "unicode.hpp"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/ubrk.h>
#include <unicode/uchar.h>
#include <unicode/uniset.h>
#include <unicode/ustring.h>
#include <unicode/utext.h>

#include <algorithm>
#include <array>
#include <limits>

#include "switchyard/base/error.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

void check(UErrorCode status, std::string_view what) {
  require(U_SUCCESS(status) != 0, "ICU: {}: {}", what, u_errorName(status));
}

// The tokenizers library normalises by Unicode 9: what came later it leaves alone and takes for no part of what stands
// around it.
const icu::UnicodeSet& normalized_characters() {
  static const icu::UnicodeSet* const set = [] {
    UErrorCode status = U_ZERO_ERROR;
    auto* result = new icu::UnicodeSet(icu::UnicodeString("[:age=9.0:]"), status);
    check(status, "the characters of Unicode 9");
    result->freeze();
    return result;
  }();
  return *set;
}

const icu::Normalizer2& unfiltered(NormalForm form) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* result = nullptr;
  switch (form) {
    case NormalForm::kNfc:
      result = icu::Normalizer2::getNFCInstance(status);
      break;
    case NormalForm::kNfd:
      result = icu::Normalizer2::getNFDInstance(status);
      break;
    case NormalForm::kNfkc:
      result = icu::Normalizer2::getNFKCInstance(status);
      break;
    case NormalForm::kNfkd:
      result = icu::Normalizer2::getNFKDInstance(status);
      break;
  }
  check(status, "normalisation data");
  return *result;
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

UChar32 icu_character(char32_t c) { return static_cast<UChar32>(c); }

// Whether the character was there in that version of Unicode: some of the library's tables are older than ICU's.
bool is_as_old_as(char32_t c, int version) {
  UVersionInfo age;
  u_charAge(icu_character(c), age);
  return age[0] <= version;
}

}  // namespace

void normalize_unicode(std::string& text, NormalForm form) {
  if (is_ascii(text)) return;
  // ICU counts in 32 bits.
  if (text.size() > std::numeric_limits<std::int32_t>::max() / 8) {
    fail(ErrorKind::kUnsupported, "a text of {} bytes is too long to normalise at once", text.size());
  }
  const icu::StringPiece piece(text.data(), static_cast<std::int32_t>(text.size()));
  UErrorCode status = U_ZERO_ERROR;
  const icu::FilteredNormalizer2 rules(unfiltered(form), normalized_characters());
  if (rules.isNormalizedUTF8(piece, status) != 0) {
    check(status, "normalisation");
    return;
  }
  std::string result;
  result.reserve(text.size());
  icu::StringByteSink<std::string> sink(&result);
  rules.normalizeUTF8(0, piece, sink, nullptr, status);
  check(status, "normalisation");
  text = std::move(result);
}

void lowercase(std::string& text) {
  std::string result;
  result.reserve(text.size());
  for (std::string_view left = text; !left.empty();) {
    const Utf8Step step = read_utf8(left);
    left.remove_prefix(step.length);
    if (step.code_point < 0x80) {
      const char c = static_cast<char>(step.code_point);
      result.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c);
      continue;
    }
    std::array<UChar, 2> source;
    std::array<UChar, 8> lower;
    std::int32_t length = 0;
    if (step.code_point < 0x10000) {
      source[length++] = static_cast<UChar>(step.code_point);
    } else {
      source[length++] = static_cast<UChar>(0xD7C0 + (step.code_point >> 10));
      source[length++] = static_cast<UChar>(0xDC00 + (step.code_point & 0x3FF));
    }
    UErrorCode status = U_ZERO_ERROR;
    const std::int32_t made =
        u_strToLower(lower.data(), static_cast<std::int32_t>(lower.size()), source.data(), length, "", &status);
    check(status, "lower case");
    for (std::int32_t i = 0; i < made; ++i) {
      char32_t c = lower[static_cast<std::size_t>(i)];
      if (c >= 0xD800 && c < 0xDC00) c = ((c - 0xD7C0) << 10) + (lower[static_cast<std::size_t>(++i)] & 0x3FFU);
      append_utf8(result, c);
    }
  }
  text = std::move(result);
}

bool is_whitespace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  return u_isUWhiteSpace(icu_character(c)) != 0;
}

bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  return (U_GET_GC_MASK(icu_character(c)) & U_GC_N_MASK) != 0;
}

bool is_punctuation(char32_t c) {
  if (c < 0x80) {
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
  }
  // U+166D became a symbol in Unicode 12, U+111C9 a mark in Unicode 11.
  return c == 0x166D || c == 0x111C9 || ((U_GET_GC_MASK(icu_character(c)) & U_GC_P_MASK) != 0 && is_as_old_as(c, 8));
}

bool is_word_character(char32_t c) {
  if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= 'a' && c <= 'z');
  const UChar32 character = icu_character(c);
  return u_hasBinaryProperty(character, UCHAR_ALPHABETIC) != 0 ||
         (U_GET_GC_MASK(character) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0 ||
         u_hasBinaryProperty(character, UCHAR_JOIN_CONTROL) != 0;
}

bool is_mark(char32_t c) {
  if (c == 0x1CF2 || c == 0x1CF3) return true;  // letters since Unicode 12
  return c != 0x111C9 && (U_GET_GC_MASK(icu_character(c)) & U_GC_M_MASK) != 0 && is_as_old_as(c, 9);
}

std::vector<std::size_t> grapheme_ends(std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  UText* source = utext_openUTF8(nullptr, text.data(), static_cast<std::int64_t>(text.size()), &status);
  UBreakIterator* breaks = ubrk_open(UBRK_CHARACTER, "", nullptr, 0, &status);
  if (U_SUCCESS(status) != 0) ubrk_setUText(breaks, source, &status);
  std::vector<std::size_t> ends;
  if (U_SUCCESS(status) != 0) {
    ubrk_first(breaks);
    for (std::int32_t end = ubrk_next(breaks); end != UBRK_DONE; end = ubrk_next(breaks)) {
      ends.push_back(static_cast<std::size_t>(end));
    }
  }
  ubrk_close(breaks);
  utext_close(source);
  check(status, "grapheme clusters");
  return ends;
}

}  // namespace switchyard::text
