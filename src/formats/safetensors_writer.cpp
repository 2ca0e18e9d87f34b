#include <iterator>
#include <unordered_set>

#include "deferred_tensors.hpp"
#include "quoted.hpp"
#include "safetensors_format.hpp"
#include "strict_json.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/formats/safetensors.hpp"

namespace switchyard::formats {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kDataAlignment = 64;

std::string json_string(std::string_view text, std::string_view file, std::string_view what) {
  if (!is_utf8(text)) fail(ErrorKind::kBadInput, "{}: {} {} is not UTF-8", file, what, in_quotes(text));
  return nlohmann::json(text).dump();
}

std::vector<DeferredTensor> deferred(std::span<const NamedTensor> tensors, std::string_view file) {
  std::vector<DeferredTensor> result;
  for (const auto& [name, tensor] : tensors) {
    require(tensor != nullptr && tensor->defined(), "{}: tensor {} to write holds nothing", file, in_quotes(name));
    const auto view = [tensor = tensor] {
      // Not owned: the caller's tensor outlives the call.
      const std::shared_ptr<const void> nobody(std::shared_ptr<const void>(), tensor);
      return Tensor::borrowed(tensor->dtype(), tensor->shape(), tensor->bytes(), nobody);
    };
    result.push_back({name, tensor->dtype(), tensor->shape(), view});
  }
  return result;
}

void check_names(std::span<const DeferredTensor> tensors, std::string_view file) {
  std::unordered_set<std::string_view> names;
  for (const auto& [name, dtype, shape, make] : tensors) {
    if (dtype_info(dtype).is_quantised) {
      fail(ErrorKind::kUnsupported, "{}: tensor {}: safetensors has no type {}", file, in_quotes(name),
           dtype_info(dtype).name);
    }
    if (name == kMetadataKey) fail(ErrorKind::kBadInput, "{}: a tensor cannot be named {}", file, kMetadataKey);
    if (!names.insert(name).second) fail(ErrorKind::kBadInput, "{}: two tensors are named {}", file, in_quotes(name));
  }
}

std::string header_of(std::span<const DeferredTensor> tensors, const SafetensorsMetadata& metadata,
                      std::string_view file) {
  std::string header = "{";
  const auto add = std::back_inserter(header);
  const auto comma = [&] { return header.back() == '{' ? "" : ","; };
  if (!metadata.empty()) {
    fmt::format_to(add, "\"{}\":{{", kMetadataKey);
    for (const auto& [key, value] : metadata) {
      fmt::format_to(add, "{}{}:{}", comma(), json_string(key, file, "metadata key"),
                     json_string(value, file, "metadata value"));
    }
    header += '}';
  }
  std::size_t begin = 0;
  for (const DeferredTensor& tensor : tensors) {
    const std::size_t end = begin + bytes_of(tensor);
    fmt::format_to(add, "{}{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", comma(),
                   json_string(tensor.name, file, "tensor name"), dtype_info(tensor.dtype).name,
                   fmt::join(tensor.shape.dims(), ","), begin, end);
    begin = end;
  }
  header += '}';
  while ((kLengthBytes + header.size()) % kDataAlignment != 0) header += ' ';
  if (header.size() > kMaxHeaderBytes) {
    fail(ErrorKind::kUnsupported, "{}: the header of {} tensors takes {} bytes, the format allows {}", file,
         tensors.size(), header.size(), kMaxHeaderBytes);
  }
  return header;
}

void write_file(const fs::path& path, std::span<const DeferredTensor> tensors, const SafetensorsMetadata& metadata) {
  check_names(tensors, path.string());
  const std::string header = header_of(tensors, metadata, path.string());
  AtomicFile file(path);
  const std::uint64_t length = header.size();
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(header);
  for (const DeferredTensor& deferred : tensors) {
    file.write(make_tensor(deferred, path.string()).bytes());
  }
  file.commit();
}

}  // namespace

void write_safetensors(const fs::path& path, std::span<const NamedTensor> tensors,
                       const SafetensorsMetadata& metadata) {
  write_file(path, deferred(tensors, path.string()), metadata);
}

void write_safetensors_sharded(const fs::path& folder, std::span<const NamedTensor> tensors,
                               const SafetensorsMetadata& metadata, std::size_t max_shard_bytes) {
  write_safetensors_sharded(folder, std::span<const DeferredTensor>(deferred(tensors, folder.string())), metadata,
                            max_shard_bytes);
}

void write_safetensors_sharded(const fs::path& folder, std::span<const DeferredTensor> tensors,
                               const SafetensorsMetadata& metadata, std::size_t max_shard_bytes) {
  check_names(tensors, folder.string());
  const std::vector<std::span<const DeferredTensor>> shards = cut_into_shards(tensors, max_shard_bytes);
  if (shards.size() <= 1) {
    write_file(folder / kSingleFile, tensors, metadata);
    return;
  }
  std::size_t total = 0;
  nlohmann::json weight_map = nlohmann::json::object();
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    write_file(folder / name, shards[i], metadata);
    for (const DeferredTensor& tensor : shards[i]) {
      weight_map[tensor.name] = name;
      total += bytes_of(tensor);
    }
  }
  const nlohmann::json index = {{"metadata", {{"total_size", total}}}, {"weight_map", std::move(weight_map)}};
  write_file_atomically(folder / kIndexFile, index.dump(2) + "\n");
}

}  // namespace switchyard::formats
