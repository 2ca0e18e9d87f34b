#pragma once
// Where a file holds the parameters of a model.

#include <functional>
#include <string>
#include <vector>

#include "family.hpp"
#include "parameter_table.hpp"
#include "switchyard/tensor/tensor.hpp"

namespace switchyard::model {

// Elements that a tensor of a file and a parameter have in common, contiguous in both.
struct TensorRun {
  std::string file_tensor;
  Shape file_shape;
  Index file_begin = 0;
  Index parameter_begin = 0;
  Index count = 0;
};

// The ways in which the family's files may hold a parameter, the one that is written first. kInternal where the table
// has none.
std::vector<TensorRule> rules_for(const Family& family, const ParameterRow& parameter);

// The runs that make up the whole parameter under a rule, in the order of its elements.
void for_each_run(const TensorRule& rule, const ParameterRow& parameter,
                  const std::function<void(const TensorRun&)>& f);
// The file tensor of the first of them.
std::string first_file_tensor(const TensorRule& rule, const ParameterRow& parameter);

}  // namespace switchyard::model
