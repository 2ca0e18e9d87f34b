#pragma once
// Counter-based random numbers: a value depends only on who asks (seed, stream, ...) and on an index, never on what
// was drawn before. Any thread can compute any value, and a resumed or recomputed step draws the same numbers.
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), Philox4x32-10.

#include <array>
#include <cstdint>

namespace switchyard {

// What a stream is for. Values are part of the checkpoint format's promise (same seed, same bits): append only.
enum class RandomPurpose : std::uint32_t {
  kInit = 1,      // initial weights
  kData = 2,      // order of the training windows
  kDropout = 3,   // masks of dropout
  kRouter = 4,    // random choices of the router
  kSampling = 5,  // generated tokens
  kTest = 6,
  kRouterJitter = 7,
  kRouterNoise = 8,
  kRouterWarmup = 9,
  kCapacity = 10,  // random drops
  kRevival = 11,   // of dead experts
};

// One Philox4x32-10 block.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

// A stream of random numbers addressed by index. Cheap to copy and to make; holds no state that changes.
class RandomStream {
 public:
  // `a` and `b` tell streams of one purpose apart, usually step and layer (or a tensor's number).
  RandomStream(std::uint64_t seed, RandomPurpose purpose, std::uint32_t a = 0, std::uint32_t b = 0);

  // The four random words that belong to an index. The calls below use words of the same block, so a stream is read
  // either by block or by value.
  std::array<std::uint32_t, 4> block(std::uint64_t index) const;
  std::uint32_t bits(std::uint64_t index) const;
  float uniform(std::uint64_t index) const;  // [0, 1), 24 bits
  float normal(std::uint64_t index) const;   // standard normal, Box-Muller on two words of one block
  // Uniform in [0, n); n >= 1. Multiply-shift on 64 bits: the bias is below 2^-32.
  std::uint64_t below(std::uint64_t index, std::uint64_t n) const;

 private:
  std::array<std::uint32_t, 2> key_;
  std::uint32_t a_, b_;
};

}  // namespace switchyard
