#include "switchyard/moe/expert_store.hpp"

#include <gtest/gtest.h>

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
  EXPECT_EQ(last.gate_FD.data, gate.matrix(2).data);
  EXPECT_EQ(last.up_FD.data, up.matrix(2).data);
  EXPECT_EQ(last.down_DF.data, down.matrix(2).data);
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

TEST(ExpertGradients, WriteIntoTheStackedTensors) {
  Tensor gate = stack(2, 3, 4), up = stack(2, 3, 4), down = stack(2, 4, 3);
  const std::vector<kernels::FfnGradients> gradients = expert_gradients(gate, up, down);
  gradients[1].down_DF(3, 2) = 7.0F;
  EXPECT_EQ(down.f32().back(), 7.0F);
}

}  // namespace
}  // namespace switchyard::moe
