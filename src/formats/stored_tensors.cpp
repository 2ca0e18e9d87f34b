#include "switchyard/formats/stored_tensors.hpp"

#include <cstdint>

#include "quoted.hpp"

namespace switchyard::formats {

MappedTensors::MappedTensors(std::shared_ptr<const MappedFile> file, std::vector<TensorEntry> tensors)
    : file_(std::move(file)), tensors_(std::move(tensors)) {
  index_.reserve(tensors_.size());
  for (std::size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

const TensorEntry* MappedTensors::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const TensorEntry& MappedTensors::at(std::string_view name) const {
  const TensorEntry* entry = find(name);
  if (entry == nullptr) fail(ErrorKind::kNotFound, "{}: no tensor {}", path().string(), in_quotes(name));
  return *entry;
}

Tensor MappedTensors::view(std::string_view name) const {
  const TensorEntry& entry = at(name);
  return Tensor::borrowed(entry.dtype, entry.shape, file_->bytes().subspan(entry.offset, entry.bytes), file_);
}

Tensor MappedTensors::tensor(std::string_view name) const {
  Tensor found = view(name);
  const auto size = static_cast<std::uintptr_t>(dtype_alignment(found.dtype()));
  return reinterpret_cast<std::uintptr_t>(found.bytes().data()) % size == 0 ? std::move(found) : found.clone();
}

void MappedTensors::release(std::string_view name) const {
  const TensorEntry& entry = at(name);
  file_->release(file_->bytes().subspan(entry.offset, entry.bytes));
}

}  // namespace switchyard::formats
