#pragma once
// The safetensors file format: read by mapping, written in one pass. Layout and what is refused:
// docs/formats/safetensors.md. Source: the format's README and reference implementation (huggingface/safetensors).

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "switchyard/base/mapped_file.hpp"
#include "switchyard/tensor/tensor.hpp"

namespace switchyard::formats {

using SafetensorsMetadata = std::map<std::string, std::string>;

// Where one tensor lies. Little-endian, row-major.
struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::size_t offset = 0;  // of its first byte, from the start of the file
  std::size_t bytes = 0;   // = dtype_bytes(dtype, numel)
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> tensors;  // in the order of their data
  SafetensorsMetadata metadata;
  std::size_t data_begin = 0;  // = 8 + header length
};

// Checks everything about `file`, the bytes of a whole file, except the values of the tensors. `name` stands for the
// file in messages. Throws kBadInput; kUnsupported for a type that the format knows and we do not. The entries lie
// within the file, do not overlap and leave no gap.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, std::string_view name);

// One file, mapped. Immutable and thread-safe.
class SafetensorsFile {
 public:
  static std::shared_ptr<const SafetensorsFile> open(const std::filesystem::path& path);
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::filesystem::path& path() const { return file_->path(); }
  const std::vector<SafetensorsEntry>& tensors() const { return header_.tensors; }
  const SafetensorsMetadata& metadata() const { return header_.metadata; }
  // Null where there is none of that name.
  const SafetensorsEntry* find(std::string_view name) const;
  // A read-only view of the mapped file, which it keeps alive; an owning copy where the data is not aligned for its
  // type. Throws kNotFound with file and name.
  Tensor tensor(std::string_view name) const;
  // Always a view: where the data is not aligned, only its bytes() can be read.
  Tensor view(std::string_view name) const;
  // The tensor will not be read soon: gives back the memory that its pages take, which are read from the file again if
  // need be.
  void release(std::string_view name) const;

 private:
  explicit SafetensorsFile(std::shared_ptr<const MappedFile> file);
  const SafetensorsEntry& at(std::string_view name) const;
  std::shared_ptr<const MappedFile> file_;
  SafetensorsHeader header_;
  std::unordered_map<std::string_view, std::size_t> index_;  // the keys point into header_
};

// A tensor's name and the file that holds it, as model.safetensors.index.json lists them.
using SafetensorsIndex = std::map<std::string, std::string, std::less<>>;

// Parses such an index. Throws kBadInput, also for a file name that is more than a plain *.safetensors name, so that
// an index cannot reach outside its folder. `origin` stands for the file in messages.
SafetensorsIndex parse_safetensors_index(std::string_view text, std::string_view origin);

// The weights of a checkpoint, in one file or in shards. Immutable after open() and thread-safe.
class TensorFiles {
 public:
  // A folder (model.safetensors if it is there, else model.safetensors.index.json), a *.safetensors file or an index.
  // All headers are read and compared with the index: a missing shard, a tensor that its shard does not hold or that
  // two shards hold is refused here. Tensors that the index does not list are no part of the checkpoint.
  static TensorFiles open(const std::filesystem::path& folder_or_file);

  const std::filesystem::path& path() const { return path_; }  // the single file or the index
  // Shard by shard, in the order of the data: reading in this order reads the disk sequentially.
  const std::vector<std::string>& names() const { return names_; }
  bool contains(std::string_view name) const { return shard_of_.find(name) != shard_of_.end(); }
  // Those below throw kNotFound with path and name.
  const SafetensorsEntry& info(std::string_view name) const;
  Tensor load(std::string_view name) const;  // as SafetensorsFile::tensor
  Tensor view(std::string_view name) const;
  void release(std::string_view name) const;
  const std::filesystem::path& path_of(std::string_view name) const;

 private:
  using Shard = std::shared_ptr<const SafetensorsFile>;
  TensorFiles() = default;
  const SafetensorsFile& shard(std::string_view name) const;
  std::filesystem::path path_;
  std::vector<std::string> names_;
  std::map<std::string, Shard, std::less<>> shard_of_;
};

struct NamedTensor {
  std::string name;
  const Tensor* tensor = nullptr;  // must outlive the call it is passed to
};

// A tensor that is made when its turn to be written comes, and goes once it is.
struct DeferredTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::function<Tensor()> make;  // of this type and shape (kInternal otherwise)
};

// Writes the tensors in the given order, through AtomicFile and without copying them. The data begins at a multiple of
// 64 bytes. Give metadata {"format": "pt"} where transformers shall load the file. Throws kResource where the disk is
// full or read-only, kBadInput where a name is used twice, reserved or not UTF-8.
void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const SafetensorsMetadata& metadata = {});

// The same in an existing folder: model.safetensors where everything fits into max_shard_bytes of tensor data, else
// model-00001-of-0000N.safetensors and so on, with model.safetensors.index.json written last. A tensor is never split;
// one larger than the limit has a shard of its own. Other files in the folder are left alone.
void write_safetensors_sharded(const std::filesystem::path& folder, std::span<const NamedTensor> tensors,
                               const SafetensorsMetadata& metadata, std::size_t max_shard_bytes);
void write_safetensors_sharded(const std::filesystem::path& folder, std::span<const DeferredTensor> tensors,
                               const SafetensorsMetadata& metadata, std::size_t max_shard_bytes);

}  // namespace switchyard::formats
