#pragma once
// The keys of multi-head latent attention that DeepSeek-V2 and -V3 share.

#include <nlohmann/json_fwd.hpp>

#include "switchyard/formats/json_config.hpp"
#include "switchyard/model/config.hpp"

namespace switchyard::model {

// Everything but the feed-forward networks.
ModelConfig read_latent_decoder(const formats::JsonConfig& json);
nlohmann::ordered_json latent_decoder_json(const ModelConfig& config);
// n_group and topk_group; a token sees the groups that are best by `group_score` (moe/select.hpp).
void read_groups(const formats::JsonConfig& json, const char* group_score, moe::RouterConfig& router);
void add_groups(const ModelConfig& config, nlohmann::ordered_json& json);

}  // namespace switchyard::model
