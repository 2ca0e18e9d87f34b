#include <benchmark/benchmark.h>

#include <cmath>
#include <vector>

#include "switchyard/base/parallel.hpp"
#include "switchyard/base/random.hpp"
#include "switchyard/kernels/attention.hpp"
#include "switchyard/kernels/matmul.hpp"

namespace switchyard::kernels {
namespace {

std::vector<float> random_values(Index count) {
  const RandomStream stream(7, RandomPurpose::kTest);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = stream.normal(i);
  return values;
}

// Arguments: batch, queries, keys, heads, kv heads, head_dim. GFLOP/s count the scores and values that the causal
// mask leaves: 4 * head_dim for each query and key forward, 10 * head_dim backward.
struct Problem {
  explicit Problem(const benchmark::State& state)
      : shape{state.range(0),
              state.range(1),
              state.range(2),
              state.range(3),
              state.range(4),
              state.range(5),
              1.0F / std::sqrt(static_cast<float>(state.range(5)))},
        query_rows(shape.batch * shape.queries),
        key_rows(shape.batch * shape.keys),
        query_cols(shape.heads * shape.head_dim),
        key_cols(shape.kv_heads * shape.head_dim),
        q(random_values(query_rows * query_cols)),
        k(random_values(key_rows * key_cols)),
        v(random_values(key_rows * key_cols)),
        out(q.size()),
        d_q(q.size()),
        d_k(k.size()),
        d_v(v.size()),
        log_sum_exp(static_cast<std::size_t>(query_rows * shape.heads)) {}

  Matrix queries(std::vector<float>& values) const { return {values.data(), query_rows, query_cols}; }
  Matrix keys(std::vector<float>& values) const { return {values.data(), key_rows, key_cols}; }
  void forward() { attention_forward(shape, queries(q), keys(k), keys(v), queries(out), log_sum_exp); }
  void backward() {
    attention_backward(shape, queries(q), keys(k), keys(v), queries(out), log_sum_exp, queries(out), queries(d_q),
                       keys(d_k), keys(d_v));
  }
  double visible_pairs() const {
    const auto n = static_cast<double>(shape.queries), m = static_cast<double>(shape.keys);
    return static_cast<double>(shape.batch * shape.heads) * n * (m - (n - 1.0) / 2.0);
  }
  void report(benchmark::State& state, double flops_a_pair) const {
    state.SetLabel(instruction_set());
    state.counters["GFLOP/s"] =
        benchmark::Counter(1.0e-9 * flops_a_pair * static_cast<double>(shape.head_dim) * visible_pairs(),
                           benchmark::Counter::kIsIterationInvariantRate);
  }

  AttentionShape shape;
  Index query_rows, key_rows, query_cols, key_cols;
  std::vector<float> q, k, v, out, d_q, d_k, d_v, log_sum_exp;
};

void attention_forward(benchmark::State& state) {
  Problem problem(state);
  ThreadArena arena;
  arena.run([&] {
    for (auto _ : state) problem.forward();
  });
  problem.report(state, 4.0);
}
BENCHMARK(attention_forward)
    ->Args({12, 64, 64, 4, 4, 32})
    ->Args({1, 2048, 2048, 8, 8, 64})
    ->Args({1, 2048, 2048, 16, 4, 128})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

void attention_backward(benchmark::State& state) {
  Problem problem(state);
  ThreadArena arena;
  arena.run([&] {
    problem.forward();
    for (auto _ : state) problem.backward();
  });
  problem.report(state, 10.0);
}
BENCHMARK(attention_backward)
    ->Args({12, 64, 64, 4, 4, 32})
    ->Args({1, 2048, 2048, 8, 8, 64})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

// One token after a cache: bytes/s over the cache is what counts.
void attention_decode(benchmark::State& state) {
  Problem problem(state);
  ThreadArena arena;
  arena.run([&] {
    for (auto _ : state) problem.forward();
  });
  state.SetLabel(instruction_set());
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) *
                          static_cast<std::int64_t>((problem.k.size() + problem.v.size()) * sizeof(float)));
}
BENCHMARK(attention_decode)
    ->Args({1, 1, 4096, 16, 16, 128})
    ->Args({1, 1, 4096, 32, 8, 128})
    ->Args({1, 1, 256, 8, 8, 64})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

}  // namespace
}  // namespace switchyard::kernels
