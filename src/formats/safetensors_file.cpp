#include <cstdint>

#include "quoted.hpp"
#include "switchyard/formats/safetensors.hpp"

namespace switchyard::formats {

std::shared_ptr<const SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
  return std::shared_ptr<const SafetensorsFile>(new SafetensorsFile(MappedFile::open(path)));
}

SafetensorsFile::SafetensorsFile(std::shared_ptr<const MappedFile> file)
    : file_(std::move(file)), header_(parse_safetensors_header(file_->bytes(), file_->path().string())) {
  index_.reserve(header_.tensors.size());
  for (std::size_t i = 0; i < header_.tensors.size(); ++i) index_.emplace(header_.tensors[i].name, i);
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.tensors[found->second];
}

const SafetensorsEntry& SafetensorsFile::at(std::string_view name) const {
  const SafetensorsEntry* entry = find(name);
  if (entry == nullptr) fail(ErrorKind::kNotFound, "{}: no tensor {}", path().string(), in_quotes(name));
  return *entry;
}

Tensor SafetensorsFile::view(std::string_view name) const {
  const SafetensorsEntry& entry = at(name);
  return Tensor::borrowed(entry.dtype, entry.shape, file_->bytes().subspan(entry.offset, entry.bytes), file_);
}

Tensor SafetensorsFile::tensor(std::string_view name) const {
  Tensor found = view(name);
  const auto size = static_cast<std::uintptr_t>(dtype_info(found.dtype()).block_bytes);
  return reinterpret_cast<std::uintptr_t>(found.bytes().data()) % size == 0 ? std::move(found) : found.clone();
}

void SafetensorsFile::release(std::string_view name) const {
  const SafetensorsEntry& entry = at(name);
  file_->release(file_->bytes().subspan(entry.offset, entry.bytes));
}

}  // namespace switchyard::formats
