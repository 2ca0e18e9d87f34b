#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <unordered_set>

#include "quoted.hpp"
#include "safetensors_format.hpp"
#include "strict_json.hpp"
#include "switchyard/formats/safetensors.hpp"

namespace switchyard::formats {
namespace {

using nlohmann::json;

// Types of the format that no DType stands for yet.
constexpr std::array<std::string_view, 5> kUnsupportedTypes = {"C64", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F6_E2M3",
                                                               "F6_E3M2"};

// An entry as it stands in the header: offsets count from the start of the data.
struct RawEntry {
  std::string name;
  std::optional<std::string> dtype;
  std::optional<std::vector<Index>> shape;
  std::optional<std::vector<Index>> offsets;
};

// Takes the header apart as it is parsed and refuses the first thing that is out of place, so that a hostile header
// of 100 MB never becomes a document in memory.
class HeaderHandler final : public nlohmann::json_sax<json> {
 public:
  explicit HeaderHandler(std::string_view file) : file_(file) {}
  std::vector<RawEntry> entries;
  SafetensorsMetadata metadata;

  bool null() override { unexpected("null"); }
  bool boolean(bool value) override { unexpected(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { unexpected(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override { unexpected(printable(text)); }
  bool binary(binary_t&) override { unexpected("binary"); }

  bool number_unsigned(number_unsigned_t value) override {
    if ((place_ != Place::kShape && place_ != Place::kOffsets) ||
        value > static_cast<number_unsigned_t>(std::numeric_limits<Index>::max())) {
      unexpected(std::to_string(value));
    }
    std::vector<Index>& list = place_ == Place::kShape ? *entries.back().shape : *entries.back().offsets;
    const std::size_t limit = place_ == Place::kShape ? Shape::kMaxRank : 2;
    if (list.size() == limit) {
      fail(ErrorKind::kBadInput, "{}: {}: found more than {} numbers in {}, expected at most {}", file_, subject(),
           limit, field_, limit);
    }
    list.push_back(static_cast<Index>(value));
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      if (!metadata.emplace(field_, std::move(value)).second) {
        fail(ErrorKind::kBadInput, "{}: __metadata__: key {} appears twice", file_, in_quotes(field_));
      }
    } else if (place_ == Place::kEntry && field_ == "dtype") {
      entries.back().dtype = std::move(value);
    } else {
      unexpected(in_quotes(value));
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop) {
      place_ = in_metadata_ ? Place::kMetadata : Place::kEntry;
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::kEntry && field_ == "shape") {
      entries.back().shape.emplace();
      place_ = Place::kShape;
    } else if (place_ == Place::kEntry && field_ == "data_offsets") {
      entries.back().offsets.emplace();
      place_ = Place::kOffsets;
    } else {
      unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    place_ = Place::kEntry;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kEntry) {
      const RawEntry& entry = entries.back();
      const char* missing = !entry.dtype ? "dtype" : !entry.shape ? "shape" : !entry.offsets ? "data_offsets" : nullptr;
      if (missing != nullptr) fail(ErrorKind::kBadInput, "{}: {}: {} is missing", file_, subject(), missing);
    }
    place_ = place_ == Place::kTop ? Place::kStart : Place::kTop;
    return true;
  }

  bool key(string_t& name) override {
    if (place_ == Place::kTop) {
      in_metadata_ = name == kMetadataKey;
      if (in_metadata_) {
        if (seen_metadata_) fail(ErrorKind::kBadInput, "{}: key \"{}\" appears twice", file_, kMetadataKey);
        seen_metadata_ = true;
      } else {
        entries.push_back({std::move(name), {}, {}, {}});
      }
      return true;
    }
    field_ = std::move(name);
    if (place_ == Place::kEntry) {
      const RawEntry& entry = entries.back();
      if (field_ != "dtype" && field_ != "shape" && field_ != "data_offsets") {
        fail(ErrorKind::kBadInput, "{}: {}: found key {}, expected dtype, shape and data_offsets", file_, subject(),
             in_quotes(field_));
      }
      if ((field_ == "dtype" && entry.dtype) || (field_ == "shape" && entry.shape) ||
          (field_ == "data_offsets" && entry.offsets)) {
        fail(ErrorKind::kBadInput, "{}: {}: key \"{}\" appears twice", file_, subject(), field_);
      }
    }
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    fail_not_json(fmt::format("{}: header", file_), error);
  }

 private:
  enum class Place { kStart, kTop, kEntry, kMetadata, kShape, kOffsets };

  std::string subject() const {
    return in_metadata_ ? std::string(kMetadataKey) : "tensor " + in_quotes(entries.back().name);
  }

  [[noreturn]] void unexpected(std::string_view found) const {
    switch (place_) {
      case Place::kStart:
        fail(ErrorKind::kBadInput, "{}: header: found {}, expected an object", file_, found);
      case Place::kTop:
        fail(ErrorKind::kBadInput, "{}: {}: found {}, expected an object", file_, subject(), found);
      case Place::kMetadata:
        fail(ErrorKind::kBadInput, "{}: __metadata__: {}: found {}, expected a string", file_, in_quotes(field_),
             found);
      case Place::kEntry:
        fail(ErrorKind::kBadInput, "{}: {}: {}: found {}, expected {}", file_, subject(), field_, found,
             field_ == "dtype" ? "a string" : "an array of integers");
      case Place::kShape:
      case Place::kOffsets:
        break;
    }
    fail(ErrorKind::kBadInput, "{}: {}: {}: found {}, expected an integer from 0 to 2^63 - 1", file_, subject(), field_,
         found);
  }

  std::string_view file_;
  Place place_ = Place::kStart;
  bool in_metadata_ = false, seen_metadata_ = false;
  std::string field_;
};

DType known_type(const RawEntry& raw, std::string_view file) {
  if (const DTypeInfo* info = find_dtype(*raw.dtype)) return info->dtype;
  if (std::find(kUnsupportedTypes.begin(), kUnsupportedTypes.end(), *raw.dtype) != kUnsupportedTypes.end()) {
    fail(ErrorKind::kUnsupported, "{}: tensor {}: dtype {} is not one that this build reads", file, in_quotes(raw.name),
         *raw.dtype);
  }
  fail(ErrorKind::kBadInput, "{}: tensor {}: unknown dtype {}", file, in_quotes(raw.name), in_quotes(*raw.dtype));
}

// The bytes that dtype and shape ask for.
Index wanted_bytes(const RawEntry& raw, DType dtype, std::string_view file) {
  // As in Shape: zeros make the tensor empty, yet the other dimensions must not overflow.
  const DTypeInfo& info = dtype_info(dtype);
  Index elements = 1, bytes = 0;
  bool empty = false, overflow = false;
  for (const Index dim : *raw.shape) {
    empty = empty || dim == 0;
    overflow = overflow || (dim != 0 && __builtin_mul_overflow(elements, dim, &elements));
  }
  if (overflow || __builtin_mul_overflow(elements, info.block_bytes, &bytes)) {
    fail(ErrorKind::kBadInput, "{}: tensor {}: the size of shape [{}] of {} overflows", file, in_quotes(raw.name),
         fmt::join(*raw.shape, ", "), *raw.dtype);
  }
  if (empty) return 0;
  if (elements % info.block_elements != 0) {
    fail(ErrorKind::kBadInput, "{}: tensor {}: found {} elements of {}, expected a multiple of {}", file,
         in_quotes(raw.name), elements, *raw.dtype, info.block_elements);
  }
  return bytes / info.block_elements;
}

TensorEntry checked_entry(RawEntry& raw, std::size_t data_begin, std::size_t data_bytes, std::string_view file) {
  const DType dtype = known_type(raw, file);
  if (raw.offsets->size() != 2) {
    fail(ErrorKind::kBadInput, "{}: tensor {}: found {} data_offsets, expected 2", file, in_quotes(raw.name),
         raw.offsets->size());
  }
  const Index begin = (*raw.offsets)[0], end = (*raw.offsets)[1];
  if (begin > end) {
    fail(ErrorKind::kBadInput, "{}: tensor {}: data_offsets [{}, {}] run backwards", file, in_quotes(raw.name), begin,
         end);
  }
  const Index wanted = wanted_bytes(raw, dtype, file);
  if (end - begin != wanted) {
    fail(ErrorKind::kBadInput, "{}: tensor {}: data_offsets [{}, {}] are {} bytes, expected {} for shape [{}] of {}",
         file, in_quotes(raw.name), begin, end, end - begin, wanted, fmt::join(*raw.shape, ", "), *raw.dtype);
  }
  if (static_cast<std::size_t>(end) > data_bytes) {
    fail(ErrorKind::kBadInput,
         "{}: truncated: tensor {} ends at byte {} of the data, but the file holds only {} bytes of data", file,
         in_quotes(raw.name), end, data_bytes);
  }
  return {std::move(raw.name), dtype, Shape(*raw.shape), data_begin + static_cast<std::size_t>(begin),
          static_cast<std::size_t>(wanted)};
}

// Sorts by place and refuses gaps and overlaps. `end` is the size of the file.
void check_coverage(SafetensorsHeader& header, std::size_t end, std::string_view file) {
  std::stable_sort(header.tensors.begin(), header.tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
  });
  std::size_t covered = header.data_begin;
  const TensorEntry* previous = nullptr;
  const auto range = [&](const TensorEntry& entry) {
    return fmt::format("{} [{}, {}]", in_quotes(entry.name), entry.offset - header.data_begin,
                       entry.offset + entry.bytes - header.data_begin);
  };
  for (const TensorEntry& entry : header.tensors) {
    if (entry.offset < covered) {
      fail(ErrorKind::kBadInput, "{}: the data of tensors {} and {} overlaps", file, range(*previous), range(entry));
    }
    if (entry.offset > covered) {
      fail(ErrorKind::kBadInput, "{}: {} bytes of data before tensor {} belong to no tensor; {}", file,
           entry.offset - covered, range(entry),
           previous == nullptr ? "it is the first one" : "the one before is " + range(*previous));
    }
    covered = entry.offset + entry.bytes;
    previous = &entry;
  }
  if (covered != end) {
    fail(ErrorKind::kBadInput, "{}: {} bytes at the end of the file belong to no tensor; {}", file, end - covered,
         previous == nullptr ? "there are no tensors" : "the last one is " + range(*previous));
  }
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, std::string_view name) {
  if (file.size() < kLengthBytes) {
    fail(ErrorKind::kBadInput, "{}: truncated: {} bytes, expected at least 8 for the header's length", name,
         file.size());
  }
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), kLengthBytes);
  if (length > kMaxHeaderBytes) {
    fail(ErrorKind::kBadInput,
         "{}: not a safetensors file, or damaged: the header's length is {} bytes, expected at "
         "most {}",
         name, length, kMaxHeaderBytes);
  }
  if (length > file.size() - kLengthBytes) {
    fail(ErrorKind::kBadInput, "{}: truncated: the header's length is {} bytes, but only {} follow", name, length,
         file.size() - kLengthBytes);
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
  if (text.empty() || text.front() != '{') {
    fail(ErrorKind::kBadInput, "{}: header: found {}, expected '{{'", name,
         text.empty() ? "nothing" : in_quotes(text.substr(0, 1)));
  }
  HeaderHandler handler(name);
  parse_json_events(text, name, handler);

  SafetensorsHeader header;
  header.metadata = std::move(handler.metadata);
  header.data_begin = kLengthBytes + length;
  header.tensors.reserve(handler.entries.size());
  std::unordered_set<std::string_view> names;
  for (RawEntry& raw : handler.entries) {
    header.tensors.push_back(checked_entry(raw, header.data_begin, file.size() - header.data_begin, name));
    // reserve() above keeps the names in place.
    if (!names.insert(header.tensors.back().name).second) {
      fail(ErrorKind::kBadInput, "{}: tensor {} appears twice", name, in_quotes(header.tensors.back().name));
    }
  }
  names.clear();
  check_coverage(header, file.size(), name);
  return header;
}

}  // namespace switchyard::formats
