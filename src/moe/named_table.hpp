#pragma once
// Lookup in the tables of schemes. A row is any struct with a `name`.

#include <span>
#include <string>
#include <string_view>

#include "switchyard/base/error.hpp"

namespace switchyard::moe {

template <class Row>
const Row* find_row(std::span<const Row> rows, std::string_view name) {
  for (const Row& row : rows)
    if (row.name == name) return &row;
  return nullptr;
}

// "softmax, sigmoid"
template <class Row>
std::string row_names(std::span<const Row> rows) {
  std::string names;
  for (const Row& row : rows) {
    if (!names.empty()) names += ", ";
    names += row.name;
  }
  return names;
}

template <class Row>
const Row& require_row(std::span<const Row> rows, std::string_view name, std::string_view what) {
  const Row* row = find_row(rows, name);
  if (row == nullptr) fail(ErrorKind::kBadInput, "unknown {} '{}', expected one of {}", what, name, row_names(rows));
  return *row;
}

}  // namespace switchyard::moe
