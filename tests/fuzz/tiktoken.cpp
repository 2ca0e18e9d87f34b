// A tiktoken file: a line a token. Bytes that a mutated line lacks are added behind it, so that most inputs get
// further.

#include <string>

#include "tokenizer_check.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace switchyard;
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  static const std::string bytes = [&] {
    std::string lines;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      lines += {kDigits[byte >> 2], kDigits[(byte & 3) << 4], '=', '='};
      lines += " " + std::to_string(byte) + "\n";
    }
    return lines;
  }();
  return fuzz::run([&] {
    const std::string file = bytes + std::string(fuzz::text_of(data, size));
    fuzz::use(*text::parse_tiktoken(file, "input", R"(\s?\p{L}+|\p{N}{1,3}|[^\s\p{L}\p{N}]+|\s+)"));
  });
}
