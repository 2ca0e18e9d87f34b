// model.safetensors.index.json

#include <filesystem>

#include "fuzz.hpp"
#include "switchyard/formats/safetensors.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace switchyard;
  return fuzz::run([&] {
    for (const auto& [name, file] : formats::parse_safetensors_index(fuzz::text_of(data, size), "input")) {
      fuzz::check(std::filesystem::path(file).filename() == file, "a shard lies in the folder of its index");
    }
  });
}
