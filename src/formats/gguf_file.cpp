#include <system_error>
#include <unordered_map>

#include "gguf_format.hpp"
#include "quoted.hpp"

namespace switchyard::formats {
namespace {

namespace fs = std::filesystem;

struct Place {
  Index number = 0, count = 1;
};

// Which part of how many a file is. One that was merged from parts says that there are none.
Place place_of(const GgufFile& file) {
  const GgufMetadata& metadata = file.metadata();
  Place place;
  place.count = std::max<Index>(1, metadata.find_integer(kSplitCountKey).value_or(1));
  if (place.count == 1) return place;
  place.number = metadata.integer(kSplitNoKey);
  if (place.number < 0 || place.number >= place.count)
    metadata.refuse(kSplitNoKey, fmt::format("0 to {}, as there are {} parts", place.count - 1, place.count));
  return place;
}

void check_place(const GgufFile& part, Index number, Index count) {
  const GgufMetadata& metadata = part.metadata();
  if (metadata.find_integer(kSplitCountKey) != count) metadata.refuse(kSplitCountKey, std::to_string(count));
  if (metadata.find_integer(kSplitNoKey) != number)
    metadata.refuse(kSplitNoKey, fmt::format("{} by the file's name", number));
}

// No tensor in two parts, and as many as the first part says.
void check_tensors(const std::vector<std::shared_ptr<const GgufFile>>& parts) {
  std::unordered_map<std::string_view, const GgufFile*> owner;
  for (const auto& part : parts) {
    for (const TensorEntry& entry : part->tensors()) {
      const auto [found, is_new] = owner.emplace(entry.name, part.get());
      if (!is_new) {
        fail(ErrorKind::kBadInput, "{}: tensor {} is also in {}", part->path().string(), in_quotes(entry.name),
             in_quotes(found->second->path().string()));
      }
    }
  }
  const GgufMetadata& metadata = parts.front()->metadata();
  const auto tensors = metadata.find_integer(kSplitTensorsKey);
  if (tensors && *tensors != std::ssize(owner))
    metadata.refuse(kSplitTensorsKey, fmt::format("{}, the number of tensors in all parts", owner.size()));
}

}  // namespace

std::shared_ptr<const GgufFile> GgufFile::open(const fs::path& path) {
  std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  GgufHeader header = parse_gguf_header(file->bytes(), file->path().string());
  return std::shared_ptr<const GgufFile>(new GgufFile(std::move(file), std::move(header)));
}

GgufFile::GgufFile(std::shared_ptr<const MappedFile> file, GgufHeader header)
    : MappedTensors(std::move(file), std::move(header.tensors)),
      metadata_(std::move(header.metadata)),
      version_(header.version) {}

std::vector<std::shared_ptr<const GgufFile>> open_gguf(const fs::path& path) {
  const std::shared_ptr<const GgufFile> given = GgufFile::open(path);
  const auto [number, count] = place_of(*given);
  if (count == 1) return {given};
  const auto suffix_of = [count = count](Index part) {
    return gguf_part_suffix(static_cast<std::size_t>(part), static_cast<std::size_t>(count));
  };
  const std::string name = path.filename().string(), suffix = suffix_of(number);
  if (!name.ends_with(suffix)) {
    fail(ErrorKind::kBadInput, "{}: part {} of {} by its keys {} and {}, expected a file name that ends with {}",
         path.string(), number + 1, count, kSplitNoKey, kSplitCountKey, in_quotes(suffix));
  }
  std::vector<std::shared_ptr<const GgufFile>> parts;
  for (Index i = 0; i < count; ++i) {
    if (i == number) {
      parts.push_back(given);
      continue;
    }
    const fs::path other = path.parent_path() / (name.substr(0, name.size() - suffix.size()) + suffix_of(i));
    std::error_code ignored;
    if (!fs::exists(other, ignored)) {
      fail(ErrorKind::kNotFound, "{}: part {} of {} is missing: {}", path.string(), i + 1, count,
           in_quotes(other.string()));
    }
    parts.push_back(GgufFile::open(other));
    check_place(*parts.back(), i, count);
  }
  check_tensors(parts);
  return parts;
}

}  // namespace switchyard::formats
