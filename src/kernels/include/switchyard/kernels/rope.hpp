#pragma once
// Rotary position embedding. Su et al. 2021, arXiv 2104.09864.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "switchyard/tensor/view.hpp"

namespace switchyard::kernels {

// How a head's elements are paired: (i, i + r/2) as Hugging Face's rotate_half, or (2i, 2i + 1) as the paper.
enum class RopePairing { kHalfSplit, kInterleaved };

// How rotary frequencies are stretched beyond the length that a model was first trained for. Fields that a kind
// does not read are ignored.
struct RopeScaling {
  std::string kind = "none";  // or "linear", "yarn", "llama3", "longrope"
  double factor = 1.0;
  double original_positions = 0.0;  // the length first trained for
  // YaRN
  double beta_fast = 32.0, beta_slow = 1.0;
  bool truncate = true;
  // Llama 3
  double low_frequency_factor = 1.0, high_frequency_factor = 4.0;
  // LongRoPE: divisors of the frequencies, one a pair, for texts up to original_positions and for longer ones
  std::vector<double> short_factors, long_factors;
  // cos and sin are multiplied by it: YaRN's attention factor; LongRoPE has one for each table
  double magnitude = 1.0, long_magnitude = 1.0;
};

// theta^(-2i/r) for i < r/2, computed in double.
std::vector<float> rope_frequencies(Index rotary_dim, double theta);

// Rotates the first 2 * frequencies.size() elements of each head of x_THC ([T, heads * head_dim]) in place by the
// angle position_T[t] * frequency_i. `inverse` rotates back, which is the gradient. The angle is reduced in double,
// so that position 1e6 is as exact as position 1.
void rope(Matrix x_THC, Index head_dim, std::span<const std::int32_t> position_T, std::span<const float> frequencies,
          RopePairing pairing, bool inverse = false);

}  // namespace switchyard::kernels
