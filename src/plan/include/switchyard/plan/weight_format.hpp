#pragma once
// Data types that a checkpoint can have, and how many bytes a parameter takes in each.

#include <span>
#include <string_view>

#include "switchyard/model/config_file.hpp"
#include "switchyard/model/parameter_shape.hpp"

namespace switchyard::plan {

// Which parameters a format is for. What it is not for stays as the note says.
enum class FormatScope {
  kAll,       // every parameter
  kLayers,    // matrices of layers but routers, with a float32 scale for 128 x 128 elements; the rest is bf16
  kExperts,   // matrices of routed experts whose rows are whole blocks; the rest is bf16
  kMatrices,  // matrices but routers, the embedding included; routers and vectors are float32
};

struct BlockType {
  Index elements = 1;
  Index bytes = 0;
};

struct WeightFormat {
  std::string_view name;  // "bf16", "q4_k"
  FormatScope scope = FormatScope::kAll;
  BlockType block;
  BlockType short_rows;        // kMatrices: of rows that are no whole blocks; where these fail too, float16
  bool computed_from = false;  // this engine multiplies by such weights as their file holds them
  std::string_view note;
};

std::span<const WeightFormat> weight_formats();
// Throws kUsage listing the known ones.
const WeightFormat& find_weight_format(std::string_view name);
// The format that a config.json says its checkpoint has; null where it says nothing that we know.
const WeightFormat* stored_format(const model::StatedStorage& stored);

Index stored_bytes(const WeightFormat& format, const model::ParameterShape& parameter);

}  // namespace switchyard::plan
