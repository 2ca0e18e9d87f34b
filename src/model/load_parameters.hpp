#pragma once
// From a plan of what lies where to parameters with their weights.

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "load_plan.hpp"
#include "switchyard/text/tokenizer.hpp"

namespace switchyard::model {

// What `load` gives; null where it finds none that can be read. kBadInput where it has more ids than the vocabulary.
std::unique_ptr<text::Tokenizer> tokenizer_if_any(const std::function<std::unique_ptr<text::Tokenizer>()>& load,
                                                  const std::filesystem::path& path, Index vocab);

// Gives every parameter of the plan its weights: as float32, or `stored` as LoadOptions says.
void load_parameters(const std::vector<PlannedParameter>& plan, const std::vector<ParameterRow>& rows,
                     std::span<autograd::Parameter* const> parameters, WeightFiles& weights, bool stored);

}  // namespace switchyard::model
