#include "switchyard/moe/expert_store.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "support.hpp"

namespace switchyard::moe {
namespace {

Tensor stack(Index experts, Index rows, Index cols) { return Tensor::zeros(DType::kF32, {experts, rows, cols}); }

TEST(ResidentExpertStore, LeasesViewsOfTheStackedTensors) {
  Tensor gate = stack(3, 5, 4), up = stack(3, 5, 4), down = stack(3, 4, 5);
  ResidentExpertStore store(gate, up, down);
  EXPECT_EQ(store.experts(), 3);
  const ExpertLease lease = store.acquire(std::vector<std::int32_t>{1, 0, 2});
  ASSERT_EQ(lease.weights_E.size(), 3U);
  const kernels::FfnWeights& last = lease.weights_E[2];
  EXPECT_EQ(last.gate_FD.matrix().data, gate.matrix(2).data);
  EXPECT_EQ(last.up_FD.matrix().data, up.matrix(2).data);
  EXPECT_EQ(last.down_DF.matrix().data, down.matrix(2).data);
  EXPECT_EQ(last.up_FD.rows, 5);
  EXPECT_EQ(last.down_DF.rows, 4);
}

TEST(ResidentExpertStore, WithoutAGate) {
  Tensor gate, up = stack(2, 5, 4), down = stack(2, 4, 5);
  ResidentExpertStore store(gate, up, down);
  EXPECT_TRUE(store.acquire(std::vector<std::int32_t>{1, 1}).weights_E[1].gate_FD.empty());
  EXPECT_TRUE(expert_gradients(gate, up, down)[1].gate_FD.empty());
}

Tensor vectors(Index experts, Index size) { return Tensor::zeros(DType::kF32, {experts, size}); }

TEST(ResidentExpertStore, WithBiases) {
  Tensor gate = stack(3, 5, 4), up = stack(3, 5, 4), down = stack(3, 4, 5), none;
  Tensor gate_bias = vectors(3, 5), up_bias = vectors(3, 5), down_bias = vectors(3, 4);
  ResidentExpertStore store(gate, up, down, gate_bias, up_bias, down_bias);
  const ExpertLease lease = store.acquire(std::vector<std::int32_t>{1, 0, 2});
  const kernels::FfnWeights& last = lease.weights_E[2];
  EXPECT_EQ(last.gate_bias_F.data(), gate_bias.f32().data() + 10);
  EXPECT_EQ(last.up_bias_F.data(), up_bias.f32().data() + 10);
  EXPECT_EQ(last.down_bias_D.data(), down_bias.f32().data() + 8);
  EXPECT_EQ(last.up_bias_F.size(), 5U);
  EXPECT_EQ(last.down_bias_D.size(), 4U);
  const std::vector<kernels::FfnGradients> gradients = expert_gradients(none, up, down, none, none, down_bias);
  gradients[1].down_bias_D[3] = 7.0F;
  EXPECT_EQ(down_bias.f32()[7], 7.0F);
  EXPECT_TRUE(gradients[1].up_bias_F.empty());
}

TEST(ResidentExpertStore, RefusesBiasesThatDoNotFit) {
  const Tensor gate = stack(3, 5, 4), up = stack(3, 5, 4), down = stack(3, 4, 5), good = vectors(3, 5), none;
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { ResidentExpertStore(gate, up, down, good, good, good); }),
            "expert biases of down [3, 5], expected [3, 4]");
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { ResidentExpertStore(gate, up, down, none, vectors(2, 5), none); }),
            "expert biases of up [2, 5], expected [3, 5]");
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { ResidentExpertStore(none, up, down, good, good, none); }),
            "experts with a gate bias and no gate tensor");
}

TEST(ResidentExpertStore, RefusesShapesThatDoNotBelongTogether) {
  const Tensor gate = stack(3, 5, 4), up = stack(3, 5, 4), down = stack(3, 4, 5), wrong = stack(3, 5, 6);
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { ResidentExpertStore(gate, up, wrong); }),
            "expert tensors up [3, 5, 4] and down [3, 5, 6], expected [E, F, D] and [E, D, F]");
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { ResidentExpertStore(wrong, up, down); }),
            "expert tensors gate [3, 5, 6] and up [3, 5, 4], expected the same shape");
  EXPECT_EQ(error_of(ErrorKind::kInternal, [&] { ResidentExpertStore(gate, Tensor(), down); }),
            "experts need an up and a down tensor");
}

