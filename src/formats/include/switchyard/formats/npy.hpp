#pragma once
// NumPy's array files (.npy): float32, float64, int32 and int64, little-endian, C order. Layout and what is refused:
// docs/formats/npy.md. Source: numpy.lib.format.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

#include "switchyard/tensor/tensor.hpp"

namespace switchyard::formats {

// Writes through AtomicFile, byte for byte what numpy.save writes. Throws kUnsupported for other types (the message
// names the file), kResource where the disk is full or read-only.
void write_npy(const std::filesystem::path& path, const Tensor& tensor);

// Reads a file of version 1.0 or 2.0 into an owning tensor. Throws kBadInput where it is damaged, kUnsupported where
// it is sound but pickled, in Fortran order, big-endian, of another type or of a rank above Shape::kMaxRank.
Tensor read_npy(const std::filesystem::path& path);

// The same from memory; `name` stands for the file in messages.
Tensor parse_npy(std::span<const std::byte> file, std::string_view name);

}  // namespace switchyard::formats
