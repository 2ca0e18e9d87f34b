#pragma once
// Numbers and names of the safetensors format that reader and writer share.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace switchyard::formats {

static_assert(std::endian::native == std::endian::little, "safetensors data is used as it lies in the file");

inline constexpr std::size_t kLengthBytes = 8;               // the header's length, unsigned little-endian
inline constexpr std::uint64_t kMaxHeaderBytes = 100000000;  // as the reference reader
inline constexpr std::string_view kMetadataKey = "__metadata__";
inline constexpr std::string_view kSingleFile = "model.safetensors";
inline constexpr std::string_view kIndexFile = "model.safetensors.index.json";

}  // namespace switchyard::formats
