#include <algorithm>
#include <cstring>
#include <limits>
#include <unordered_set>

#include "gguf_format.hpp"
#include "quoted.hpp"

namespace switchyard::formats {
namespace {

// A published vocabulary takes 20 MB. The limit bounds what a hostile file can make us hold.
constexpr std::size_t kMaxHeaderBytes = std::size_t{1} << 30;
// The fewest bytes that a key with its value takes, and what a tensor is described by.
constexpr std::size_t kLeastItemBytes = 8 + 4 + 1, kLeastTensorBytes = 8 + 4 + 4 + 8;

// Takes the header apart from front to back. Nothing is allocated before it is known to be there.
class HeaderReader {
 public:
  HeaderReader(std::span<const std::byte> file, std::string_view name)
      : file_(file), header_(file.first(std::min(file.size(), kMaxHeaderBytes))), name_(name) {}

  GgufHeader read() {
    GgufHeader header;
    header.version = version();
    const auto tensors = count("tensors", kLeastTensorBytes), items = count("keys", kLeastItemBytes);
    header.metadata = GgufMetadata(std::string(name_));
    for (std::uint64_t i = 0; i < items; ++i) read_item(i, items, header.metadata);
    header.alignment = gguf_alignment(header.metadata);
    std::vector<std::uint64_t> offsets;
    std::unordered_set<std::string> names;
    for (std::uint64_t i = 0; i < tensors; ++i) {
      header.tensors.push_back(read_tensor(i, tensors, offsets));
      if (!names.insert(header.tensors.back().name).second) {
        fail(ErrorKind::kBadInput, "{}: {} appears twice", name_, subject_);
      }
    }
    header.data_begin = padded(at_, header.alignment);
    place(header, offsets);
    return header;
  }

 private:
  std::size_t left() const { return header_.size() - at_; }

  [[noreturn]] void truncated(std::string_view what, std::uint64_t number, std::string_view unit) const {
    fail(ErrorKind::kBadInput, "{}: truncated or damaged: {}: {} of {} {} at byte {}, but only {} bytes follow{}",
         name_, subject_, what, number, unit, at_, left(),
         header_.size() < file_.size() ? fmt::format(" of the {} that a header may take", kMaxHeaderBytes) : "");
  }

