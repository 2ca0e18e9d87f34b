#include "byte_alphabet.hpp"

#include <array>

#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<int, 512> bytes;  // by code point

  Alphabet() {
    bytes.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
      const char32_t c = printable ? static_cast<char32_t>(byte) : next++;
      append_utf8(characters[static_cast<std::size_t>(byte)], c);
      bytes[c] = byte;
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

const std::string& byte_character(unsigned char byte) { return alphabet().characters[byte]; }

int byte_of_character(char32_t c) { return c < 512 ? alphabet().bytes[c] : -1; }

std::string to_byte_characters(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) text += byte_character(static_cast<unsigned char>(byte));
  return text;
}

bool from_byte_characters(std::string_view text, std::string& bytes) {
  bytes.clear();
  while (!text.empty()) {
    const Utf8Step step = read_utf8(text);
    const int byte = step.status == Utf8Status::kValid ? byte_of_character(step.code_point) : -1;
    if (byte < 0) return false;
    bytes.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
    text.remove_prefix(step.length);
  }
  return true;
}

}  // namespace switchyard::text
