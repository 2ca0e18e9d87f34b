#pragma once
// Data types of tensors, in one table: a type is a number of elements a block and a number of bytes a block.

#include <cstdint>
#include <string_view>

#include "switchyard/base/index.hpp"

namespace switchyard {

enum class DType : std::uint8_t {
  kF32,
  kF64,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,  // a power of two; serves as a scale
  kF4,      // E2M1, two elements a byte, the lower nibble first
  kI8,
  kU8,
  kI16,
  kU16,
  kI32,
  kU32,
  kI64,
  kU64,
  kBool
};

struct DTypeInfo {
  DType dtype;
  std::string_view name;  // as safetensors spells it: "F32", "BF16", "I64"
  Index block_elements;   // 1 for plain types, 2 for F4
  Index block_bytes;
  bool is_float;
};

const DTypeInfo& dtype_info(DType dtype);
// Null where no type has that safetensors name.
const DTypeInfo* find_dtype(std::string_view name);
// Bytes of `elements` values; elements must be a multiple of the block. Throws kInternal otherwise or on overflow.
Index dtype_bytes(DType dtype, Index elements);

}  // namespace switchyard
