#include "switchyard/moe/select.hpp"

#include <array>

#include "named_table.hpp"
#include "schemes.hpp"

namespace switchyard::moe {
namespace {

constexpr std::array kSelectionRules = {
    SelectionRule{"top-k", select_top_k, true},
};

}  // namespace

std::span<const SelectionRule> selection_rules() { return kSelectionRules; }

const SelectionRule& find_selection_rule(std::string_view name) {
  return require_row(selection_rules(), name, "selection rule");
}

}  // namespace switchyard::moe
