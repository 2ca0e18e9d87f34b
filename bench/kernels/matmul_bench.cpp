// Matrix products at the shapes of training and decoding, as GFLOP/s, GB/s of weights and shares of what the machine
// can do. The last argument is the number of threads.

#include <benchmark/benchmark.h>

#include <vector>

#include "machine.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/matmul.hpp"

namespace switchyard::kernels {
namespace {

using Product = void (*)(ConstMatrix, ConstMatrix, Matrix, Store);

void run(benchmark::State& state, Product product, bool transpose_a, bool transpose_b) {
  const Index m = state.range(0), n = state.range(1), k = state.range(2);
  const int threads = static_cast<int>(state.range(3));
  const std::vector<float> a(static_cast<std::size_t>(m * k), 0.5F), b(static_cast<std::size_t>(k * n), 0.25F);
  std::vector<float> c(static_cast<std::size_t>(m * n));
  const ConstMatrix left = transpose_a ? ConstMatrix(a.data(), k, m) : ConstMatrix(a.data(), m, k);
  const ConstMatrix right = transpose_b ? ConstMatrix(b.data(), n, k) : ConstMatrix(b.data(), k, n);
  const double peak = bench::peak_gflops(threads), bandwidth = bench::read_bandwidth(threads);
  ThreadArena(threads).run([&] {
    for (auto _ : state) product(left, right, {c.data(), m, n}, Store::kOverwrite);
  });
  const double runs = static_cast<double>(state.iterations());
  const double gflop = 2e-9 * static_cast<double>(m * n * k) * runs;
  const double gb = 4e-9 * static_cast<double>(n * k) * runs;
  state.counters["GFLOP/s"] = benchmark::Counter(gflop, benchmark::Counter::kIsRate);
  state.counters["of_peak"] = benchmark::Counter(gflop / peak, benchmark::Counter::kIsRate);
  if (m <= 16) {
    state.counters["GB/s"] = benchmark::Counter(gb, benchmark::Counter::kIsRate);
    state.counters["of_bandwidth"] = benchmark::Counter(gb / bandwidth, benchmark::Counter::kIsRate);
  }
  state.SetLabel(instruction_set());
}

void nt(benchmark::State& state) {
  run(
      state, [](ConstMatrix a, ConstMatrix b, Matrix c, Store store) { matmul_nt(a, b, c, store); }, false, true);
}
void nn(benchmark::State& state) { run(state, &matmul_nn, false, false); }
void tn(benchmark::State& state) { run(state, &matmul_tn, true, false); }

// The layers of a small transformer (768 tokens, width 128) forward, backward by input and by weight.
void small_layers(benchmark::internal::Benchmark* b) {
  for (const int threads : {1, 2})
    for (const int n : {128, 384, 512}) b->Args({768, n, 128, threads});
  b->Args({768, 128, 512, 2})->Args({1024, 1024, 1024, 1})->Args({1024, 1024, 1024, 2});
}
void small_gradients(benchmark::internal::Benchmark* b) {
  for (const int threads : {1, 2})
    for (const int n : {128, 384, 512}) b->Args({128, n, 768, threads});
  b->Args({512, 128, 768, 2})->Args({1024, 1024, 1024, 1})->Args({1024, 1024, 1024, 2});
}
// Decoding: one to sixteen tokens, weights in the cache and in memory.
void few_rows(benchmark::internal::Benchmark* b) {
  for (const int threads : {1, 2})
    for (const int width : {512, 4096})
      for (const int m : {1, 4, 16}) b->Args({m, width, width, threads});
}

BENCHMARK(nt)->Apply(small_layers)->UseRealTime()->MinTime(0.2);
BENCHMARK(nn)->Apply(small_layers)->UseRealTime()->MinTime(0.2);
BENCHMARK(tn)->Apply(small_gradients)->UseRealTime()->MinTime(0.2);
BENCHMARK(nt)->Name("few_rows")->Apply(few_rows)->UseRealTime()->MinTime(0.2);

}  // namespace
}  // namespace switchyard::kernels
