#pragma once
// The parameters that a model of a config has, before there is any.

#include <string>
#include <vector>

#include "switchyard/model/config.hpp"
#include "switchyard/tensor/tensor.hpp"

namespace switchyard::model {

struct ParameterShape {
  std::string name;  // "layers.3.attention.q"
  Shape shape;
  ParameterPart part = ParameterPart::kAttention;
  Index layer = -1;  // -1 outside the layers
};

// In the order of the forward pass. The config must be valid. Throws kBadInput where a size overflows.
std::vector<ParameterShape> parameter_shapes(const ModelConfig& config);

}  // namespace switchyard::model
