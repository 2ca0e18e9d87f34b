#include "tensor_names.hpp"

#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

struct MatrixShape {
  Index rows = 0, cols = 0;
  bool vector = false;
};

// Of the whole parameter or, where it is stacked, of one expert's part.
MatrixShape matrix_of(const ParameterRow& row) {
  const std::span<const Index> dims = row.shape.dims().subspan(row.of_experts ? 1 : 0);
  require(dims.size() == 1 || dims.size() == 2, "{} of shape {} is neither matrix nor vector", row.name,
          row.shape.to_string());
  return dims.size() == 1 ? MatrixShape{1, dims[0], true} : MatrixShape{dims[0], dims[1], false};
}

// What parts of one tensor are stacked along: the rows of a matrix, the elements of a vector.
Index stacked_length(const MatrixShape& shape) { return shape.vector ? shape.cols : shape.rows; }

MatrixPlaces paired_rows(const TensorRule& rule, const ParameterRow& row, const MatrixShape& ours) {
  const Index length = stacked_length(ours), head = row.head_rows, half = head / 2;
  require(head > 0 && head % 2 == 0 && length % head == 0 && !row.of_experts, "{} has no rows of heads", row.name);
  TensorPlace place;
  place.name = fill_in(rule.published, "{i}", row.layer);
  place.shape = row.shape;
  place.vector = ours.vector;
  place.file_rows = ours.rows;
  place.file_cols = ours.cols;
  place.step = 2;
  place.rows = ours.vector ? 1 : half;
  place.cols = ours.vector ? half : ours.cols;
  MatrixPlaces places;
  for (Index begin = 0; begin < length; begin += head) {
    for (const Index second : {Index{0}, Index{1}}) {
      place.begin = begin + second * half;
      (ours.vector ? place.first_col : place.first_row) = begin + second;
      places.push_back(place);
    }
  }
  return places;
}

MatrixPlaces keys_and_values(const TensorRule& rule, const ParameterRow& row, const MatrixShape& ours) {
  const Index head = row.head_rows, keys = row.head_keys, values = head - keys;
  require(keys > 0 && values > 0 && ours.rows % head == 0 && !ours.vector && !row.of_experts,
          "{} has no rows of keys and values", row.name);
  const Index heads = ours.rows / head;
  TensorPlace key, value;
  key.name = fill_in(rule.published, "{i}", row.layer);
  key.shape = Shape({heads, ours.cols, keys});
  key.transposed = true;
  key.file_rows = ours.cols;
  key.file_cols = key.rows = keys;
  value.name = fill_in(rule.second, "{i}", row.layer);
  value.shape = Shape({heads, values, ours.cols});
  value.file_rows = value.rows = values;
  value.file_cols = ours.cols;
  key.matrices = value.matrices = heads;
  key.cols = value.cols = ours.cols;
  MatrixPlaces places;
  for (Index h = 0; h < heads; ++h) {
    key.matrix = value.matrix = h;
    key.begin = h * head;
    value.begin = key.begin + keys;
    places.push_back(key);
    places.push_back(value);
  }
  return places;
}

}  // namespace

std::string fill_in(std::string_view pattern, std::string_view placeholder, Index value) {
  std::string name(pattern);
  const std::size_t at = name.find(placeholder);
  if (at != std::string::npos) name.replace(at, placeholder.size(), std::to_string(value));
  return name;
}

bool matches_pattern(std::string_view pattern, std::string_view name) {
  const std::size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == name;
  if (!name.starts_with(pattern.substr(0, star))) return false;
  const std::string_view rest = pattern.substr(star + 1);
  for (std::size_t begin = star; begin <= name.size(); ++begin) {
    if (matches_pattern(rest, name.substr(begin))) return true;
  }
  return false;
}

WeightView TensorPlace::view(const std::byte* data, DType dtype) const {
  WeightView result;
  result.data = data + dtype_bytes(dtype, first());
  result.dtype = dtype;
  result.rows = rows;
  result.cols = cols;
  result.row_stride = row_stride();
  result.col_stride = col_stride();
  return result;
}

TensorNames::TensorNames(const TensorScheme& scheme, const std::vector<ParameterRow>& rows) {
  for (const ParameterRow& row : rows) {
    row_of_.emplace(row.name, &row);
    if (scheme.rules.empty()) own_names_.push_back({row.name, row.name});
  }
  rules_ = scheme.rules.empty() ? std::span<const TensorRule>(own_names_) : scheme.rules;
}

