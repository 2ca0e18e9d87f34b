#pragma once
// Properties of characters and normalisation forms, by ICU.

#include <string>
#include <string_view>
#include <vector>

namespace switchyard::text {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// `text` is valid UTF-8; all functions keep it so.
void normalize_unicode(std::string& text, NormalForm form);
void lowercase(std::string& text);  // each character by itself, whatever stands around it

bool is_whitespace(char32_t c);  // White_Space
bool is_numeric(char32_t c);     // general category N
bool is_punctuation(
    char32_t c);  // general category P by Unicode 8, or any printable ASCII but letters, digits and space
bool is_word_character(char32_t c);  // Alphabetic, M, Nd, Pc or Join_Control
bool is_mark(char32_t c);            // general category M by Unicode 9

// The ends of the extended grapheme clusters.
std::vector<std::size_t> grapheme_ends(std::string_view text);

}  // namespace switchyard::text
