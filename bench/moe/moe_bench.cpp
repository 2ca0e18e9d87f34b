#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "machine.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/base/random.hpp"
#include "switchyard/kernels/matmul.hpp"
#include "switchyard/moe/capacity.hpp"
#include "switchyard/moe/combine.hpp"
#include "switchyard/moe/layer.hpp"
#include "switchyard/moe/losses.hpp"
#include "switchyard/moe/score.hpp"
#include "switchyard/moe/select.hpp"
#include "switchyard/moe/statistics.hpp"
#include "switchyard/moe/weights.hpp"

namespace switchyard::moe {
namespace {

constexpr Index kWidth = 512;

// Normal numbers from a pool: drawing a hundred million would take longer than the benchmark.
Tensor random_tensor(const Shape& shape, std::uint32_t number, float scale) {
  Tensor tensor = Tensor::uninitialized(DType::kF32, shape);
  const RandomStream stream(7, RandomPurpose::kTest, number);
  std::vector<float> pool(4099);
  for (std::size_t i = 0; i < pool.size(); ++i) pool[i] = scale * stream.normal(i);
  const std::span<float> values = tensor.f32();
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = pool[i % pool.size()];
  return tensor;
}

// A layer of SwiGLU experts in training, as it stands in a model: softmax, top-k, divided by the sum, dropless.
// Arguments: E, K, F, T.
struct Problem {
  explicit Problem(const benchmark::State& state)
      : experts(state.range(0)),
        top_k(state.range(1)),
        hidden(state.range(2)),
        tokens(state.range(3)),
        x(random_tensor({tokens, kWidth}, 1, 1.0F)),
        y(random_tensor({tokens, kWidth}, 2, 1.0F)),
        d_x(random_tensor({tokens, kWidth}, 3, 1.0F)),
        router(random_tensor({experts, kWidth}, 4, 0.02F)),
        gate(random_tensor({experts, hidden, kWidth}, 5, 0.02F)),
        up(random_tensor({experts, hidden, kWidth}, 6, 0.02F)),
        down(random_tensor({experts, kWidth, hidden}, 7, 0.02F)),
        store(gate, up, down) {
    config.router.experts = experts;
    config.router.top_k = top_k;
    config.router.normalise = "sum";
    config.balance.load_balance = 0.01F;
    config.balance.z_loss = 0.001F;
    config.expert.hidden = hidden;
    weights.router.router_ED = std::as_const(router).matrix();
    weights.experts = &store;
    call.training = tokens > 1;  // one token is a step of generation
  }
  void forward(MoeSaved* saved) {
    benchmark::DoNotOptimize(moe_forward(config, weights, call, std::as_const(x).matrix(), y.matrix(), saved).total);
  }
  // Of the experts' matrix products alone: what the rest costs shows as a lower rate.
  double forward_flops() const {
    return 6.0 * static_cast<double>(kWidth) * static_cast<double>(hidden * top_k) * static_cast<double>(tokens);
  }

