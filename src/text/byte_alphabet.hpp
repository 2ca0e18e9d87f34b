#pragma once
// GPT-2 writes a byte as a printable character: itself where it is one, otherwise the next of U+0100, U+0101, ...
// Source: Radford et al., "Language models are unsupervised multitask learners" (2019), section 2.2 and its code.

#include <string>
#include <string_view>

namespace switchyard::text {

// The character of a byte, in UTF-8.
const std::string& byte_character(unsigned char byte);

// The byte of a character; -1 where the alphabet does not have it.
int byte_of_character(char32_t c);

// Every byte as its character.
std::string to_byte_characters(std::string_view bytes);

// The bytes that `text`, valid UTF-8, stands for; false where a character is not in the alphabet.
bool from_byte_characters(std::string_view text, std::string& bytes);

}  // namespace switchyard::text
