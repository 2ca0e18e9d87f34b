#include <memory>
#include <system_error>
#include <unordered_set>

#include "deferred_tensors.hpp"
#include "gguf_format.hpp"
#include "quoted.hpp"
#include "switchyard/base/atomic_file.hpp"

namespace switchyard::formats {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kMaxParts = 65535;  // split.count is a u16

void check_tensor(const DeferredTensor& tensor, std::string_view file) {
  const DTypeInfo& info = dtype_info(tensor.dtype);
  const auto refuse = [&](const std::string& what) {
    fail(ErrorKind::kUnsupported, "{}: tensor {}: {}", file, in_quotes(tensor.name), what);
  };
  if (tensor.name.size() > kGgufMaxNameBytes)
    refuse(fmt::format("a name of {} bytes, GGUF has at most {}", tensor.name.size(), kGgufMaxNameBytes));
  if (!gguf_tensor_type(tensor.dtype)) refuse(fmt::format("GGUF has no type {}", info.name));
  const auto dims = tensor.shape.dims();
  if (dims.size() > kGgufMaxRank)
    refuse(fmt::format("shape {}, GGUF has at most {} dimensions", tensor.shape.to_string(), kGgufMaxRank));
  const Index row = dims.empty() ? 1 : dims.back();
  if (row % info.block_elements != 0)
    refuse(fmt::format("rows of {} elements are not whole blocks of {}", row, info.name));
}

// The bytes of a header.
class HeaderWriter {
 public:
  template <class T>
  void number(T value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    text_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  void string(std::string_view text) {
    number(std::uint64_t{text.size()});
    text_.append(text);
  }

  void item(std::string_view key, const GgufValue& value) {
    string(key);
    number(static_cast<std::uint32_t>(gguf_type(value)));
    std::visit(
        [&]<class T>(const T& held) {
          if constexpr (std::is_same_v<T, GgufArray>) {
            array(held);
          } else {
            element(held);
          }
        },
        value);
  }

  void pad(std::size_t alignment) { text_.resize(padded(text_.size(), alignment)); }
  const std::string& text() const { return text_; }

 private:
  template <class T>
  void element(const T& value) {
    if constexpr (std::is_same_v<T, std::string>) {
      string(value);
    } else {
      number(value);
    }
  }

  void array(const GgufArray& array) {
    number(static_cast<std::uint32_t>(gguf_element_type(array)));
    number(std::uint64_t{gguf_array_size(array)});
    std::visit(
        [&]<class T>(const std::vector<T>& values) {
          for (const auto& value : values) element<T>(value);
        },
        array);
  }

  std::string text_;
};

using Tensors = std::span<const DeferredTensor>;

// The metadata of part `number` of `count`.
GgufMetadata part_metadata(const GgufMetadata& all, std::size_t number, std::size_t count, std::size_t tensors) {
  GgufMetadata metadata;
  if (number == 0) {
    metadata = all;
    for (const std::string_view key : {kSplitNoKey, kSplitCountKey, kSplitTensorsKey}) metadata.erase(key);
  } else if (const GgufValue* alignment = all.find(kAlignmentKey)) {
    metadata.set(kAlignmentKey, *alignment);
  }
  if (count > 1) {
    metadata.set(kSplitNoKey, static_cast<std::uint16_t>(number));
    metadata.set(kSplitCountKey, static_cast<std::uint16_t>(count));
    metadata.set(kSplitTensorsKey, static_cast<std::int32_t>(tensors));
  }
  return metadata;
}

std::string header_of(const GgufMetadata& metadata, Tensors tensors, std::size_t alignment) {
  HeaderWriter header;
  for (const char c : kGgufMagic) header.number(c);
  header.number(kGgufVersion);
  header.number(std::uint64_t{tensors.size()});
  header.number(std::uint64_t{metadata.items().size()});
  for (const auto& [key, value] : metadata.items()) header.item(key, value);
  std::uint64_t offset = 0;
  for (const DeferredTensor& tensor : tensors) {
    header.string(tensor.name);
    const auto dims = tensor.shape.dims();
    header.number(static_cast<std::uint32_t>(dims.size()));
    for (auto dim = dims.rbegin(); dim != dims.rend(); ++dim) header.number(static_cast<std::uint64_t>(*dim));
    header.number(*gguf_tensor_type(tensor.dtype));
    header.number(offset);
    offset += padded(bytes_of(tensor), alignment);
  }
  header.pad(alignment);
  return header.text();
}

void write_part(AtomicFile& file, const fs::path& path, const std::string& header, Tensors tensors,
                std::size_t alignment) {
  file.write(header);
  for (const DeferredTensor& deferred : tensors) {
    const Tensor tensor = make_tensor(deferred, path.string());
    file.write(tensor.bytes());
    const std::size_t size = tensor.bytes().size();
    file.write(std::string(padded(size, alignment) - size, '\0'));
  }
}

// The first part last: without it the others are no model. Where a rename fails, those before it are taken back.
void commit(std::vector<std::unique_ptr<AtomicFile>>& files, const std::vector<fs::path>& paths) {
  std::size_t i = files.size();
  try {
    while (i > 0) {
      files[i - 1]->commit();
      --i;
    }
  } catch (const Error&) {
    std::error_code ignored;
    for (; i < files.size(); ++i) fs::remove(paths[i], ignored);
    throw;
  }
}

}  // namespace

std::vector<fs::path> write_gguf(const fs::path& path, const GgufMetadata& metadata, Tensors tensors,
                                 std::size_t max_part_bytes) {
  const std::size_t alignment = gguf_alignment(metadata);
  std::unordered_set<std::string_view> names;
  for (const DeferredTensor& tensor : tensors) {
    check_tensor(tensor, path.string());
    if (!names.insert(tensor.name).second)
      fail(ErrorKind::kBadInput, "{}: two tensors are named {}", path.string(), in_quotes(tensor.name));
  }
  std::vector<Tensors> parts = cut_into_shards(tensors, max_part_bytes);
  if (parts.empty()) parts.emplace_back();
  if (parts.size() > kMaxParts) {
    fail(ErrorKind::kUnsupported, "{}: {} parts of at most {} bytes, GGUF has at most {} parts", path.string(),
         parts.size(), max_part_bytes, kMaxParts);
  }
  std::vector<fs::path> paths;
  std::vector<std::unique_ptr<AtomicFile>> files;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    paths.push_back(path);
    if (parts.size() > 1) {
      if (path.extension() == ".gguf") paths.back().replace_extension();
      paths.back() += gguf_part_suffix(i, parts.size());
    }
    const GgufMetadata own = part_metadata(metadata, i, parts.size(), tensors.size());
    files.push_back(std::make_unique<AtomicFile>(paths.back()));
    write_part(*files.back(), paths.back(), header_of(own, parts[i], alignment), parts[i], alignment);
  }
  commit(files, paths);
  return paths;
}

}  // namespace switchyard::formats
