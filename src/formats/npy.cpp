#include "switchyard/formats/npy.hpp"

#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <vector>

#include "quoted.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/mapped_file.hpp"

namespace switchyard::formats {
namespace {

static_assert(std::endian::native == std::endian::little, "array data is used as it lies in the file");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kVersionBytes = 2;
constexpr std::size_t kAlignment = 64;  // of the first byte of data
// numpy leaves room to rewrite the first dimension of an array that grows, up to 21 digits.
constexpr std::size_t kGrowthDigits = 21;
// numpy refuses longer headers unless the file is trusted.
constexpr std::size_t kMaxHeaderBytes = 10000;

struct Descriptor {
  DType dtype;
  std::string_view name;
};
constexpr std::array kDescriptors = {Descriptor{DType::kF32, "<f4"}, Descriptor{DType::kF64, "<f8"},
                                     Descriptor{DType::kI32, "<i4"}, Descriptor{DType::kI64, "<i8"}};

// The header is the text of a Python dictionary with exactly these keys.
struct Dictionary {
  std::optional<std::string> descr;
  std::optional<bool> fortran_order;
  std::optional<std::vector<Index>> shape;
};

class DictionaryParser {
 public:
  DictionaryParser(std::string_view text, std::string_view file) : text_(text), file_(file) {}

  Dictionary parse() {
    Dictionary result;
    expect('{');
    while (!take('}')) {
      const std::string key = string();
      expect(':');
      if (key == "descr") {
        once(result.descr.has_value(), key);
        if (peek() == '[') {
          fail(ErrorKind::kUnsupported, "{}: header: found a structured dtype, expected '<f4', '<f8', '<i4' or '<i8'",
               file_);
        }
        result.descr = string();
      } else if (key == "fortran_order") {
        once(result.fortran_order.has_value(), key);
        result.fortran_order = boolean();
      } else if (key == "shape") {
        once(result.shape.has_value(), key);
        result.shape = tuple();
      } else {
        fail(ErrorKind::kBadInput, "{}: header: found key {}, expected descr, fortran_order and shape", file_,
             in_quotes(key));
      }
      if (!take(',') && peek() != '}') wrong("',' or '}'");
    }
    if (peek() != '\0') wrong("the end of the header");
    const char* missing = !result.descr           ? "descr"
                          : !result.fortran_order ? "fortran_order"
                          : !result.shape         ? "shape"
                                                  : nullptr;
    if (missing != nullptr) fail(ErrorKind::kBadInput, "{}: header: key \"{}\" is missing", file_, missing);
    return result;
  }

 private:
  // The next character that is not white space, '\0' at the end.
  char peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char wanted) {
    if (peek() != wanted) return false;
    ++at_;
    return true;
  }
  void expect(char wanted) {
    if (!take(wanted)) wrong(fmt::format("'{}'", wanted));
  }
  [[noreturn]] void wrong(std::string_view expected) const {
    fail(ErrorKind::kBadInput, "{}: header: found {} at offset {}, expected {}", file_,
         at_ < text_.size() ? in_quotes(text_.substr(at_, 12)) : "its end", at_, expected);
  }
  void once(bool seen, std::string_view key) const {
    if (seen) fail(ErrorKind::kBadInput, "{}: header: key \"{}\" appears twice", file_, key);
  }

  std::string string() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') wrong("a string");
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) wrong("a string that ends");
    std::string result(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return result;
  }
  bool boolean() {
    peek();
    for (const bool value : {false, true}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return value;
      }
    }
    wrong("True or False");
  }
  Index integer() {
    peek();
    const std::size_t begin = at_;
    Index value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, text_[at_] - '0', &value)) {
        fail(ErrorKind::kBadInput, "{}: header: shape: a dimension above 2^63 - 1", file_);
      }
    }
    if (at_ == begin) wrong("a non-negative integer");
    return value;
  }
  std::vector<Index> tuple() {
    std::vector<Index> values;
    expect('(');
    while (!take(')')) {
      values.push_back(integer());
      // "(3)" is a number in Python, not a tuple; "(3,)" is one.
      if (!take(',') && (values.size() == 1 || peek() != ')')) wrong(values.size() == 1 ? "','" : "',' or ')'");
    }
    return values;
  }

  std::string_view text_, file_;
  std::size_t at_ = 0;
};

DType known_type(const std::string& descr, std::string_view file) {
  for (const Descriptor& known : kDescriptors) {
    if (known.name == descr) return known.dtype;
  }
  std::string_view remark;
  if (descr.find('O') != std::string::npos) remark = " (pickled Python objects are never read)";
  if (descr.starts_with('>')) remark = " (big-endian)";
  fail(ErrorKind::kUnsupported, "{}: header: found dtype {}{}, expected '<f4', '<f8', '<i4' or '<i8'", file,
       in_quotes(descr), remark);
}

