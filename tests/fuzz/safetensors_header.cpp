// The JSON of a safetensors header, under a length that is always right: a mutation of a whole file seldom gets past
// the length. The data is what follows the first NUL.

#include <cstring>
#include <string>

#include "safetensors_check.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace switchyard::fuzz;
  const std::string_view text = text_of(data, size), header = text.substr(0, text.find('\0'));
  const std::string_view values = text.substr(std::min(header.size() + 1, text.size()));
  const std::uint64_t length = header.size();
  std::string file(sizeof(length), '\0');
  std::memcpy(file.data(), &length, sizeof(length));
  file.append(header).append(values);
  return run([&] { parse_safetensors(file); });
}
