#pragma once

#include "fuzz.hpp"
#include "switchyard/formats/safetensors.hpp"

namespace switchyard::fuzz {

// Parses `file`; what is accepted must cover the data exactly.
inline void parse_safetensors(std::string_view file) {
  const formats::SafetensorsHeader header = formats::parse_safetensors_header(bytes_of(file), "input");
  std::size_t at = header.data_begin;
  for (const formats::TensorEntry& entry : header.tensors) {
    check(entry.offset == at, "tensors follow each other without gap or overlap");
    check(static_cast<Index>(entry.bytes) == dtype_bytes(entry.dtype, entry.shape.numel()), "sizes match the shapes");
    at += entry.bytes;
  }
  check(at == file.size(), "the tensors end where the file ends");
}

}  // namespace switchyard::fuzz
