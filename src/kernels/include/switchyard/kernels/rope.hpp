#pragma once
// Rotary position embedding. Su et al. 2021, arXiv 2104.09864.

#include <cstdint>
#include <span>
#include <vector>

#include "switchyard/tensor/view.hpp"

namespace switchyard::kernels {

// How a head's elements are paired: (i, i + r/2) as Hugging Face's rotate_half, or (2i, 2i + 1) as the paper.
enum class RopePairing { kHalfSplit, kInterleaved };

// theta^(-2i/r) for i < r/2, computed in double.
std::vector<float> rope_frequencies(Index rotary_dim, double theta);

// Rotates the first 2 * frequencies.size() elements of each head of x_THC ([T, heads * head_dim]) in place by the
// angle position_T[t] * frequency_i. `inverse` rotates back, which is the gradient. The angle is reduced in double,
// so that position 1e6 is as exact as position 1.
void rope(Matrix x_THC, Index head_dim, std::span<const std::int32_t> position_T, std::span<const float> frequencies,
          RopePairing pairing, bool inverse = false);

}  // namespace switchyard::kernels
