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
  kBool,
  // Quantised types, of GGUF alone: a block holds integers of a few bits and the scales that make numbers of them.
  // Layouts and formulas: docs/formats/gguf.md.
  kQ80,    // Q8_0
  kQ40,    // Q4_0
  kQ41,    // Q4_1
  kQ50,    // Q5_0
  kQ51,    // Q5_1
  kQ2K,    // Q2_K
  kQ3K,    // Q3_K
  kQ4K,    // Q4_K
  kQ5K,    // Q5_K
  kQ6K,    // Q6_K
  kIQ4NL,  // IQ4_NL
  kIQ4XS,  // IQ4_XS
  kMXFP4   // with its scale, and the nibbles in another order than F4
};

struct DTypeInfo {
  DType dtype;
  std::string_view name;  // as safetensors spells it: "F32", "BF16", "I64"; of a quantised type as GGUF does: "Q4_K"
  Index block_elements;   // 1 for plain types, 2 for F4, 32 or 256 for quantised ones
  Index block_bytes;
  bool is_float;              // stands for numbers that need not be integers
  bool is_quantised = false;  // a block holds its own scales; it is read as a whole
};

const DTypeInfo& dtype_info(DType dtype);
// Null where no type has that safetensors name. Quantised types have none.
const DTypeInfo* find_dtype(std::string_view name);
// Bytes of `elements` values; elements must be a multiple of the block. Throws kInternal otherwise or on overflow.
Index dtype_bytes(DType dtype, Index elements);
// What the address of values must be a multiple of, for them to be read in place.
Index dtype_alignment(DType dtype);

}  // namespace switchyard
