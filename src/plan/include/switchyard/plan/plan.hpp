#pragma once
// Everything that `switchyard plan` says of one model, from its config alone.

#include <array>
#include <string>
#include <vector>

#include "switchyard/model/encoder_decoder.hpp"
#include "switchyard/plan/cost.hpp"

namespace switchyard::plan {

struct PlanOptions {
  Index context = 4096;  // tokens before the one that is decoded; cut to what the model was made for
  Index prompt = 512;    // tokens of the prompt that prefill is predicted for; cut likewise
  std::vector<Index> batches = {1, 8, 64};
  std::vector<Index> contexts;  // of the table of caches; empty: powers of 4 from 1024 on, `context`, the longest
};

struct CachePlan {
  Index context = 0;
  Index allocated = 0;      // bytes that this engine takes: float32, every position
  Index windows_bound = 0;  // float32, but only what a window lets a later token see
  Index least = 0;          // that in 16 bits
};

struct Speeds {
  PassCost decode, prefill;  // one text with PlanOptions::context before; a prompt of PlanOptions::prompt
  double decode_tokens_per_second = 0.0, prefill_tokens_per_second = 0.0;
};

struct BatchPlan {
  Index batch = 1;
  double experts = 0.0;  // different ones that a layer of the first kind needs, expected
  PassCost cost;
  double tokens_per_second = 0.0;  // of all texts together
};

struct FormatPlan {
  const WeightFormat* format = nullptr;
  bool stored = false;  // what the config says of its own checkpoint
  Index bytes = 0;
  std::array<Index, model::kParameterParts> parts{};  // bytes, by model::ParameterPart
  Index needed = 0;                                   // memory for it with PlanOptions::context, see memory_needed()
  Index longest_context = 0;                          // that fits the memory, at most the model's; 0 = does not fit
  Speeds sparse, dense_total, dense_active;
  double dense_active_bytes = 0.0;
  std::vector<BatchPlan> batches;
};

struct ModelPlan {
  model::ConfigFile file;
  Machine machine;
  PlanOptions options;  // as they were used
  model::ParameterCounts counts;
  Index draft_parameters = 0;  // of multi-token prediction, which only drafts read: not counted
  std::vector<CachePlan> caches;
  std::vector<FormatPlan> formats;  // from the largest to the smallest
};

// Throws kBadInput where the sizes of a config overflow.
ModelPlan plan_model(model::ConfigFile file, const Machine& machine, PlanOptions options = {});

// Memory that a loaded model with a text of `context` positions takes at most: weights and 5% of them, the cache as
// this engine allocates it, and 200 MB for activations, logits and the program.
Index memory_needed(const model::ModelConfig& config, Index weight_bytes, Index context);

// What is said of an encoder-decoder: sizes, no speeds.
struct EncoderDecoderFormat {
  const WeightFormat* format = nullptr;
  Index bytes = 0;
  Index needed = 0;  // memory for it with a source of EncoderDecoderPlan::source tokens and as many written
};
struct EncoderDecoderPlan {
  model::EncoderDecoderConfig config;
  model::ParameterCounts counts;
  Index source = 0;               // tokens
  Index source_token_bytes = 0;   // keys and values of cross-attention that a token of the source takes, float32
  Index written_token_bytes = 0;  // of self-attention that a written token takes
  std::vector<EncoderDecoderFormat> formats;  // from the largest to the smallest
};
// Throws kBadInput where the sizes of a config overflow.
EncoderDecoderPlan plan_encoder_decoder(model::EncoderDecoderConfig config, Index source);

// Training: 6 operations an active parameter and token - two forward, four backward (Kaplan et al. 2020, arXiv
// 2001.08361, section 2.1). Parameters are counted without the embedding table, attention scores are not counted.
struct GpuAssumptions {
  double tflops = 989.0;  // dense bf16 peak of an H100 or H800 SXM, 1e12 operations per second
  double utilisation = 0.4;
};
double training_flops(const model::ParameterCounts& counts, double tokens);
double gpu_hours(double flops, const GpuAssumptions& gpu);
// The share of the peak that so many hours used.
double implied_utilisation(double flops, double hours, const GpuAssumptions& gpu);

}  // namespace switchyard::plan
