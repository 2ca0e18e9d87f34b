#pragma once
// The safetensors file format: read by mapping, written in one pass. Layout and what is refused:
// docs/formats/safetensors.md. Source: the format's README and reference implementation (huggingface/safetensors).

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "switchyard/formats/stored_tensors.hpp"

namespace switchyard::formats {

using SafetensorsMetadata = std::map<std::string, std::string>;

struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  // in the order of their data
  SafetensorsMetadata metadata;
  std::size_t data_begin = 0;  // = 8 + header length
};

// Checks everything about `file`, the bytes of a whole file, except the values of the tensors. `name` stands for the
// file in messages. Throws kBadInput; kUnsupported for a type that the format knows and we do not. The entries lie
// within the file, do not overlap and leave no gap.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, std::string_view name);

// One file, mapped. Immutable and thread-safe.
class SafetensorsFile : public MappedTensors {
 public:
  static std::shared_ptr<const SafetensorsFile> open(const std::filesystem::path& path);
  const SafetensorsMetadata& metadata() const { return metadata_; }

 private:
  SafetensorsFile(std::shared_ptr<const MappedFile> file, SafetensorsHeader header);
  SafetensorsMetadata metadata_;
};

// A tensor's name and the file that holds it, as model.safetensors.index.json lists them.
using SafetensorsIndex = std::map<std::string, std::string, std::less<>>;

// Parses such an index. Throws kBadInput, also for a file name that is more than a plain *.safetensors name, so that
// an index cannot reach outside its folder. `origin` stands for the file in messages.
SafetensorsIndex parse_safetensors_index(std::string_view text, std::string_view origin);

struct NamedTensor {
  std::string name;
  const Tensor* tensor = nullptr;  // must outlive the call it is passed to
};

// Writes the tensors in the given order, through AtomicFile and without copying them. The data begins at a multiple of
// 64 bytes. Give metadata {"format": "pt"} where transformers shall load the file. Throws kResource where the disk is
// full or read-only, kBadInput where a name is used twice, reserved or not UTF-8, kUnsupported for quantised types.
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
