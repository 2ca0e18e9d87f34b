#include "switchyard/base/random.hpp"

#include <cmath>
#include <numbers>

namespace switchyard {
namespace {

constexpr std::uint32_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
constexpr std::uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> c, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{kMultiplier0} * c[0];
    const std::uint64_t p1 = std::uint64_t{kMultiplier1} * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ key[0], static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ key[1], static_cast<std::uint32_t>(p0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return c;
}

RandomStream::RandomStream(std::uint64_t seed, RandomPurpose purpose, std::uint32_t a, std::uint32_t b) : a_(a), b_(b) {
  // The purpose is hashed into the key together with the seed, so that all four counter words stay free for the
  // stream's two numbers and a 64-bit index.
  const auto mixed = philox4x32({static_cast<std::uint32_t>(purpose), 0, 0, 0},
                                {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
  key_ = {mixed[0], mixed[1]};
}

std::array<std::uint32_t, 4> RandomStream::block(std::uint64_t index) const {
  return philox4x32({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), a_, b_}, key_);
}

std::uint32_t RandomStream::bits(std::uint64_t index) const { return block(index)[0]; }

float RandomStream::uniform(std::uint64_t index) const { return static_cast<float>(bits(index) >> 8) * 0x1.0p-24F; }

float RandomStream::normal(std::uint64_t index) const {
  const auto words = block(index);
  // (0, 1]: the logarithm must be finite.
  const double u = (static_cast<double>(words[0]) + 1.0) * 0x1.0p-32;
  const double angle = 2.0 * std::numbers::pi * static_cast<double>(words[1]) * 0x1.0p-32;
  return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(angle));
}

std::uint64_t RandomStream::below(std::uint64_t index, std::uint64_t n) const {
  const auto words = block(index);
  const std::uint64_t x = (std::uint64_t{words[0]} << 32) | words[1];
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>((Wide{x} * n) >> 64);
}

}  // namespace switchyard
