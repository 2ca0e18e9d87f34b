#pragma once
// Why the engine routes a model as it does.

#include <string_view>

#include "family.hpp"
#include "switchyard/model/examine.hpp"

namespace switchyard::model {

// `text` is the config.json that `config` was read from. Each key is changed in turn and the config read again: a key
// whose change changes a step of the router, or is refused because only one value is known, is a reason for it.
std::vector<RouterReason> router_reasons(const Family& family, std::string_view text, const ModelConfig& config);

}  // namespace switchyard::model
