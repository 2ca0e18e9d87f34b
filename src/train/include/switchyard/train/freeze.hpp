#pragma once
// Freezing parameters by name.

#include <string>
#include <string_view>
#include <vector>

#include "switchyard/model/transformer.hpp"

namespace switchyard::train {

// Whether a name fits a pattern in which * stands for any characters, also dots and none, and ? for one.
bool matches(std::string_view pattern, std::string_view name);

// Takes the parameters that fit any pattern out of training; buffers, which no gradient reaches anyway, are returned
// too. Throws kBadInput for a pattern that fits none, and where nothing is left to train.
std::vector<const autograd::Parameter*> freeze(const std::vector<std::string>& patterns,
                                               model::Transformer& transformer);

}  // namespace switchyard::train
