#pragma once
// The parameters that a ModelConfig has: the one place that knows their names, shapes and roles. The model is built
// from it and predictions of its size are read off it.

#include <deque>
#include <functional>
#include <vector>

#include "switchyard/autograd/value.hpp"
#include "switchyard/model/parameter_shape.hpp"
#include "switchyard/model/transformer.hpp"

namespace switchyard::model {

struct ParameterRow : ParameterShape {
  autograd::ParameterRole role = autograd::ParameterRole::kMatrix;
  bool writes_to_residual = false;  // its product is added to the residual stream
  bool of_experts = false;          // stacked, [E, ...]: a token passes through the part of its experts
  // Where the rows (of a vector: the elements) are those of heads: how many a head has, and how many of these, the
  // first, are keys where the others are values.
  Index head_rows = 0, head_keys = 0;
};

// Whether files may hold the parameter in a type of their choice, and it is used as it is stored: the matrices. The
// rest is small, or read where only float32 will do.
bool is_chosen(const ParameterRow& row);

// In the order of the forward pass. The config must be valid.
std::vector<ParameterRow> parameter_table(const ModelConfig& config);

// Makes the parameters of a table: their addresses stay as they are. Those of buffers are not trainable.
void make_parameters(std::vector<ParameterRow> rows, ParameterMemory memory, std::deque<autograd::Parameter>& storage,
                     std::vector<autograd::Parameter*>& parameters);

// The router of the layer that a row of routed experts belongs to.
using RouterOfRow = std::function<const moe::RouterConfig&(const ParameterRow& row)>;
ParameterCounts count_rows(const std::vector<ParameterRow>& rows, bool tied_embeddings, const RouterOfRow& router_of);

}  // namespace switchyard::model
