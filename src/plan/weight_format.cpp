#include "switchyard/plan/weight_format.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "switchyard/base/error.hpp"

namespace switchyard::plan {
namespace {

using model::ParameterPart;
using model::ParameterShape;

constexpr Index kScaledRows = 128, kScaleBytes = 4;  // DeepSeek-V3's FP8: a float32 for 128 x 128 elements
constexpr BlockType kFloat32{1, 4}, kHalf{1, 2};
constexpr BlockType kQ80{32, 34}, kQ51{32, 24}, kQ50{32, 22}, kIq4Nl{32, 18};

// Block sizes are those of ggml's types (ggml-common.h) and of the OCP microscaling format MXFP4.
constexpr std::array<WeightFormat, 10> kFormats = {{
    {"float32", FormatScope::kAll, kFloat32, {}, true, "every parameter 4 bytes"},
    {"bf16", FormatScope::kAll, kHalf, {}, true, "every parameter 2 bytes; float16 takes the same"},
    {"fp8",
     FormatScope::kLayers,
     {1, 1},
     {},
     true,
     "matrices of the layers, with a float32 scale for 128 x 128 elements; embedding, head, routers and norms bf16"},
    {"q8_0", FormatScope::kMatrices, kQ80, kQ80, false, "8.5 bits; routers and vectors float32"},
    {"q6_k",
     FormatScope::kMatrices,
     {256, 210},
     kQ80,
     false,
     "6.56 bits; rows that are not a multiple of 256 take q8_0"},
    {"q5_k",
     FormatScope::kMatrices,
     {256, 176},
     kQ51,
     false,
     "5.5 bits; rows that are not a multiple of 256 take q5_1"},
    {"q4_k",
     FormatScope::kMatrices,
     {256, 144},
     kQ50,
     false,
     "4.5 bits; rows that are not a multiple of 256 take q5_0"},
    {"mxfp4", FormatScope::kExperts, {32, 17}, {}, true, "4.25 bits for routed experts; everything else bf16"},
    {"q3_k",
     FormatScope::kMatrices,
     {256, 110},
     kIq4Nl,
     false,
     "3.44 bits; rows that are not a multiple of 256 take iq4_nl"},
    {"q2_k",
     FormatScope::kMatrices,
     {256, 84},
     kIq4Nl,
     false,
     "2.63 bits; rows that are not a multiple of 256 take iq4_nl"},
}};

// A stack of experts has a dimension more; their biases do not.
bool is_matrix(const ParameterShape& parameter) {
  return parameter.shape.rank() == (parameter.part == ParameterPart::kRoutedExperts ? 3 : 2);
}

bool in_scope(const WeightFormat& format, const ParameterShape& parameter) {
  const ParameterPart part = parameter.part;
  if (format.scope == FormatScope::kAll) return true;
  if (!is_matrix(parameter) || part == ParameterPart::kRouter) return false;
  if (format.scope == FormatScope::kMatrices) return true;
  if (format.scope == FormatScope::kExperts) return part == ParameterPart::kRoutedExperts;
  return part != ParameterPart::kEmbedding && part != ParameterPart::kOutput;
}

Index product(Index a, Index b, const ParameterShape& parameter) {
  Index result = 0;
  if (__builtin_mul_overflow(a, b, &result))
    fail(ErrorKind::kBadInput, "{} {}: the number of bytes overflows", parameter.name, parameter.shape.to_string());
  return result;
}

}  // namespace

std::span<const WeightFormat> weight_formats() { return kFormats; }

const WeightFormat& find_weight_format(std::string_view name) {
  const auto found =
      std::find_if(kFormats.begin(), kFormats.end(), [&](const WeightFormat& f) { return f.name == name; });
  if (found != kFormats.end()) return *found;
  std::string known;
  for (const WeightFormat& format : kFormats) known += fmt::format("{}{}", known.empty() ? "" : ", ", format.name);
  fail(ErrorKind::kUsage, "unknown data type \"{}\", known are {}", name, known);
}

const WeightFormat* stored_format(const model::StatedStorage& stored) {
  if (!stored.quantisation.empty()) {
    const auto found = std::find_if(kFormats.begin(), kFormats.end(),
                                    [&](const WeightFormat& f) { return f.name == stored.quantisation; });
    return found == kFormats.end() ? nullptr : &*found;
  }
  if (stored.dtype == "float32") return &find_weight_format("float32");
  if (stored.dtype == "bfloat16" || stored.dtype == "float16") return &find_weight_format("bf16");
  return nullptr;
}

Index stored_bytes(const WeightFormat& format, const ParameterShape& parameter) {
  const Index elements = parameter.shape.numel();
  const int rank = parameter.shape.rank();
  if (!in_scope(format, parameter)) {
    const BlockType& kept = format.scope == FormatScope::kMatrices ? kFloat32 : kHalf;
    return product(elements, kept.bytes, parameter);
  }
  if (format.scope == FormatScope::kAll) return product(elements, format.block.bytes, parameter);
  const Index cols = parameter.shape[rank - 1];
  if (format.scope == FormatScope::kLayers) {
    const Index rows = parameter.shape[rank - 2], matrices = rank == 3 ? parameter.shape[0] : 1;
    const Index scales = ceil_div(rows, kScaledRows) * ceil_div(cols, kScaledRows) * matrices;
    return product(elements, format.block.bytes, parameter) + product(scales, kScaleBytes, parameter);
  }
  BlockType block = format.block;
  if (cols % block.elements != 0 && format.short_rows.bytes != 0) block = format.short_rows;
  if (cols % block.elements != 0) block = kHalf;
  return product(elements / block.elements, block.bytes, parameter);
}

}  // namespace switchyard::plan
