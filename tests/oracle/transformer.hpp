#pragma once
// The whole decoder-only transformer in double, read off its ModelConfig and written from the definitions; it shares
// no code with src/model. Parameters go by their native names.

#include <map>
#include <string>
#include <vector>

#include "oracle/moe.hpp"
#include "switchyard/model/config.hpp"

namespace switchyard::oracle {

using Parameters = std::map<std::string, std::vector<double>>;
using Routing = std::vector<std::vector<MoeChoice>>;  // a list a MoE layer

struct TransformerInput {
  Index batch = 1, sequence = 0;
  std::vector<std::int32_t> id_T, target_T;  // targets may be empty
  std::vector<std::uint8_t> valid_T;         // may be empty
  bool training = false;                     // capacity applies and router losses count
};

struct TransformerResult {
  std::vector<double> hidden_TD, logits_TV;
  std::vector<double> router_losses;  // one a MoE layer, coefficients applied
  double cross_entropy = 0.0;         // mean over the targets
  Routing routing;

  double loss() const;  // all that training minimises
};

// Without dropout. Where `fixed` is given, tokens go to those experts whatever the scores say.
TransformerResult transformer(const model::ModelConfig& config, const Parameters& parameters,
                              const TransformerInput& input, const Routing* fixed = nullptr);

}  // namespace switchyard::oracle
