#pragma once
// Tensors in files, whatever the format: where they lie, views of them, and what is to be written.

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "switchyard/base/mapped_file.hpp"
#include "switchyard/tensor/tensor.hpp"

namespace switchyard::formats {

// Where one tensor lies. Little-endian, row-major.
struct TensorEntry {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::size_t offset = 0;  // of its first byte, from the start of the file
  std::size_t bytes = 0;   // = dtype_bytes(dtype, numel)
};

// The tensors of one mapped file. Immutable and thread-safe.
class MappedTensors {
 public:
  MappedTensors(const MappedTensors&) = delete;
  MappedTensors& operator=(const MappedTensors&) = delete;

  const std::filesystem::path& path() const { return file_->path(); }
  // In the order of their data.
  const std::vector<TensorEntry>& tensors() const { return tensors_; }
  // Null where there is none of that name.
  const TensorEntry* find(std::string_view name) const;
  // A read-only view of the mapped file, which it keeps alive; an owning copy where the data is not aligned for its
  // type. Throws kNotFound with file and name.
  Tensor tensor(std::string_view name) const;
  // Always a view: where the data is not aligned, only its bytes() can be read.
  Tensor view(std::string_view name) const;
  // The tensor will not be read soon: gives back the memory that its pages take, which are read from the file again if
  // need be.
  void release(std::string_view name) const;

 protected:
  // The entries lie within the file and have different names.
  MappedTensors(std::shared_ptr<const MappedFile> file, std::vector<TensorEntry> tensors);
  ~MappedTensors() = default;

 private:
  const TensorEntry& at(std::string_view name) const;
  std::shared_ptr<const MappedFile> file_;
  std::vector<TensorEntry> tensors_;
  std::unordered_map<std::string_view, std::size_t> index_;  // the keys point into tensors_
};

// A tensor that is made when its turn to be written comes, and goes once it is.
struct DeferredTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::function<Tensor()> make;  // of this type and shape (kInternal otherwise)
};

}  // namespace switchyard::formats
