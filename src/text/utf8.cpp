#include "switchyard/text/utf8.hpp"

#include <cstdint>
#include <cstring>

#include "switchyard/base/error.hpp"

namespace switchyard::text {

Utf8Step read_utf8(std::string_view text) {
  const auto byte = [text](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return {Utf8Status::kValid, 1, lead};
  // The second byte's range excludes overlong forms, surrogates and values above U+10FFFF (Unicode, table 3-7).
  std::size_t length = 0;
  std::uint8_t low = 0x80, high = 0xBF;
  char32_t code_point = 0;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
    code_point = lead & 0x1FU;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    code_point = lead & 0x0FU;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    code_point = lead & 0x07U;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {Utf8Status::kInvalid, 1, 0};
  }
  for (std::size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Utf8Status::kIncomplete, i, 0};
    if (byte(i) < low || byte(i) > high) return {Utf8Status::kInvalid, i, 0};
    code_point = (code_point << 6) | (byte(i) & 0x3FU);
    low = 0x80;
    high = 0xBF;
  }
  return {Utf8Status::kValid, length, code_point};
}

std::optional<std::size_t> find_invalid_utf8(std::string_view text) {
  std::size_t position = 0;
  while (position < text.size()) {
    if (position + 8 <= text.size()) {
      std::uint64_t eight = 0;
      std::memcpy(&eight, text.data() + position, sizeof(eight));
      if ((eight & 0x8080808080808080U) == 0) {  // eight ASCII characters
        position += 8;
        continue;
      }
    }
    const Utf8Step step = read_utf8(text.substr(position));
    if (step.status != Utf8Status::kValid) return position;
    position += step.length;
  }
  return std::nullopt;
}

void append_utf8(std::string& text, char32_t c) {
  require(c <= 0x10FFFF && (c < 0xD800 || c > 0xDFFF), "U+{:04X} is not a character", static_cast<std::uint32_t>(c));
  const auto push = [&text](char32_t value) { text.push_back(static_cast<char>(static_cast<unsigned char>(value))); };
  if (c < 0x80) {
    push(c);
  } else if (c < 0x800) {
    push(0xC0 | (c >> 6));
    push(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    push(0xE0 | (c >> 12));
    push(0x80 | ((c >> 6) & 0x3F));
    push(0x80 | (c & 0x3F));
  } else {
    push(0xF0 | (c >> 18));
    push(0x80 | ((c >> 12) & 0x3F));
    push(0x80 | ((c >> 6) & 0x3F));
    push(0x80 | (c & 0x3F));
  }
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = read_utf8(text);
    if (step.status == Utf8Status::kValid) {
      result.append(text.substr(0, step.length));
    } else {
      append_utf8(result, 0xFFFD);
    }
    text.remove_prefix(step.length);
  }
  return result;
}

}  // namespace switchyard::text