// A view of some memory that is large enough.
WeightView view(DType dtype, Index rows, Index cols) {
  static const std::vector<std::byte> memory(1000);
  WeightView w;
  w.data = memory.data();
  w.dtype = dtype;
  w.rows = rows;
  w.cols = cols;
  w.row_stride = cols;
  return w;
}

TEST(ResidentExpertStore, LeasesTheViewsAndHoldsTheirMemory) {
  const std::vector<float> bias(5, 1.0F);
  std::vector<kernels::FfnWeights> experts = {
      {view(DType::kBF16, 5, 4), view(DType::kF4, 5, 4), view(DType::kF32, 4, 5), {}, bias, {}},
      {view(DType::kBF16, 6, 4), view(DType::kF8E4M3, 6, 4), view(DType::kF16, 4, 6), {}, {}, {}}};
  auto memory = std::make_shared<int>(7);
  const std::weak_ptr<int> watch = memory;
  ExpertLease lease;
  {
    ResidentExpertStore store(experts, std::move(memory));
    EXPECT_EQ(store.experts(), 2);
    lease = store.acquire(std::vector<std::int32_t>{1, 0});
    ASSERT_EQ(lease.weights_E.size(), 2U);
    EXPECT_EQ(lease.weights_E[0].up_FD.dtype, DType::kF4);
    EXPECT_EQ(lease.weights_E[0].up_bias_F.data(), bias.data());
    EXPECT_EQ(lease.weights_E[1].down_DF.cols, 6);
  }
  EXPECT_FALSE(watch.expired());
  lease = {};
  EXPECT_TRUE(watch.expired());
  EXPECT_EQ(ResidentExpertStore({}).experts(), 0);
}

TEST(ResidentExpertStore, RefusesWhatDoesNotFit) {
  const WeightView wide = view(DType::kBF16, 5, 4), tall = view(DType::kBF16, 4, 5), none;
  const std::vector<float> four(4);
  const auto refused = [](std::vector<kernels::FfnWeights> experts) {
    return error_of(ErrorKind::kInternal, [&] { ResidentExpertStore{experts}; });
  };
  EXPECT_EQ(refused({{wide, wide, wide}}), "expert 0 has gate [5, 4], up [5, 4], down [5, 4], the first one up [5, 4]");
  EXPECT_EQ(refused({{wide, wide, tall}, {none, wide, tall}}),
            "expert 1 has gate [0, 0], up [5, 4], down [4, 5], the first one up [5, 4]");
  EXPECT_EQ(refused({{none, wide, tall}, {wide, wide, tall}}),
            "expert 1 has gate [5, 4], up [5, 4], down [4, 5], the first one up [5, 4]");
  EXPECT_EQ(refused({{none, wide, tall}, {none, tall, wide}}),
            "expert 1 has gate [0, 0], up [4, 5], down [5, 4], the first one up [5, 4]");
  EXPECT_EQ(refused({{none, none, none}}), "expert 0 has gate [0, 0], up [0, 0], down [0, 0], the first one up [0, 0]");
  EXPECT_EQ(refused({{none, wide, tall, {}, four, {}}}),
            "expert 0 has biases of 0, 4 and 0 values for gate [0, 0], up [5, 4], down [4, 5]");
  WeightView integers = wide;
  integers.dtype = DType::kI8;
  EXPECT_EQ(refused({{none, integers, tall}}), "a weight of type I8, expected a float type");
}

TEST(ExpertGradients, WriteIntoTheStackedTensors) {
  Tensor gate = stack(2, 3, 4), up = stack(2, 3, 4), down = stack(2, 4, 3);
  const std::vector<kernels::FfnGradients> gradients = expert_gradients(gate, up, down);
  gradients[1].down_DF(3, 2) = 7.0F;
  EXPECT_EQ(down.f32().back(), 7.0F);
}

}  // namespace
}  // namespace switchyard::moe
