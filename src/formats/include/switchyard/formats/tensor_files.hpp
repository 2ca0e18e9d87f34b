#pragma once
// The weights of a checkpoint, in one file or in several.

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "switchyard/formats/stored_tensors.hpp"

namespace switchyard::formats {

class GgufMetadata;

// Immutable after open() and thread-safe.
class TensorFiles {
 public:
  // A folder (model.safetensors if it is there, else model.safetensors.index.json), a *.safetensors file, an index, or
  // a GGUF file: whole, or any part of a split one, of which all parts are opened. All headers are read and compared
  // with the index: a missing shard, a tensor that its shard does not hold or that two shards hold is refused here.
  // Tensors that the index does not list are no part of the checkpoint.
  static TensorFiles open(const std::filesystem::path& folder_or_file);

  const std::filesystem::path& path() const { return path_; }  // the single file, the index, or the first GGUF part
  // Shard by shard, in the order of the data: reading in this order reads the disk sequentially.
  const std::vector<std::string>& names() const { return names_; }
  bool contains(std::string_view name) const { return shard_of_.find(name) != shard_of_.end(); }
  // Those below throw kNotFound with path and name.
  const TensorEntry& info(std::string_view name) const;
  Tensor load(std::string_view name) const;  // as MappedTensors::tensor
  Tensor view(std::string_view name) const;
  void release(std::string_view name) const;
  const std::filesystem::path& path_of(std::string_view name) const;
  // Null where the files are safetensors. Lives as long as any copy of this object.
  const GgufMetadata* gguf() const { return gguf_.get(); }

 private:
  using Shard = std::shared_ptr<const MappedTensors>;
  TensorFiles() = default;
  void open_gguf();
  void open_indexed();
  void add(const Shard& shard);
  const MappedTensors& shard(std::string_view name) const;
  std::filesystem::path path_;
  std::vector<std::string> names_;
  std::map<std::string, Shard, std::less<>> shard_of_;
  std::shared_ptr<const GgufMetadata> gguf_;
};

}  // namespace switchyard::formats
