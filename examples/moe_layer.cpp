// A Mixture-of-Experts layer on its own: build input, route, run, look at the load. No model, no files.

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "switchyard/base/parallel.hpp"
#include "switchyard/base/random.hpp"
#include "switchyard/moe/layer.hpp"
#include "switchyard/moe/statistics.hpp"

using namespace switchyard;

namespace {

// A tensor of random numbers, of standard deviation `scale`.
Tensor random_tensor(const Shape& shape, std::uint32_t number, float scale) {
  Tensor tensor = Tensor::uninitialized(DType::kF32, shape);
  const RandomStream stream(42, RandomPurpose::kInit, number);
  const std::span<float> values = tensor.f32();
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = scale * stream.normal(i);
  return tensor;
}

void run() {
  // 1. Say what the layer is: 8 experts of width 128, two of them for each token. Of tokens of width 64 we take 1000.
  constexpr Index kTokens = 1000, kWidth = 64;
  moe::MoeConfig config;
  config.router.experts = 8;
  config.router.top_k = 2;
  config.router.score = "softmax";
  config.router.normalise = "sum";
  config.expert.hidden = 128;
  config.validate("example");

  // 2. Make weights and input. Expert tensors are stacked: [experts, out, in].
  const Index experts = config.router.experts, hidden = config.expert.hidden;
  const Tensor router = random_tensor({experts, kWidth}, 1, 0.2F);
  const Tensor gate = random_tensor({experts, hidden, kWidth}, 2, 0.1F);
  const Tensor up = random_tensor({experts, hidden, kWidth}, 3, 0.1F);
  const Tensor down = random_tensor({experts, kWidth, hidden}, 4, 0.1F);
  const Tensor x = random_tensor({kTokens, kWidth}, 5, 1.0F);

  moe::ResidentExpertStore store(gate, up, down);
  moe::MoeWeights weights;
  weights.router.router_ED = router.matrix();
  weights.experts = &store;

  // 3. Run it. An observer hears what was routed; `saved` keeps the routing and what a backward pass would need.
  moe::StatisticsRecorder recorder;
  moe::MoeCall call;
  call.observer = &recorder;
  moe::MoeSaved saved;
  Tensor y = Tensor::uninitialized(DType::kF32, x.shape());
  moe::moe_forward(config, weights, call, x.matrix(), y.matrix(), &saved);

  // 4. Look at one token ...
  const moe::Assignments& list = saved.assignments;
  fmt::print("token 0 goes to");
  for (auto a = static_cast<std::size_t>(list.offset_T1[0]); a < static_cast<std::size_t>(list.offset_T1[1]); ++a)
    fmt::print("  expert {} (weight {:.3f})", list.expert_A[a], list.weight_A[a]);
  fmt::print("\nits output starts with {:.4f} {:.4f} {:.4f}\n\n", y.matrix()(0, 0), y.matrix()(0, 1), y.matrix()(0, 2));

  // ... and at the load of all.
  const moe::RoutingStatistics& statistics = recorder.layers().at(0);
  for (std::size_t e = 0; e < statistics.load_E.size(); ++e)
    fmt::print("expert {}  {:4} tokens  {}\n", e, statistics.load_E[e],
               std::string(static_cast<std::size_t>(statistics.load_E[e] / 10), '#'));
  fmt::print("the busiest expert has {:.0f} % more than the mean; {} of {} experts got nothing\n",
             100.0 * statistics.max_violation(), statistics.dead_experts().size(), experts);
}

}  // namespace

int main() {
  ThreadArena arena;  // every core
  arena.run(run);
}
