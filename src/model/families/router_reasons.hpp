#pragma once
// Why the engine routes a model as it does.

#include <functional>
#include <optional>
#include <string_view>

#include "switchyard/formats/json_config.hpp"
#include "switchyard/model/examine.hpp"

namespace switchyard::model {

// The router of the first MoE layer that a config describes; nothing where it has none. Throws where it is refused.
using ReadRouter = std::function<std::optional<moe::RouterConfig>(const formats::JsonConfig& json)>;

// `text` is a config.json that `read_router` takes. Each key is changed in turn and the config read again: a key whose
// change changes a step of the router, or is refused because only one value is known, is a reason for it.
std::vector<RouterReason> router_reasons(const ReadRouter& read_router, std::string_view text);

}  // namespace switchyard::model
