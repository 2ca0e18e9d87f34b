#include <system_error>

#include "quoted.hpp"
#include "safetensors_format.hpp"
#include "strict_json.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/formats/gguf.hpp"
#include "switchyard/formats/safetensors.hpp"
#include "switchyard/formats/tensor_files.hpp"

namespace switchyard::formats {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kMaxIndexBytes = 256u << 20;
constexpr std::string_view kExtension = ".safetensors";

bool is_plain_shard_name(std::string_view name) {
  return name.size() > kExtension.size() && name.ends_with(kExtension) &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

// Without the exceptions of the standard's own: a path that cannot be asked about fails with its reason on opening.
bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

fs::path weights_in(const fs::path& folder) {
  for (const std::string_view name : {kSingleFile, kIndexFile}) {
    if (is_there(folder / name)) return folder / name;
  }
  for (const char* pickle : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    if (is_there(folder / pickle)) {
      fail(ErrorKind::kUnsupported,
           "{}: has its weights in {} alone, a Python pickle; expected {}: convert it, for example with transformers: "
           "from_pretrained(FOLDER).save_pretrained(NEW, safe_serialization=True)",
           folder.string(), pickle, kSingleFile);
    }
  }
  fail(ErrorKind::kNotFound, "{}: found neither {} nor {}", folder.string(), kSingleFile, kIndexFile);
}

}  // namespace

SafetensorsIndex parse_safetensors_index(std::string_view text, std::string_view origin) {
  const nlohmann::json document = parse_strict_json(text, origin);
  if (!document.is_object()) {
    fail(ErrorKind::kBadInput, "{}: found {}, expected an object", origin, describe(document));
  }
  const auto weight_map = document.find("weight_map");
  if (weight_map == document.end()) fail(ErrorKind::kBadInput, "{}: key \"weight_map\" is missing", origin);
  if (!weight_map->is_object()) {
    fail(ErrorKind::kBadInput, "{}: weight_map: found {}, expected an object", origin, describe(*weight_map));
  }
  SafetensorsIndex index;
  for (const auto& [name, shard] : weight_map->items()) {
    if (!shard.is_string()) {
      fail(ErrorKind::kBadInput, "{}: weight_map: tensor {}: found {}, expected a file name", origin, in_quotes(name),
           describe(shard));
    }
    const auto& file = shard.get_ref<const std::string&>();
    if (!is_plain_shard_name(file)) {
      fail(ErrorKind::kBadInput,
           "{}: weight_map: tensor {}: found file {}, expected the name of a *.safetensors file in the same folder",
           origin, in_quotes(name), in_quotes(file));
    }
    index.emplace_hint(index.end(), name, file);
  }
  return index;
}

TensorFiles TensorFiles::open(const fs::path& folder_or_file) {
  TensorFiles files;
  files.path_ = is_folder(folder_or_file) ? weights_in(folder_or_file) : folder_or_file;
  if (files.path_.extension() == ".json") {
    files.open_indexed();
  } else if (is_gguf(MappedFile::open(files.path_)->bytes())) {
    files.open_gguf();
  } else {
    files.add(SafetensorsFile::open(files.path_));
  }
  return files;
}

void TensorFiles::add(const Shard& shard) {
  for (const TensorEntry& entry : shard->tensors()) {
    names_.push_back(entry.name);
    shard_of_.emplace(entry.name, shard);
  }
}

void TensorFiles::open_gguf() {
  const auto parts = formats::open_gguf(path_);
  path_ = parts.front()->path();
  for (const auto& part : parts) add(part);
  gguf_ = {parts.front(), &parts.front()->metadata()};
}

void TensorFiles::open_indexed() {
  const std::string origin = path_.string();
  const SafetensorsIndex index = parse_safetensors_index(read_file(path_, kMaxIndexBytes), origin);
  std::map<std::string, Shard> shards;
  for (const auto& [name, file] : index) {
    Shard& shard = shards[file];
    if (shard == nullptr) {
      const fs::path path = path_.parent_path() / file;
      if (!is_there(path)) {
        fail(ErrorKind::kNotFound, "{}: shard {} is missing; the index says that it holds tensor {}", origin,
             in_quotes(path.string()), in_quotes(name));
      }
      shard = SafetensorsFile::open(path);
    }
    if (shard->find(name) == nullptr) {
      fail(ErrorKind::kBadInput, "{}: tensor {} is not in {}, where the index says it is", origin, in_quotes(name),
           in_quotes(shard->path().string()));
    }
    shard_of_.emplace(name, shard);
  }
  for (const auto& [file, shard] : shards) {
    for (const TensorEntry& entry : shard->tensors()) {
      const auto listed = index.find(entry.name);
      if (listed == index.end()) continue;
      if (listed->second != file) {
        fail(ErrorKind::kBadInput, "{}: tensor {} is in two shards, {} and {}", origin, in_quotes(entry.name),
             in_quotes(listed->second), in_quotes(file));
      }
      names_.push_back(entry.name);
    }
  }
}

const MappedTensors& TensorFiles::shard(std::string_view name) const {
  const auto found = shard_of_.find(name);
  if (found == shard_of_.end()) fail(ErrorKind::kNotFound, "{}: no tensor {}", path_.string(), in_quotes(name));
  return *found->second;
}

const TensorEntry& TensorFiles::info(std::string_view name) const { return *shard(name).find(name); }

Tensor TensorFiles::load(std::string_view name) const { return shard(name).tensor(name); }

Tensor TensorFiles::view(std::string_view name) const { return shard(name).view(name); }

void TensorFiles::release(std::string_view name) const { shard(name).release(name); }

const fs::path& TensorFiles::path_of(std::string_view name) const { return shard(name).path(); }

}  // namespace switchyard::formats