Shape checked_shape(const std::vector<Index>& dims, DType dtype, std::string_view file) {
  if (dims.size() > Shape::kMaxRank) {
    fail(ErrorKind::kUnsupported, "{}: header: found {} dimensions, expected at most {}", file, dims.size(),
         Shape::kMaxRank);
  }
  Index product = dtype_info(dtype).block_bytes;
  for (const Index dim : dims) {
    if (dim != 0 && __builtin_mul_overflow(product, dim, &product)) {
      fail(ErrorKind::kBadInput, "{}: header: the size of shape [{}] overflows", file, fmt::join(dims, ", "));
    }
  }
  return Shape(dims);
}

std::string header_of(std::string_view descr, const Shape& shape) {
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", descr,
                                   fmt::join(shape.dims(), ", "), shape.rank() == 1 ? "," : "");
  if (shape.rank() > 0) header.append(kGrowthDigits - std::to_string(shape[0]).size(), ' ');
  const std::size_t before = kMagic.size() + kVersionBytes + sizeof(std::uint16_t);
  // With nothing left to pad numpy adds 64 spaces; so do we, to write the same bytes.
  header.append(kAlignment - (before + header.size() + 1) % kAlignment, ' ');
  return header + '\n';
}

}  // namespace

void write_npy(const std::filesystem::path& path, const Tensor& tensor) {
  require(tensor.defined(), "{}: the tensor to write holds nothing", path.string());
  const Descriptor* type = nullptr;
  for (const Descriptor& known : kDescriptors) {
    if (known.dtype == tensor.dtype()) type = &known;
  }
  if (type == nullptr) {
    fail(ErrorKind::kUnsupported, "{}: cannot write {} as NPY, expected F32, F64, I32 or I64", path.string(),
         dtype_info(tensor.dtype()).name);
  }
  const std::string header = header_of(type->name, tensor.shape());
  const auto length = static_cast<std::uint16_t>(header.size());
  AtomicFile file(path);
  file.write(kMagic);
  file.write(std::string_view("\x01\x00", kVersionBytes));
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(header);
  file.write(tensor.bytes());
  file.commit();
}

Tensor parse_npy(std::span<const std::byte> file, std::string_view name) {
  const std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.size());
  if (!bytes.starts_with(kMagic)) {
    fail(ErrorKind::kBadInput, "{}: not an NPY file: begins with {}, expected \"\\x93NUMPY\"", name,
         in_quotes(bytes.substr(0, kMagic.size())));
  }
  const auto truncated = [&](std::string_view what) {
    fail(ErrorKind::kBadInput, "{}: truncated: {} bytes, the file ends within {}", name, bytes.size(), what);
  };
  std::size_t at = kMagic.size();
  if (bytes.size() < at + kVersionBytes) truncated("the version");
  const int major = static_cast<unsigned char>(bytes[at]), minor = static_cast<unsigned char>(bytes[at + 1]);
  at += kVersionBytes;
  if ((major != 1 && major != 2) || minor != 0) {
    fail(ErrorKind::kUnsupported, "{}: found NPY version {}.{}, expected 1.0 or 2.0", name, major, minor);
  }
  const std::size_t length_bytes = major == 1 ? sizeof(std::uint16_t) : sizeof(std::uint32_t);
  if (bytes.size() < at + length_bytes) truncated("the header's length");
  std::uint32_t length = 0;
  std::memcpy(&length, bytes.data() + at, length_bytes);
  at += length_bytes;
  if (length > kMaxHeaderBytes) {
    fail(ErrorKind::kBadInput, "{}: the header's length is {} bytes, expected at most {}", name, length,
         kMaxHeaderBytes);
  }
  if (length > bytes.size() - at) truncated("the header");

  const Dictionary header = DictionaryParser(bytes.substr(at, length), name).parse();
  const std::span<const std::byte> data = file.subspan(at + length);
  const DType dtype = known_type(*header.descr, name);
  if (*header.fortran_order) {
    fail(ErrorKind::kUnsupported, "{}: header: found fortran_order True, expected False (C order)", name);
  }
  const Shape shape = checked_shape(*header.shape, dtype, name);
  const auto wanted = static_cast<std::size_t>(dtype_bytes(dtype, shape.numel()));
  if (data.size() != wanted) {
    fail(ErrorKind::kBadInput, "{}: {}found {} bytes of data, expected {} for shape {} of {}", name,
         data.size() < wanted ? "truncated: " : "", data.size(), wanted, shape.to_string(), *header.descr);
  }
  Tensor tensor = Tensor::uninitialized(dtype, shape);
  if (wanted > 0) std::memcpy(tensor.mutable_bytes().data(), data.data(), wanted);
  return tensor;
}

Tensor read_npy(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  return parse_npy(file->bytes(), path.string());
}

}  // namespace switchyard::formats
