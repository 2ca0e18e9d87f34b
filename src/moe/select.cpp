#include "switchyard/moe/select.hpp"

#include <array>

#include "named_table.hpp"
#include "schemes.hpp"

namespace switchyard::moe {
namespace {

constexpr std::array kSelectionRules = {
    SelectionRule{"top-k", select_top_k, true},
    SelectionRule{"group-limited", select_group_limited, true, nullptr, check_group_limited},
    SelectionRule{"tree", select_tree, true, nullptr, check_select_tree},
    SelectionRule{"gshard", select_gshard, true, nullptr, check_gshard},
    SelectionRule{"expert-choice", select_expert_choice, false, nullptr, nullptr, true},
    SelectionRule{"hash", select_hash, true, select_hash_backward, check_forced},
    SelectionRule{"hash-gated", select_hash_gated, true, nullptr, check_forced},
    SelectionRule{"sinkhorn", select_sinkhorn, true, nullptr, check_from_logits},
    SelectionRule{"base", select_base, true, nullptr, check_base},
    SelectionRule{"top-p", select_top_p, true, nullptr, check_top_p},
    SelectionRule{"threshold", select_threshold, true},
    SelectionRule{"sparse-mixer", select_sparse_mixer, true, select_sparse_mixer_backward, check_from_logits},
    SelectionRule{"random", select_random, true, nullptr, check_forced},
    SelectionRule{"round-robin", select_round_robin, true, nullptr, check_forced},
    SelectionRule{"uniform", select_round_robin, true, nullptr, check_forced},
    SelectionRule{"soft", nullptr, false, nullptr, check_forced, true, true},
    SelectionRule{"replay", select_replay, true, nullptr, check_forced},
};

}  // namespace

std::span<const SelectionRule> selection_rules() { return kSelectionRules; }

const SelectionRule& find_selection_rule(std::string_view name) {
  return require_row(selection_rules(), name, "selection rule");
}

}  // namespace switchyard::moe
