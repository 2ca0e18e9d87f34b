#include "gguf_format.hpp"

#include <algorithm>
#include <array>

#include "quoted.hpp"

namespace switchyard::formats {
namespace {

constexpr std::size_t kDefaultAlignment = 32, kMaxAlignment = std::size_t{1} << 20;  // as ggml's reader

struct TensorType {
  std::uint32_t number;
  std::string_view name;
  std::optional<DType> dtype;
};

// Source: enum ggml_type of ggml.h.
constexpr TensorType kTensorTypes[] = {
    {0, "F32", DType::kF32},
    {1, "F16", DType::kF16},
    {2, "Q4_0", DType::kQ40},
    {3, "Q4_1", DType::kQ41},
    {6, "Q5_0", DType::kQ50},
    {7, "Q5_1", DType::kQ51},
    {8, "Q8_0", DType::kQ80},
    {9, "Q8_1", {}},
    {10, "Q2_K", DType::kQ2K},
    {11, "Q3_K", DType::kQ3K},
    {12, "Q4_K", DType::kQ4K},
    {13, "Q5_K", DType::kQ5K},
    {14, "Q6_K", DType::kQ6K},
    {15, "Q8_K", {}},
    {16, "IQ2_XXS", {}},
    {17, "IQ2_XS", {}},
    {18, "IQ3_XXS", {}},
    {19, "IQ1_S", {}},
    {20, "IQ4_NL", DType::kIQ4NL},
    {21, "IQ3_S", {}},
    {22, "IQ2_S", {}},
    {23, "IQ4_XS", DType::kIQ4XS},
    {24, "I8", DType::kI8},
    {25, "I16", DType::kI16},
    {26, "I32", DType::kI32},
    {27, "I64", DType::kI64},
    {28, "F64", DType::kF64},
    {29, "IQ1_M", {}},
    {30, "BF16", DType::kBF16},
    {34, "TQ1_0", {}},
    {35, "TQ2_0", {}},
    {39, "MXFP4", DType::kMXFP4},
    {40, "NVFP4", {}},
    {41, "Q1_0", {}},
};

const TensorType* tensor_type_of(std::uint32_t number) {
  const auto* const found = std::find_if(std::begin(kTensorTypes), std::end(kTensorTypes),
                                         [&](const TensorType& type) { return type.number == number; });
  return found == std::end(kTensorTypes) ? nullptr : found;
}

}  // namespace

std::optional<std::uint32_t> gguf_tensor_type(DType dtype) {
  for (const TensorType& type : kTensorTypes) {
    if (type.dtype == dtype) return type.number;
  }
  return {};
}

std::optional<DType> gguf_dtype(std::uint32_t tensor_type) {
  const TensorType* type = tensor_type_of(tensor_type);
  return type == nullptr ? std::nullopt : type->dtype;
}

std::string_view gguf_tensor_type_name(std::uint32_t tensor_type) {
  const TensorType* type = tensor_type_of(tensor_type);
  return type == nullptr ? std::string_view() : type->name;
}

std::size_t gguf_alignment(const GgufMetadata& metadata) {
  const GgufValue* value = metadata.find(kAlignmentKey);
  if (value == nullptr) return kDefaultAlignment;
  const auto* alignment = std::get_if<std::uint32_t>(value);
  if (alignment == nullptr || !std::has_single_bit(*alignment) || *alignment > kMaxAlignment) {
    metadata.refuse(kAlignmentKey, fmt::format("a u32 that is a power of two up to {}", kMaxAlignment));
  }
  return *alignment;
}

std::string gguf_part_suffix(std::size_t number, std::size_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", number + 1, count);
}

}  // namespace switchyard::formats
