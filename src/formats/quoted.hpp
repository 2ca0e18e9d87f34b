#pragma once
// Names and values out of untrusted files, made fit for an error message.

#include <string>
#include <string_view>

namespace switchyard::formats {

// True where `text` is well-formed UTF-8 (no overlong forms, surrogates or values above U+10FFFF).
bool is_utf8(std::string_view text);

// `text` with control characters and malformed bytes as \xNN, cut after `limit` bytes.
std::string printable(std::string_view text, std::size_t limit = 160);

// The same between double quotes.
std::string in_quotes(std::string_view text);

}  // namespace switchyard::formats
