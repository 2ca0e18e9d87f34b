#pragma once
// Flags of the commands that generate text.

#include <CLI/CLI.hpp>
#include <vector>

#include "switchyard/runtime/sampler.hpp"

namespace switchyard::cli {

// --temp, --top-k ... --seed, all of which are returned.
std::vector<CLI::Option*> add_sampling(CLI::App& command, runtime::SamplingConfig& sampling);
void add_context(CLI::App& command, Index& context, Index& batch);  // -c, -b
void add_allow_non_causal(CLI::App& command, bool& allow);

}  // namespace switchyard::cli
