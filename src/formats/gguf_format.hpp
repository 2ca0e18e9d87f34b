#pragma once
// Numbers and names of the GGUF format that reader and writer share.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "switchyard/formats/gguf.hpp"

namespace switchyard::formats {

static_assert(std::endian::native == std::endian::little, "GGUF data is used as it lies in the file");

inline constexpr std::string_view kGgufMagic = "GGUF";
inline constexpr std::uint32_t kGgufOldestVersion = 2, kGgufVersion = 3;
inline constexpr std::size_t kGgufMaxRank = 4;
inline constexpr std::size_t kGgufMaxNameBytes = 63;  // llama.cpp reads no longer ones
inline constexpr std::string_view kAlignmentKey = "general.alignment";
inline constexpr std::string_view kSplitNoKey = "split.no", kSplitCountKey = "split.count",
                                  kSplitTensorsKey = "split.tensors.count";

// The name of a tensor type that the format has; empty for a number that it has not.
std::string_view gguf_tensor_type_name(std::uint32_t tensor_type);

// general.alignment, or its default. Throws kBadInput where it is none.
std::size_t gguf_alignment(const GgufMetadata& metadata);

inline std::size_t padded(std::size_t bytes, std::size_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

// The end of the name of part `number` (from 0 on) of `count`.
std::string gguf_part_suffix(std::size_t number, std::size_t count);

}  // namespace switchyard::formats
