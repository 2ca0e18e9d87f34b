// A Hugging Face tokenizer.json

#include "tokenizer_check.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace switchyard;
  return fuzz::run([&] { fuzz::use(*text::parse_tokenizer_json(fuzz::text_of(data, size), "input")); });
}