const ParameterRow* TensorNames::find(std::string_view native, Index layer) const {
  const auto found = row_of_.find(fill_in(native, "{i}", layer));
  return found == row_of_.end() ? nullptr : found->second;
}

std::vector<const TensorRule*> TensorNames::rules_for(const ParameterRow& row) const {
  std::vector<const TensorRule*> found;
  for (const TensorRule& rule : rules_) {
    if (row.name == fill_in(rule.native, "{i}", row.layer)) found.push_back(&rule);
  }
  return found;
}

const TensorRule* TensorNames::rule_to_write(const ParameterRow& row) const {
  for (const TensorRule* rule : rules_for(row)) {
    if (rule->written) return rule;
  }
  return nullptr;
}

std::string TensorNames::first_name(const TensorRule& rule, const ParameterRow& row) {
  return fill_in(fill_in(rule.published, "{i}", row.layer), "{e}", 0);
}

std::vector<MatrixPlaces> TensorNames::places(const TensorRule& rule, const ParameterRow& row) const {
  const MatrixShape ours = matrix_of(row);
  if (rule.layout == Layout::kPairedRows) return {paired_rows(rule, row, ours)};
  if (rule.layout == Layout::kKeysValues) return {keys_and_values(rule, row, ours)};
  // The neighbours in the table with the same published name share its tensors.
  const TensorRule *first = &rule, *last = &rule;
  while (first != rules_.data() && (first - 1)->published == rule.published) --first;
  while (last + 1 != rules_.data() + rules_.size() && (last + 1)->published == rule.published) ++last;
  Index before = 0, total = 0, parts = 0, index = 0;
  for (const TensorRule* part = first; part <= last; ++part) {
    const ParameterRow* other = find(part->native, row.layer);
    if (other == nullptr) continue;
    if (part == &rule) {
      before = total;
      index = parts;
    }
    const MatrixShape shape = matrix_of(*other);
    require(shape.vector == ours.vector && (shape.vector || shape.cols == ours.cols) &&
                other->of_experts == row.of_experts &&
                (!rule.interleaved || stacked_length(shape) == stacked_length(ours)),
            "{} and {} cannot share a tensor", row.name, other->name);
    total += stacked_length(shape);
    ++parts;
  }

  const bool flat = rule.layout == Layout::kFlat, per_expert = rule.layout == Layout::kPerExpert;
  require(!(flat || per_expert) || row.of_experts, "{} is not of experts", row.name);
  require(!flat || !ours.vector, "{} is no matrix of experts", row.name);
  const Index experts = row.of_experts ? row.shape[0] : 1;
  TensorPlace place;
  place.transposed = rule.transposed && !ours.vector;
  place.vector = ours.vector;
  place.rows = ours.rows;
  place.cols = ours.cols;
  place.step = rule.interleaved ? parts : 1;
  place.file_rows = ours.vector ? 1 : place.transposed ? ours.cols : total;
  place.file_cols = ours.vector || place.transposed ? total : ours.cols;
  Index& along_stack = ours.vector || place.transposed ? place.first_col : place.first_row;
  along_stack = rule.interleaved ? index : before;
  const Index rows_of_expert = place.file_rows;
  if (flat) place.file_rows *= experts;
  place.matrices = flat || per_expert ? 1 : experts;

  std::vector<Index> dims;
  if (place.matrices > 1 || (row.of_experts && !flat && !per_expert)) dims.push_back(place.matrices);
  if (rule.layout == Layout::kRow) dims.push_back(1);
  if (!ours.vector || flat) dims.push_back(place.file_rows);
  dims.push_back(place.file_cols);
  place.shape = Shape(dims);

  std::vector<MatrixPlaces> result;
  const std::string name = fill_in(rule.published, "{i}", row.layer);
  for (Index e = 0; e < experts; ++e) {
    TensorPlace& of_expert = result.emplace_back(MatrixPlaces{place}).front();
    of_expert.name = per_expert ? fill_in(name, "{e}", e) : name;
    if (flat) {
      of_expert.first_row += e * rows_of_expert;
    } else if (!per_expert) {
      of_expert.matrix = e;
    }
  }
  return result;
}

}  // namespace switchyard::model
