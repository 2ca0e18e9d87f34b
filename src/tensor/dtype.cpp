#include "switchyard/tensor/dtype.hpp"

#include <array>

#include "switchyard/base/error.hpp"

namespace switchyard {
namespace {

constexpr DTypeInfo quantised(DType dtype, std::string_view name, Index elements, Index bytes) {
  return {dtype, name, elements, bytes, true, true};
}

constexpr std::array kTypes = {
    DTypeInfo{DType::kF32, "F32", 1, 4, true},        DTypeInfo{DType::kF64, "F64", 1, 8, true},
    DTypeInfo{DType::kF16, "F16", 1, 2, true},        DTypeInfo{DType::kBF16, "BF16", 1, 2, true},
    DTypeInfo{DType::kF8E4M3, "F8_E4M3", 1, 1, true}, DTypeInfo{DType::kF8E5M2, "F8_E5M2", 1, 1, true},
    DTypeInfo{DType::kF8E8M0, "F8_E8M0", 1, 1, true}, DTypeInfo{DType::kF4, "F4", 2, 1, true},
    DTypeInfo{DType::kI8, "I8", 1, 1, false},         DTypeInfo{DType::kU8, "U8", 1, 1, false},
    DTypeInfo{DType::kI16, "I16", 1, 2, false},       DTypeInfo{DType::kU16, "U16", 1, 2, false},
    DTypeInfo{DType::kI32, "I32", 1, 4, false},       DTypeInfo{DType::kU32, "U32", 1, 4, false},
    DTypeInfo{DType::kI64, "I64", 1, 8, false},       DTypeInfo{DType::kU64, "U64", 1, 8, false},
    DTypeInfo{DType::kBool, "BOOL", 1, 1, false},     quantised(DType::kQ80, "Q8_0", 32, 34),
    quantised(DType::kQ40, "Q4_0", 32, 18),           quantised(DType::kQ41, "Q4_1", 32, 20),
    quantised(DType::kQ50, "Q5_0", 32, 22),           quantised(DType::kQ51, "Q5_1", 32, 24),
    quantised(DType::kQ2K, "Q2_K", 256, 84),          quantised(DType::kQ3K, "Q3_K", 256, 110),
    quantised(DType::kQ4K, "Q4_K", 256, 144),         quantised(DType::kQ5K, "Q5_K", 256, 176),
    quantised(DType::kQ6K, "Q6_K", 256, 210),         quantised(DType::kIQ4NL, "IQ4_NL", 32, 18),
    quantised(DType::kIQ4XS, "IQ4_XS", 256, 136),     quantised(DType::kMXFP4, "MXFP4", 32, 17),
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
    if (info.name == name && !info.is_quantised) return &info;
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

Index dtype_alignment(DType dtype) {
  const DTypeInfo& info = dtype_info(dtype);
  return info.is_quantised ? 1 : info.block_bytes;
}

}  // namespace switchyard
