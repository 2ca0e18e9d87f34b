#pragma once
// What a row of a model does, in words.

#include <string>
#include <vector>

#include "switchyard/model/config.hpp"

namespace switchyard::model {

// "32 heads of 128, 4 kv, q/k norm; rotary theta 1e+06, yarn x32 from 4096 positions; window 128; sinks"
std::string describe(const AttentionConfig& attention);
// "128 experts of 768 (swiglu), 8 a token; ..."
std::string describe(const moe::MoeConfig& moe);
// The whole row.
std::string describe(const LayerConfig& layer);

// How a router goes from logits to weights, step by step: "sigmoid of the logits of all 256 experts", "top-8 of ...".
// Each step with its aspect: "score", "selection", "bias", "groups", "weights", "scale".
struct RouterStep {
  std::string aspect;
  std::string text;
};
std::vector<RouterStep> describe_routing(const moe::RouterConfig& router);

}  // namespace switchyard::model