  template <class T>
  T number(std::string_view what) {
    if (left() < sizeof(T)) truncated(what, sizeof(T), "bytes");
    T value;
    std::memcpy(&value, header_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  bool boolean() {
    const auto byte = number<std::uint8_t>("a bool");
    if (byte > 1) fail(ErrorKind::kBadInput, "{}: {}: found the bool {}, expected 0 or 1", name_, subject_, byte);
    return byte == 1;
  }

  std::string string(std::string_view what) {
    const auto length = number<std::uint64_t>("a length");
    if (length > left()) truncated(what, length, "bytes");
    std::string text(reinterpret_cast<const char*>(header_.data()) + at_, length);
    at_ += length;
    return text;
  }

  std::uint32_t version() {
    if (!is_gguf(file_)) {
      const std::string_view start(reinterpret_cast<const char*>(file_.data()), std::min<std::size_t>(file_.size(), 4));
      fail(ErrorKind::kBadInput, "{}: not a GGUF file: begins with {}, expected \"{}\"", name_, in_quotes(start),
           kGgufMagic);
    }
    at_ = kGgufMagic.size();
    const auto version = number<std::uint32_t>("a version");
    if (version != 0 && (version & 0xFFFFU) == 0) {
      fail(ErrorKind::kUnsupported, "{}: a big-endian GGUF file (version {}), expected a little-endian one", name_,
           __builtin_bswap32(version));
    }
    if (version < kGgufOldestVersion || version > kGgufVersion) {
      fail(version == 0 ? ErrorKind::kBadInput : ErrorKind::kUnsupported, "{}: GGUF version {}, expected {} or {}",
           name_, version, kGgufOldestVersion, kGgufVersion);
    }
    return version;
  }

  std::uint64_t count(std::string_view of, std::size_t least_bytes) {
    const auto value = number<std::uint64_t>(fmt::format("the number of {}", of));
    if (value > left() / least_bytes) truncated("a list", value, of);
    return value;
  }

  GgufType type(std::string_view what) {
    const auto value = number<std::uint32_t>("a type");
    if (value >= std::variant_size_v<GgufValue>) {
      fail(ErrorKind::kBadInput, "{}: {}: found {} {}, expected 0 to {}", name_, subject_, what, value,
           std::variant_size_v<GgufValue> - 1);
    }
    return static_cast<GgufType>(value);
  }

  void read_item(std::uint64_t i, std::uint64_t items, GgufMetadata& metadata) {
    subject_ = fmt::format("key {} of {}", i + 1, items);
    const std::string key = string("a name");
    subject_ = "key " + in_quotes(key);
    if (metadata.contains(key)) fail(ErrorKind::kBadInput, "{}: {} appears twice", name_, subject_);
    metadata.set(key, value(type("type")));
  }

  GgufValue value(GgufType type) {
    switch (type) {
      case GgufType::kU8:
        return number<std::uint8_t>("a u8");
      case GgufType::kI8:
        return number<std::int8_t>("an i8");
      case GgufType::kU16:
        return number<std::uint16_t>("a u16");
      case GgufType::kI16:
        return number<std::int16_t>("an i16");
      case GgufType::kU32:
        return number<std::uint32_t>("a u32");
      case GgufType::kI32:
        return number<std::int32_t>("an i32");
      case GgufType::kF32:
        return number<float>("an f32");
      case GgufType::kBool:
        return boolean();
      case GgufType::kString:
        return string("a string");
      case GgufType::kU64:
        return number<std::uint64_t>("a u64");
      case GgufType::kI64:
        return number<std::int64_t>("an i64");
      case GgufType::kF64:
        return number<double>("an f64");
      case GgufType::kArray:
        break;
    }
    return array(this->type("array of type"));
  }

  template <class T>
  std::vector<T> numbers(std::uint64_t count) {
    if (count > left() / sizeof(T)) truncated("an array", count, "elements");
    std::vector<T> values(count);
    if (count > 0) std::memcpy(values.data(), header_.data() + at_, count * sizeof(T));
    at_ += count * sizeof(T);
    return values;
  }

  GgufArray array(GgufType element) {
    if (element == GgufType::kArray) {
      fail(ErrorKind::kUnsupported, "{}: {}: an array of arrays is not something that this build reads", name_,
           subject_);
    }
    const auto count = number<std::uint64_t>("the number of elements");
    switch (element) {
      case GgufType::kU8:
        return numbers<std::uint8_t>(count);
      case GgufType::kI8:
        return numbers<std::int8_t>(count);
      case GgufType::kU16:
        return numbers<std::uint16_t>(count);
      case GgufType::kI16:
        return numbers<std::int16_t>(count);
      case GgufType::kU32:
        return numbers<std::uint32_t>(count);
      case GgufType::kI32:
        return numbers<std::int32_t>(count);
      case GgufType::kF32:
        return numbers<float>(count);
      case GgufType::kU64:
        return numbers<std::uint64_t>(count);
      case GgufType::kI64:
        return numbers<std::int64_t>(count);
      case GgufType::kF64:
        return numbers<double>(count);
      case GgufType::kBool: {
        if (count > left()) truncated("an array", count, "elements");
        std::vector<bool> values;
        values.reserve(count);
        for (std::uint64_t i = 0; i < count; ++i) values.push_back(boolean());
        return values;
      }
      case GgufType::kString:
      case GgufType::kArray:
        break;
    }
    if (count > left() / sizeof(std::uint64_t)) truncated("an array", count, "elements");
    std::vector<std::string> values;
    for (std::uint64_t i = 0; i < count; ++i) values.push_back(string("a string"));
    return values;
  }

  TensorEntry read_tensor(std::uint64_t i, std::uint64_t tensors, std::vector<std::uint64_t>& offsets) {
    subject_ = fmt::format("tensor {} of {}", i + 1, tensors);
    TensorEntry entry;
    entry.name = string("a name");
    subject_ = "tensor " + in_quotes(entry.name);
    const auto rank = number<std::uint32_t>("the number of dimensions");
    if (rank > kGgufMaxRank) {
      fail(ErrorKind::kBadInput, "{}: {}: found {} dimensions, expected at most {}", name_, subject_, rank,
           kGgufMaxRank);
    }
    std::vector<Index> dims(rank);  // the first of the file is the last of the shape
    for (std::size_t d = rank; d-- > 0;) {
      const auto dim = number<std::uint64_t>("a dimension");
      if (!std::in_range<Index>(dim)) {
        fail(ErrorKind::kBadInput, "{}: {}: found the dimension {}, expected less than 2^63", name_, subject_, dim);
      }
      dims[d] = static_cast<Index>(dim);
    }
    entry.dtype = tensor_type(number<std::uint32_t>("a type"));
    check_size(dims, entry);
    offsets.push_back(number<std::uint64_t>("an offset"));
    return entry;
  }

  DType tensor_type(std::uint32_t number) const {
    if (const std::optional<DType> dtype = gguf_dtype(number)) return *dtype;
    const std::string_view name = gguf_tensor_type_name(number);
    if (name.empty()) fail(ErrorKind::kBadInput, "{}: {}: unknown type {}", name_, subject_, number);
    fail(ErrorKind::kUnsupported, "{}: {}: type {} ({}) is not one that this build reads", name_, subject_, number,
         name);
  }

  void check_size(const std::vector<Index>& dims, TensorEntry& entry) const {
    const DTypeInfo& info = dtype_info(entry.dtype);
    const Index row = dims.empty() ? 1 : dims.back();
    if (row % info.block_elements != 0) {
      fail(ErrorKind::kBadInput, "{}: {}: found rows of {} elements, expected a multiple of {} for {}", name_, subject_,
           row, info.block_elements, info.name);
    }
    // As in Shape: zeros make the tensor empty, yet the other dimensions must not overflow.
    Index elements = 1, bytes = 0;
    bool overflow = false;
    for (const Index dim : dims) overflow = overflow || __builtin_mul_overflow(elements, dim == 0 ? 1 : dim, &elements);
    if (overflow || __builtin_mul_overflow(elements, info.block_bytes, &bytes)) {
      fail(ErrorKind::kBadInput, "{}: {}: the size of shape [{}] of {} overflows", name_, subject_,
           fmt::join(dims, ", "), info.name);
    }
    entry.shape = Shape(dims);
    entry.bytes = static_cast<std::size_t>(dtype_bytes(entry.dtype, entry.shape.numel()));
  }

  // Each tensor begins at the padded end of the one before: what ggml's reader asks for, and what leaves no overlap.
  void place(GgufHeader& header, const std::vector<std::uint64_t>& offsets) const {
    std::size_t expected = 0;
    for (std::size_t i = 0; i < header.tensors.size(); ++i) {
      TensorEntry& entry = header.tensors[i];
      if (offsets[i] != expected) {
        fail(ErrorKind::kBadInput, "{}: tensor {}: found offset {}, expected {}, {} at a multiple of {}", name_,
             in_quotes(entry.name), offsets[i], expected,
             i == 0 ? "the beginning of the data" : "behind " + in_quotes(header.tensors[i - 1].name),
             header.alignment);
      }
      const std::size_t data_bytes = file_.size() < header.data_begin ? 0 : file_.size() - header.data_begin;
      if (file_.size() < header.data_begin || expected > data_bytes || entry.bytes > data_bytes - expected) {
        fail(ErrorKind::kBadInput,
             "{}: truncated: tensor {} takes {} bytes from byte {} of the data on, but the file holds only {} bytes of "
             "data",
             name_, in_quotes(entry.name), entry.bytes, expected, data_bytes);
      }
      entry.offset = header.data_begin + expected;
      expected = padded(expected + entry.bytes, header.alignment);
    }
  }

  std::span<const std::byte> file_, header_;
  std::string_view name_;
  std::size_t at_ = 0;
  std::string subject_ = "header";
};

}  // namespace

bool is_gguf(std::span<const std::byte> file) {
  return file.size() >= kGgufMagic.size() && std::memcmp(file.data(), kGgufMagic.data(), kGgufMagic.size()) == 0;
}

GgufHeader parse_gguf_header(std::span<const std::byte> file, std::string_view name) {
  return HeaderReader(file, name).read();
}

}  // namespace switchyard::formats
