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

// What a rotation multiplies and turns by.
struct RopeTable {
  std::vector<float> frequencies;  // one a pair, radians a position
  float magnitude = 1.0F;          // cos and sin are multiplied by it
};

// The frequencies f_i = theta^(-2i/r), i < r/2, r = rotary_dim, stretched as `scaling` says. In double, rounded once.
//   linear    f_i / s, s = factor                                        Chen et al. 2023, arXiv 2306.15595
//   yarn      g f_i / s + (1 - g) f_i, where g goes from 0 to 1 between the i that turns beta_fast times in N0 =
//             original_positions and the one that turns beta_slow times: i(b) = r ln(N0 / 2 pi b) / (2 ln theta).
//             `truncate` rounds the two down and up.                     Peng et al. 2023, arXiv 2309.00071
//   llama3    f_i where the wavelength 2 pi / f_i is below N0 / high_frequency_factor, f_i / s where it is above
//             N0 / low_frequency_factor, and between them linear in N0 / wavelength
//                                                                        Llama team 2024, arXiv 2407.21783
//   longrope  f_i / short_factors[i] with magnitude, or f_i / long_factors[i] with long_magnitude where `long_text`,
//             that is where the text is longer than N0                   Ding et al. 2024, arXiv 2402.13753
// Anything that does not fit is kBadInput: an unknown kind (the message lists the kinds), an odd rotary_dim, a number
// that is not finite or not above 0, lists of another length than r/2.
RopeTable rope_table(Index rotary_dim, double theta, const RopeScaling& scaling, bool long_text = false);

// Rotates elements [first, first + 2 * frequencies.size()) of each head of x_THC ([T, heads * head_dim]) in place by
// the angle position_T[t] * frequency_i, and multiplies them by the magnitude; the others stay. `inverse` gives the
// gradient: it rotates back and multiplies by the magnitude too (so it undoes the rotation only where that is 1).
// The angle is reduced in double, so that position 1e6 is as exact as position 1. A position's bits do not depend on
// the other rows.
void rope(Matrix x_THC, Index head_dim, Index first, std::span<const std::int32_t> position_T, const RopeTable& table,
          RopePairing pairing, bool inverse = false);

}  // namespace switchyard::kernels
