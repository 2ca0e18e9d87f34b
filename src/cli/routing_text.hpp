#pragma once
// Routing as tables for a terminal and as JSON.

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "switchyard/model/config.hpp"
#include "switchyard/observe/routing_profile.hpp"
#include "switchyard/text/tokenizer.hpp"

namespace switchyard::cli {

// A line a layer: a bar an expert, MaxVio, entropy, who is busiest and who is dead. Names the troubles below it.
std::string load_table(const observe::RoutingProfile& profile);
// For a text of a few tokens: a line a layer with a bar an expert, and which experts worked most.
std::string answer_table(const observe::RoutingProfile& profile);
// A line a layer and domain: the experts that prefer it. Empty where there is one domain only.
std::string domain_table(const observe::RoutingProfile& profile);
// The tokens that each expert likes most, for one layer.
std::string favourite_table(const observe::RoutingProfile& profile, Index layer, const text::Tokenizer& tokenizer);

nlohmann::ordered_json routing_json(const observe::RoutingProfile& profile, const text::Tokenizer* tokenizer);

// A token as text on one line, in quotes.
std::string quoted_token(const text::Tokenizer& tokenizer, std::int32_t id);

}  // namespace switchyard::cli
