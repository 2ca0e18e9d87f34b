// A whole GGUF file: what is accepted must be safe to read.

#include "switchyard/formats/gguf.hpp"

#include "fuzz.hpp"
#include "switchyard/tensor/not_finite.hpp"

namespace switchyard::fuzz {
namespace {

void ask_for_every_type(const formats::GgufMetadata& metadata) {
  using formats::GgufMetadata;
  for (const auto& [key, value] : metadata.items()) {
    check(metadata.find(key) == &value, "a key leads to its value");
    const auto ask = [&, &name = key](auto accessor) {
      try {
        (metadata.*accessor)(name);
      } catch (const Error& error) {
        check(error.kind() == ErrorKind::kBadInput, "another type is bad input");
      }
    };
    ask(&GgufMetadata::integer);
    ask(&GgufMetadata::number);
    ask(&GgufMetadata::boolean);
    ask(&GgufMetadata::string);
    ask(&GgufMetadata::integers);
    ask(&GgufMetadata::numbers);
    ask(&GgufMetadata::strings);
  }
}

void parse(std::string_view file) {
  const formats::GgufHeader header = formats::parse_gguf_header(bytes_of(file), "input");
  ask_for_every_type(header.metadata);
  std::size_t at = header.data_begin;
  for (const formats::TensorEntry& entry : header.tensors) {
    check(entry.offset >= at && entry.offset % header.alignment == 0, "tensors are aligned and do not overlap");
    check(static_cast<Index>(entry.bytes) == dtype_bytes(entry.dtype, entry.shape.numel()), "sizes match the shapes");
    check(entry.offset <= file.size() && entry.bytes <= file.size() - entry.offset, "tensors lie within the file");
    const auto found = find_not_finite(entry.dtype, bytes_of(file).subspan(entry.offset, entry.bytes));
    check(found.count <= entry.shape.numel(), "no more bad numbers than numbers");
    at = entry.offset + entry.bytes;
  }
}

}  // namespace
}  // namespace switchyard::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace switchyard::fuzz;
  return run([&] { parse(text_of(data, size)); });
}
