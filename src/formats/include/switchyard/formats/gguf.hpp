#pragma once
// The GGUF file format, versions 2 and 3: read by mapping, written in one pass. Layout and what is refused:
// docs/formats/gguf.md. Source: docs/gguf.md and src/gguf.cpp of ggml (ggml-org/ggml).

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "switchyard/formats/stored_tensors.hpp"

namespace switchyard::formats {

// The types of metadata, by their numbers in the file.
enum class GgufType : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};
std::string_view gguf_type_name(GgufType type);  // "u8", "string"

// An array of any type but another array.
using GgufArray = std::variant<std::vector<std::uint8_t>, std::vector<std::int8_t>, std::vector<std::uint16_t>,
                               std::vector<std::int16_t>, std::vector<std::uint32_t>, std::vector<std::int32_t>,
                               std::vector<float>, std::vector<bool>, std::vector<std::string>,
                               std::vector<std::uint64_t>, std::vector<std::int64_t>, std::vector<double>>;
// The alternatives are those of GgufType in their order. Strings are bytes, not necessarily UTF-8.
using GgufValue = std::variant<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t, std::int32_t,
                               float, bool, std::string, GgufArray, std::uint64_t, std::int64_t, double>;

inline GgufType gguf_type(const GgufValue& value) { return static_cast<GgufType>(value.index()); }
GgufType gguf_element_type(const GgufArray& array);
std::size_t gguf_array_size(const GgufArray& array);

// Keys and values in the order of the file. The typed accessors throw kBadInput with file and key, what was found and
// what was expected; those called find_ give nothing where the key is missing, the others throw then too. Integers of
// any type that holds the value are accepted where an integer is asked for (not bool), both float types and integers
// where a number is.
class GgufMetadata {
 public:
  struct Item {
    std::string key;
    GgufValue value;
  };

  GgufMetadata() = default;
  explicit GgufMetadata(std::string file) : file_(std::move(file)) {}  // its name in messages

  const std::vector<Item>& items() const { return items_; }
  const std::string& file() const { return file_; }
  bool contains(std::string_view key) const { return find(key) != nullptr; }
  const GgufValue* find(std::string_view key) const;  // null where there is none
  // Replaces the value where the key is there, else adds it at the end.
  void set(std::string_view key, GgufValue value);
  void erase(std::string_view key);

  std::optional<Index> find_integer(std::string_view key) const;
  std::optional<double> find_number(std::string_view key) const;
  std::optional<bool> find_boolean(std::string_view key) const;
  const std::string* find_string(std::string_view key) const;
  std::optional<std::vector<Index>> find_integers(std::string_view key) const;  // an array of integers
  std::optional<std::vector<double>> find_numbers(std::string_view key) const;
  const std::vector<std::string>* find_strings(std::string_view key) const;

  Index integer(std::string_view key) const;
  double number(std::string_view key) const;
  bool boolean(std::string_view key) const;
  const std::string& string(std::string_view key) const;
  std::vector<Index> integers(std::string_view key) const;
  std::vector<double> numbers(std::string_view key) const;
  const std::vector<std::string>& strings(std::string_view key) const;

  // For callers that check more than the type: "FILE: key KEY: found ..., expected WHAT" of a key that is there, with
  // its value; "... is missing, expected WHAT" of one that is not.
  [[noreturn]] void refuse(std::string_view key, std::string_view expected) const;

 private:
  std::string file_;
  std::vector<Item> items_;
  std::unordered_map<std::string, std::size_t> index_;
};

struct GgufHeader {
  std::uint32_t version = 3;
  GgufMetadata metadata;
  std::vector<TensorEntry> tensors;  // in the order of their data; the last dimension of the shape is ne[0]
  std::size_t alignment = 32;
  std::size_t data_begin = 0;  // a multiple of alignment; may lie behind the end of a file without tensors
};

// Checks everything about `file`, the bytes of a whole file, except the values of the tensors. `name` stands for the
// file in messages. Throws kBadInput; kUnsupported for versions, tensor types and nested arrays that the format knows
// and we do not. The entries lie within the file and do not overlap.
GgufHeader parse_gguf_header(std::span<const std::byte> file, std::string_view name);

// Whether the bytes begin as a GGUF file of any version.
bool is_gguf(std::span<const std::byte> file);

// One file, mapped. Immutable and thread-safe.
class GgufFile : public MappedTensors {
 public:
  static std::shared_ptr<const GgufFile> open(const std::filesystem::path& path);
  const GgufMetadata& metadata() const { return metadata_; }
  std::uint32_t version() const { return version_; }

 private:
  GgufFile(std::shared_ptr<const MappedFile> file, GgufHeader header);
  GgufMetadata metadata_;
  std::uint32_t version_;
};

// A file that is whole, or all parts of a split one (NAME-00001-of-0000N.gguf) in their order, whichever of them `path`
// is: a part that is missing (kNotFound), that says it is another one, or that holds a tensor of another part is
// refused. The metadata of the model is that of the first.
std::vector<std::shared_ptr<const GgufFile>> open_gguf(const std::filesystem::path& path);

// The type numbers of tensors (ggml_type). Nothing for what the other side does not know.
std::optional<std::uint32_t> gguf_tensor_type(DType dtype);
std::optional<DType> gguf_dtype(std::uint32_t tensor_type);

// Writes metadata and tensors in the given order, version 3. Where the data is more than max_part_bytes, `path` becomes
// NAME-00001-of-0000N.gguf and so on: the metadata is in the first part, a tensor is never split, and one larger than
// the limit has a part of its own. split.* keys of `metadata` are replaced by the right ones; general.alignment is
// honoured. Nothing is left under a final name unless all parts are complete. Returns the files.
// Throws kResource where the disk is full or read-only; kUnsupported for types, ranks, rows or names (64 bytes and
// more) that GGUF cannot have; kBadInput where a name is used twice.
std::vector<std::filesystem::path> write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata,
                                              std::span<const DeferredTensor> tensors,
                                              std::size_t max_part_bytes = std::numeric_limits<std::size_t>::max());

}  // namespace switchyard::formats
