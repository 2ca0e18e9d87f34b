// A whole safetensors file.

#include "safetensors_check.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace switchyard::fuzz;
  return run([&] { parse_safetensors(text_of(data, size)); });
}
