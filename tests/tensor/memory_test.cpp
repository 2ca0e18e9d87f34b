// What tensors promise about memory, also where it was another tensor's before.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "switchyard/base/error.hpp"
#include "switchyard/tensor/tensor.hpp"

namespace switchyard {
namespace {

// Around the sizes at which memory starts and stops being kept, and at steps between powers of two.
const std::vector<Index> kSizes{0,    1,    100,  4095,  4096,  4097,  8191,   8192,
                                9216, 9217, 5000, 16384, 65535, 65537, 300000, 1 << 20};

TEST(TensorMemory, IsAlignedAndHoldsEveryElement) {
  for (const Index size : kSizes) {
    for (int round = 0; round < 3; ++round) {
      Tensor tensor = Tensor::uninitialized(DType::kF32, {size});
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.bytes().data()) % 64, 0U);
      std::fill(tensor.f32().begin(), tensor.f32().end(), static_cast<float>(size));
      EXPECT_TRUE(std::all_of(tensor.f32().begin(), tensor.f32().end(),
                              [&](float v) { return v == static_cast<float>(size); }));
    }
  }
}

TEST(TensorMemory, ZerosAreZeroWhereAnotherTensorWasBefore) {
  for (const Index size : kSizes) {
    {
      Tensor dirty = Tensor::uninitialized(DType::kF32, {size});
      std::fill(dirty.f32().begin(), dirty.f32().end(), 7.0F);
    }
    const Tensor clean = Tensor::zeros(DType::kF32, {size});
    EXPECT_TRUE(std::all_of(clean.f32().begin(), clean.f32().end(), [](float v) { return v == 0.0F; })) << size;
  }
}

TEST(TensorMemory, CountsLiveBytesOnly) {
  const Index before = tensor_memory().current_bytes;
  reset_tensor_memory_peak();
  {
    const Tensor a = Tensor::zeros(DType::kF32, {100000});
    EXPECT_EQ(tensor_memory().current_bytes, before + 400000);
    const Tensor b = Tensor::zeros(DType::kU8, {3});
    EXPECT_EQ(tensor_memory().current_bytes, before + 400003);
  }
  EXPECT_EQ(tensor_memory().current_bytes, before) << "memory that is kept for later is not a tensor's";
  EXPECT_EQ(tensor_memory().peak_bytes, before + 400003);
  reset_tensor_memory_peak();
  EXPECT_EQ(tensor_memory().peak_bytes, before);
}

TEST(TensorMemory, LiveTensorsOfManyThreadsNeverShareMemory) {
  const Index before = tensor_memory().current_bytes;
  std::vector<int> broken(4, 0);
  std::vector<std::thread> threads;
  for (std::size_t id = 0; id < broken.size(); ++id) {
    threads.emplace_back([id, &broken] {
      std::vector<Tensor> held(8);
      for (std::size_t i = 0; i < 2000; ++i) {
        Tensor& tensor = held[i % held.size()];
        if (tensor.defined()) {
          const auto mark = std::as_const(tensor).f32()[0];
          for (const float v : std::as_const(tensor).f32()) broken[id] += v != mark ? 1 : 0;
        }
        tensor = Tensor::uninitialized(DType::kF32, {kSizes[6 + i % 6]});
        std::fill(tensor.f32().begin(), tensor.f32().end(), static_cast<float>(id * 10000 + i));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int count : broken) EXPECT_EQ(count, 0);
  EXPECT_EQ(tensor_memory().current_bytes, before);
}

// A sanitizer's own allocator ends the program instead.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(TensorMemory, MoreThanThereIsIsAnErrorThatSaysHowMuch) {
  try {
    Tensor::uninitialized(DType::kU8, {std::numeric_limits<Index>::max() / 4});
    FAIL() << "2 EiB were allocated";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kResource);
    EXPECT_NE(std::string(error.what()).find(std::to_string(std::numeric_limits<Index>::max() / 4)), std::string::npos);
  }
}
#endif

}  // namespace
}  // namespace switchyard
