#pragma once
// What a forward pass reads and computes, predicted from a config.
//
// The model: time = max(bytes / bandwidth, operations / arithmetic). Bytes are the weights that the pass needs, each
// once, and the cached keys and values of the tokens before. Operations are 2 a weight and token, and those of
// attention. Norms, activations, softmaxes and the sampler are left out, and nothing waits: so a time is a lower bound,
// a speed an upper one (Williams et al. 2009, the roofline model). Weights are taken to be in memory; what must come
// from a disk costs what the disk costs.

#include <array>
#include <vector>

#include "switchyard/plan/machine.hpp"
#include "switchyard/plan/weight_format.hpp"

namespace switchyard::plan {

// Experts that at least one of `tokens` goes to, where each token goes to top_k different ones of `experts`, all alike
// likely and independent of one another: E (1 - (1 - K/E)^T). Real routers are less even, so it is rather fewer.
double expected_experts(Index experts, Index top_k, double tokens);

struct ExpertsCost {  // of the routed experts of one layer
  double bytes = 0.0, parameters = 0.0;
  Index experts = 1, top_k = 1;
};

struct AttentionCost {       // of one layer
  Index cache_width = 0;     // numbers cached a token, float32
  Index window = 0;          // positions that a token sees; 0 = all
  double prefill_flops = 0;  // a token and position seen
  double decode_flops = 0;   // the same in the form for one token: latent attention has two
};

struct CostModel {
  double layer_bytes = 0.0, layer_parameters = 0.0;    // all but routed experts, embedding and output
  double output_bytes = 0.0, output_parameters = 0.0;  // the output projection: the embedding table where tied
  double lookup_bytes = 0.0, lookup_parameters = 0.0;  // an embedding table of which a token reads one row
  std::vector<ExpertsCost> experts;                    // one a MoE layer
  std::vector<AttentionCost> attention;                // one a layer

  double bytes() const;
  double parameters() const;
  // The same model with feed-forward networks as wide as all experts together, or as the top_k of a token: a dense
  // model of equal total or of equal active size. (Routers stay: they are less than a thousandth.)
  CostModel dense_of_total_size() const;
  CostModel dense_of_active_size() const;
};

CostModel cost_model(const model::ModelConfig& config, const WeightFormat& format);

struct PassCost {
  double weight_bytes = 0.0, cache_bytes = 0.0, flops = 0.0;
  double intensity() const { return flops / (weight_bytes + cache_bytes); }  // operations a byte
  // Both speeds of the machine must be known.
  double seconds(const Machine& machine) const;
  bool waits_for_memory(const Machine& machine) const;  // otherwise for arithmetic
};

// One new token for each of `batch` texts that have `context` tokens before it.
PassCost decode_cost(const CostModel& cost, Index batch, Index context);
// A prompt of so many tokens, in chunks of model::kPrefillChunk; logits of the last token alone.
PassCost prefill_cost(const CostModel& cost, Index tokens);

// Numbers that a text of that many positions keeps: all of them, as model::KvCache does, or only what a window lets a
// later token see.
Index cached_numbers(const model::ModelConfig& config, Index positions, bool windows_bound);

}  // namespace switchyard::plan