  Index experts, top_k, hidden, tokens;
  Tensor x, y, d_x, router, gate, up, down;
  ResidentExpertStore store;
  MoeConfig config;
  MoeWeights weights;
  MoeCall call;
};

// Runs f as often as the benchmark asks for; returns the mean seconds of a run.
template <class F>
double time_each(benchmark::State& state, const F& f) {
  std::chrono::duration<double> elapsed{0.0};
  ThreadArena arena;
  arena.run([&] {
    f();  // caches and scratch memory are warm
    const auto start = std::chrono::steady_clock::now();
    for (auto _ : state) f();
    elapsed = std::chrono::steady_clock::now() - start;
  });
  state.SetLabel(kernels::instruction_set());
  return elapsed.count() / static_cast<double>(state.iterations());
}

void report(benchmark::State& state, double flops) {
  state.counters["GFLOP/s"] = benchmark::Counter(1e-9 * flops, benchmark::Counter::kIsIterationInvariantRate);
}

// "of_peak" is the median share of what the cores could do just before and after each run.
template <class F>
void time_against_peak(benchmark::State& state, double flops, const F& f) {
  std::vector<double> shares;
  ThreadArena arena;
  arena.run([&] {
    f();
    double before = bench::peak_gflops_now();
    for (auto _ : state) {
      const auto start = std::chrono::steady_clock::now();
      f();
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      const double after = bench::peak_gflops_now();
      state.SetIterationTime(seconds);
      shares.push_back(1e-9 * flops / seconds / (0.5 * (before + after)));
      before = after;
    }
  });
  std::nth_element(shares.begin(), shares.begin() + std::ssize(shares) / 2, shares.end());
  state.counters["of_peak"] = shares[shares.size() / 2];
  state.SetLabel(kernels::instruction_set());
  report(state, flops);
}

void BM_Forward(benchmark::State& state) {
  Problem problem(state);
  time_against_peak(state, problem.forward_flops(), [&] { problem.forward(nullptr); });
}

void BM_ForwardBackward(benchmark::State& state) {
  Problem problem(state);
  Tensor d_router = Tensor::zeros(DType::kF32, problem.router.shape());
  Tensor d_gate = Tensor::zeros(DType::kF32, problem.gate.shape());
  Tensor d_up = Tensor::zeros(DType::kF32, problem.up.shape());
  Tensor d_down = Tensor::zeros(DType::kF32, problem.down.shape());
  const std::vector<kernels::FfnGradients> d_experts = expert_gradients(d_gate, d_up, d_down);
  MoeGradients gradients;
  gradients.router.router_ED = d_router.matrix();
  gradients.experts = d_experts;
  time_against_peak(state, 3.0 * problem.forward_flops(), [&] {
    MoeSaved saved;
    problem.forward(&saved);
    moe_backward(problem.config, problem.weights, saved, std::as_const(problem.x).matrix(),
                 std::as_const(problem.x).matrix(), 1.0F, problem.d_x.matrix(), gradients);
  });
}

void BM_Decode(benchmark::State& state) {
  Problem problem(state);
  time_each(state, [&] { problem.forward(nullptr); });
  report(state, problem.forward_flops());
}

// The cost must follow the active parameters and not the total: "x E=8" is the time relative to eight experts, whose
// row must come first.
void BM_ForwardByExperts(benchmark::State& state) {
  static double with_eight = 0.0;
  Problem problem(state);
  const double seconds = time_each(state, [&] { problem.forward(nullptr); });
  if (problem.experts == 8) with_eight = seconds;
  report(state, problem.forward_flops());
  state.counters["x E=8"] = with_eight > 0.0 ? seconds / with_eight : 0.0;
}

// Everything in the layer that is not an expert, one stage a row, at K=8 T=2048.
struct Stages {
  explicit Stages(const benchmark::State& state) : problem(state) {
    problem.forward(&saved);
    rows = random_tensor({saved.plan.slots(), kWidth}, 8, 1.0F);
  }
  ConstMatrix logits() const { return saved.logits_TR.matrix(); }
  ConstMatrix scores() const { return saved.scores_TE.matrix(); }
  SelectionInput selection() const {
    return {logits(), scores(), scores(), {}, {}, {}, RandomStream(1, RandomPurpose::kRouter), true, 0, nullptr};
  }
  LossInput losses() const { return {problem.config, logits(), scores(), saved.assignments, {}, 0, {}, {}, {}}; }
  RoutingEvent event() const {
    return {0, problem.config, logits(), scores(), saved.assignments, saved.plan, {}, {}, {}, true};
  }
  Problem problem;
  MoeSaved saved;
  Tensor rows;
};

template <class F>
void run_stage(benchmark::State& state, const F& f) {
  Stages stages(state);
  time_each(state, [&] { f(stages); });
}

void BM_StageLogits(benchmark::State& state) {
  run_stage(state, [](Stages& s) {
    kernels::matmul_nt(std::as_const(s.problem.x).matrix(), s.problem.weights.router.router_ED,
                       s.saved.logits_TR.matrix());
  });
}
void BM_StageSoftmax(benchmark::State& state) {
  run_stage(state, [](Stages& s) {
    find_score_function("softmax").forward(s.problem.config.router, s.logits(), s.saved.scores_TE.matrix());
  });
}
void BM_StageSigmoid(benchmark::State& state) {
  run_stage(state, [](Stages& s) {
    find_score_function("sigmoid").forward(s.problem.config.router, s.logits(), s.saved.scores_TE.matrix());
  });
}
void BM_StageSelect(benchmark::State& state) {
  run_stage(state, [](Stages& s) {
    benchmark::DoNotOptimize(find_selection_rule("top-k").select(s.problem.config.router, s.selection()).size());
  });
}
// At most twice plain top-k.
void select_within_groups(benchmark::State& state, const char* group_score) {
  run_stage(state, [group_score](Stages& s) {
    RouterConfig router = s.problem.config.router;
    router.groups = 8;
    router.groups_kept = 4;
    router.group_score = group_score;
    benchmark::DoNotOptimize(find_selection_rule("group-limited").select(router, s.selection()).size());
  });
}
void BM_StageGroupsMax(benchmark::State& state) { select_within_groups(state, "max"); }
void BM_StageGroupsTop2(benchmark::State& state) { select_within_groups(state, "top-2-sum"); }
void BM_StageWeights(benchmark::State& state) {
  run_stage(state, [](Stages& s) { find_weight_rule("sum").forward(s.problem.config.router, s.saved.assignments); });
}
void BM_StageDrop(benchmark::State& state) {
  run_stage(state, [](Stages& s) {
    MoeConfig config = s.problem.config;
    config.capacity.factor = 1.0F;
    apply_capacity(
        {.config = config, .scores_TE = s.scores(), .valid_T = {}, .random = RandomStream(1, RandomPurpose::kCapacity)},
        s.saved.assignments);
  });
}
void BM_StagePlan(benchmark::State& state) {
  run_stage(state, [](Stages& s) { benchmark::DoNotOptimize(make_dispatch_plan(s.saved.assignments).slots()); });
}
void BM_StageLosses(benchmark::State& state) {
  run_stage(state, [](Stages& s) {
    for (const RouterLoss& loss : router_losses()) benchmark::DoNotOptimize(loss.forward(s.losses()));
  });
}
void BM_StageStatistics(benchmark::State& state) {
  run_stage(state, [](Stages& s) {
    RoutingStatistics statistics;
    statistics.add(s.event());
    benchmark::DoNotOptimize(statistics.tokens);
  });
}
void BM_StageCombine(benchmark::State& state) {
  run_stage(state, [](Stages& s) {
    combine(s.saved.assignments, s.saved.plan, std::as_const(s.rows).matrix(), s.problem.y.matrix());
  });
}

void layers(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"E", "K", "F", "T"})->Unit(benchmark::kMillisecond)->UseManualTime();
  benchmark->Args({8, 2, 1024, 2048})->Args({64, 8, 256, 2048})->Args({128, 8, 256, 2048});
}
void by_experts(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"E", "K", "F", "T"})->Unit(benchmark::kMillisecond)->UseRealTime();
  for (const Index experts : {8, 16, 32, 64, 128, 256}) benchmark->Args({experts, 8, 256, 4096});
}
void decode(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"E", "K", "F", "T"})->Unit(benchmark::kMicrosecond)->UseRealTime();
  benchmark->Args({8, 2, 1024, 1})->Args({128, 8, 256, 1});
}
void stage(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"E", "K", "F", "T"})->Unit(benchmark::kMillisecond)->UseRealTime();
  for (const Index experts : {64, 128, 256}) benchmark->Args({experts, 8, 256, 2048});
}

BENCHMARK(BM_Forward)->Apply(layers);
BENCHMARK(BM_ForwardBackward)->Apply(layers);
BENCHMARK(BM_Decode)->Apply(decode);
BENCHMARK(BM_ForwardByExperts)->Apply(by_experts);
BENCHMARK(BM_StageLogits)->Apply(stage);
BENCHMARK(BM_StageSoftmax)->Apply(stage);
BENCHMARK(BM_StageSigmoid)->Apply(stage);
BENCHMARK(BM_StageSelect)->Apply(stage);
BENCHMARK(BM_StageGroupsMax)->Apply(stage);
BENCHMARK(BM_StageGroupsTop2)->Apply(stage);
BENCHMARK(BM_StageWeights)->Apply(stage);
BENCHMARK(BM_StageDrop)->Apply(stage);
BENCHMARK(BM_StagePlan)->Apply(stage);
BENCHMARK(BM_StageLosses)->Apply(stage);
BENCHMARK(BM_StageStatistics)->Apply(stage);
BENCHMARK(BM_StageCombine)->Apply(stage);

}  // namespace
}  // namespace switchyard::moe
