#pragma once
// Choosing the next token.

#include <cstdint>
#include <span>
#include <vector>

#include "switchyard/base/index.hpp"

namespace switchyard::runtime {

// Applied in this order, each to what the one before has left; the defaults are llama.cpp's.
struct SamplingConfig {
  float repeat_penalty = 1.0F;  // logits of tokens seen lately: divided by it where positive, else multiplied
  Index repeat_last = 64;       // how many tokens back that looks
  Index top_k = 40;             // the k likeliest; 0 = all
  float top_p = 0.95F;          // the fewest likeliest whose probabilities reach p; 1 = all
  float min_p = 0.05F;          // those at least min_p times as likely as the likeliest; 0 = all
  float temperature = 0.8F;     // 0 = always the likeliest
  std::uint64_t seed = 0;

  void validate() const;  // kUsage naming the value
};

// Draws tokens. The n-th draw depends only on the seed, n, the logits and the history.
class Sampler {
 public:
  explicit Sampler(const SamplingConfig& config);
  // logits_V: one row, float32. history: all tokens so far, newest last. Ties go to the lowest id.
  std::int32_t sample(std::span<const float> logits_V, std::span<const std::int32_t> history);
  // What the draw after the next `ahead` ones would give for these logits: another model's guess of it.
  std::int32_t foresee(std::span<const float> logits_V, std::span<const std::int32_t> history, std::uint64_t ahead);

 private:
  struct Candidate {
    std::int32_t id;
    float logit;
  };
  std::int32_t draw(std::span<const float> logits_V, std::span<const std::int32_t> history, std::uint64_t number);

  SamplingConfig config_;
  std::uint64_t draws_ = 0;
  std::vector<Candidate> candidates_;
};

}  // namespace switchyard::runtime
