#include "switchyard/kernels/encode.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "oracle/compare.hpp"
#include "support/error_of.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/tensor/half.hpp"
#include "switchyard/tensor/quantised.hpp"

namespace switchyard::kernels {
namespace {

std::vector<std::byte> encoded(DType dtype, const std::vector<float>& from, int threads) {
  std::vector<std::byte> to(static_cast<std::size_t>(dtype_bytes(dtype, std::ssize(from))));
  ThreadArena(threads).run([&] { encode(dtype, from, to); });
  return to;
}

template <class T>
std::vector<T> as(const std::vector<std::byte>& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::ranges::copy(bytes, std::as_writable_bytes(std::span(values)).begin());
  return values;
}

TEST(Encode, EveryTypeAtAnyLengthAndNumberOfThreads) {
  for (const Index size : {0, 32, 96, 70016, 200000}) {
    std::vector<float> from = oracle::random_values(size, 7);
    if (size > 40) {
      from[3] = std::numeric_limits<float>::infinity();
      from[40] = NAN;
    }
    for (const int threads : {1, 3}) {
      const auto same = as<std::uint32_t>(encoded(DType::kF32, from, threads));
      const auto halves = as<std::uint16_t>(encoded(DType::kF16, from, threads));
      const auto bf16 = as<std::uint16_t>(encoded(DType::kBF16, from, threads));
      for (std::size_t i = 0; i < from.size(); ++i) {
        ASSERT_EQ(same[i], std::bit_cast<std::uint32_t>(from[i]));
        ASSERT_EQ(halves[i], to_float16(from[i]).bits);
        ASSERT_EQ(bf16[i], to_bfloat16(from[i]).bits);
      }
      std::vector<std::byte> blocks(from.size() / 32 * 34);
      quantise_q8_0(from, blocks);
      ASSERT_EQ(encoded(DType::kQ80, from, threads), blocks);
    }
  }
}

TEST(Encode, RefusesWhatDoesNotFit) {
  const std::vector<float> from(33);
  std::vector<std::byte> to(66);
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { encode(DType::kQ4K, from, to); }),
            "numbers of type Q4_K were asked for");
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { encode(DType::kQ80, from, to); }),
            "33 elements are not whole blocks of Q8_0");
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { encode(DType::kF32, from, to); }), "33 numbers of F32 to 66 bytes");
  EXPECT_NO_THROW(encode(DType::kF16, from, to));
}

}  // namespace
}  // namespace switchyard::kernels
