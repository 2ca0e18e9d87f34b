#include "switchyard/tensor/dtype.hpp"

#include <array>

#include "switchyard/base/error.hpp"

namespace switchyard {
namespace {

constexpr std::array kTypes = {
    DTypeInfo{DType::kF32, "F32", 1, 4, true},        DTypeInfo{DType::kF64, "F64", 1, 8, true},
    DTypeInfo{DType::kF16, "F16", 1, 2, true},        DTypeInfo{DType::kBF16, "BF16", 1, 2, true},
    DTypeInfo{DType::kF8E4M3, "F8_E4M3", 1, 1, true}, DTypeInfo{DType::kF8E5M2, "F8_E5M2", 1, 1, true},
    DTypeInfo{DType::kF8E8M0, "F8_E8M0", 1, 1, true}, DTypeInfo{DType::kF4, "F4", 2, 1, true},
    DTypeInfo{DType::kI8, "I8", 1, 1, false},         DTypeInfo{DType::kU8, "U8", 1, 1, false},
    DTypeInfo{DType::kI16, "I16", 1, 2, false},       DTypeInfo{DType::kU16, "U16", 1, 2, false},
    DTypeInfo{DType::kI32, "I32", 1, 4, false},       DTypeInfo{DType::kU32, "U32", 1, 4, false},
    DTypeInfo{DType::kI64, "I64", 1, 8, false},       DTypeInfo{DType::kU64, "U64", 1, 8, false},
    DTypeInfo{DType::kBool, "BOOL", 1, 1, false},
};
static_assert(
    [] {
      for (std::size_t i = 0; i < kTypes.size(); ++i) {
        if (static_cast<std::size_t>(kTypes[i].dtype) != i) return false;
      }
      return true;
    }(),
    "the table is indexed by the enum's value");

}  // namespace

const DTypeInfo& dtype_info(DType dtype) { return kTypes[static_cast<std::size_t>(dtype)]; }

const DTypeInfo* find_dtype(std::string_view name) {
  for (const DTypeInfo& info : kTypes) {
    if (info.name == name) return &info;
  }
  return nullptr;
}

Index dtype_bytes(DType dtype, Index elements) {
  const DTypeInfo& info = dtype_info(dtype);
  require(elements >= 0 && elements % info.block_elements == 0, "{} elements are not whole blocks of {}", elements,
          info.name);
  Index bytes = 0;
  require(!__builtin_mul_overflow(elements / info.block_elements, info.block_bytes, &bytes),
          "{} elements of {} overflow", elements, info.name);
  return bytes;
}

}  // namespace switchyard
