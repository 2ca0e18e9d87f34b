#include "switchyard/formats/safetensors.hpp"

namespace switchyard::formats {

std::shared_ptr<const SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
  std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  SafetensorsHeader header = parse_safetensors_header(file->bytes(), file->path().string());
  return std::shared_ptr<const SafetensorsFile>(new SafetensorsFile(std::move(file), std::move(header)));
}

SafetensorsFile::SafetensorsFile(std::shared_ptr<const MappedFile> file, SafetensorsHeader header)
    : MappedTensors(std::move(file), std::move(header.tensors)), metadata_(std::move(header.metadata)) {}

}  // namespace switchyard::formats
