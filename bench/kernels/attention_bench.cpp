#include <benchmark/benchmark.h>

#include <algorithm>
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

// Arguments: batch, queries, keys, heads, kv heads, head_dim, value_dim, window. GFLOP/s count the scores and values
// that the mask leaves: 2 (head_dim + value_dim) for each query and key forward, 6 head_dim + 4 value_dim backward.
struct Problem {
  explicit Problem(const benchmark::State& state)
      : shape{.batch = state.range(0),
              .queries = state.range(1),
              .keys = state.range(2),
              .heads = state.range(3),
              .kv_heads = state.range(4),
              .head_dim = state.range(5),
              .scale = 1.0F / std::sqrt(static_cast<float>(state.range(5))),
              .value_dim = state.range(6),
              .window = state.range(7)},
        query_rows(shape.batch * shape.queries),
        key_rows(shape.batch * shape.keys),
        q(random_values(query_rows * shape.heads * shape.head_dim)),
        k(random_values(key_rows * shape.kv_heads * shape.head_dim)),
        v(random_values(key_rows * shape.kv_heads * shape.value_dim)),
        out(static_cast<std::size_t>(query_rows * shape.heads * shape.value_dim)),
        d_q(q.size()),
        d_k(k.size()),
        d_v(v.size()),
        log_sum_exp(static_cast<std::size_t>(query_rows * shape.heads)) {}

  Matrix rows(std::vector<float>& x, Index count) const {
    return {x.data(), count, static_cast<Index>(x.size()) / count};
  }
  void forward() {
    attention_forward(shape, rows(q, query_rows), rows(k, key_rows), rows(v, key_rows), {}, rows(out, query_rows),
                      log_sum_exp);
  }
  void backward() {
    attention_backward(shape, rows(q, query_rows), rows(k, key_rows), rows(v, key_rows), {}, rows(out, query_rows),
                       log_sum_exp, rows(out, query_rows), rows(d_q, query_rows), rows(d_k, key_rows),
                       rows(d_v, key_rows), {});
  }
  void report(benchmark::State& state, Index key_products, Index value_products) const {
    double pairs = 0.0;
    for (Index i = 0; i < shape.queries; ++i) {
      const Index before = shape.keys - shape.queries + i + 1;
      pairs += static_cast<double>(shape.window > 0 ? std::min(before, shape.window) : before);
    }
    const auto flops = static_cast<double>(2 * shape.batch * shape.heads *
                                           (key_products * shape.head_dim + value_products * shape.value_dim));
    state.SetLabel(instruction_set());
    state.counters["GFLOP/s"] =
        benchmark::Counter(1.0e-9 * flops * pairs, benchmark::Counter::kIsIterationInvariantRate);
  }

  AttentionShape shape;
  Index query_rows, key_rows;
  std::vector<float> q, k, v, out, d_q, d_k, d_v, log_sum_exp;
};

void attention_forward(benchmark::State& state) {
  Problem problem(state);
  ThreadArena arena;
  arena.run([&] {
    for (auto _ : state) problem.forward();
  });
  problem.report(state, 1, 1);
}
BENCHMARK(attention_forward)
    ->Args({12, 64, 64, 4, 4, 32, 32, 0})
    ->Args({1, 2048, 2048, 8, 8, 64, 64, 0})
    ->Args({1, 2048, 2048, 16, 4, 128, 128, 0})
    ->Args({1, 2048, 2048, 16, 4, 128, 128, 128})
    ->Args({1, 512, 512, 16, 16, 192, 128, 0})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

void attention_backward(benchmark::State& state) {
  Problem problem(state);
  ThreadArena arena;
  arena.run([&] {
    problem.forward();
    for (auto _ : state) problem.backward();
  });
  problem.report(state, 3, 2);
}
BENCHMARK(attention_backward)
    ->Args({12, 64, 64, 4, 4, 32, 32, 0})
    ->Args({1, 2048, 2048, 8, 8, 64, 64, 0})
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
    ->Args({1, 1, 4096, 16, 16, 128, 128, 0})
    ->Args({1, 1, 4096, 32, 8, 128, 128, 0})
    ->Args({1, 1, 256, 8, 8, 64, 64, 0})
    ->Args({1, 1, 4096, 64, 4, 128, 128, 0})
    ->Args({1, 1, 4096, 128, 1, 576, 512, 0})
    ->Args({1, 1, 4096, 64, 8, 64, 64, 128})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

}  // namespace
}  // namespace switchyard::kernels
