#pragma once
// Where the files of a family hold the parameters of a model: what a table of TensorRules means for one model.

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "family.hpp"
#include "parameter_table.hpp"
#include "switchyard/tensor/tensor.hpp"
#include "switchyard/tensor/weight.hpp"

namespace switchyard::model {

// Consecutive rows of one matrix of a parameter (the whole, or one expert's) in a tensor of a file: mostly all of them.
// The tensor is seen as `matrices` matrices [file_rows, file_cols] one after the other. Element (r, c) of ours is
// element (first_row + r * step, first_col + c) of matrix `matrix` or, transposed, (first_row + c, first_col + r *
// step). A vector is one row of ours and of the file's matrices; its elements are `step` apart.
struct TensorPlace {
  std::string name;  // of the file's tensor
  Shape shape;       // of the file's tensor
  Index matrices = 1, file_rows = 1, file_cols = 1;
  Index matrix = 0, first_row = 0, first_col = 0;
  Index step = 1;
  bool transposed = false;
  bool vector = false;
  Index rows = 0, cols = 0;  // of our matrix that lie here
  Index begin = 0;           // the first of these rows in the matrix, or the first element of a vector

  // In elements of the file's tensor: our first one, and the way from one row or column of ours to the next.
  Index first() const { return (matrix * file_rows + first_row) * file_cols + first_col; }
  Index row_stride() const { return vector ? cols : transposed ? step : step * file_cols; }
  Index col_stride() const { return vector ? step : transposed ? file_cols : 1; }
  // Where the tensor's elements lie at `data`.
  WeightView view(const std::byte* data, DType dtype) const;
};

// The places that make up one matrix. More than one where the file has its rows in another order or in several tensors.
using MatrixPlaces = std::vector<TensorPlace>;

// The places of the parameters of one model in the files of one scheme.
class TensorNames {
 public:
  // `rows` and what `scheme` points to must outlive the object.
  TensorNames(const TensorScheme& scheme, const std::vector<ParameterRow>& rows);
  TensorNames(const TensorNames&) = delete;
  TensorNames& operator=(const TensorNames&) = delete;

  // The ways in which a file may hold the parameter; the first of them that is written at all is the one that is.
  // Empty where the table has none.
  std::vector<const TensorRule*> rules_for(const ParameterRow& row) const;
  const TensorRule* rule_to_write(const ParameterRow& row) const;  // null where the table has none
  // Where the whole of a parameter lies under a rule: one matrix, or one an expert.
  std::vector<MatrixPlaces> places(const TensorRule& rule, const ParameterRow& row) const;

  // The file's tensor of the first expert, or the only one.
  static std::string first_name(const TensorRule& rule, const ParameterRow& row);

 private:
  const ParameterRow* find(std::string_view native, Index layer) const;
  std::vector<TensorRule> own_names_;  // where the scheme has native names
  std::span<const TensorRule> rules_;
  std::map<std::string_view, const ParameterRow*> row_of_;
};

// `pattern` with the first `placeholder` replaced.
std::string fill_in(std::string_view pattern, std::string_view placeholder, Index value);

// Whether `name` is `pattern`, in which each * stands for any characters.
bool matches_pattern(std::string_view pattern, std::string_view name);

}  // namespace switchyard::model
