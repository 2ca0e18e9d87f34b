// The experts of an MoE layer, D = 512: forward is 6 D F K T operations, forward and backward three times that.
// Arguments: experts, experts a token, F, tokens, threads.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <vector>

#include "machine.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/base/random.hpp"
#include "switchyard/kernels/grouped_ffn.hpp"
#include "switchyard/kernels/matmul.hpp"

namespace switchyard::kernels {
namespace {

constexpr Index kWidth = 512;

std::vector<float> values(Index count, float scale) {
  std::vector<float> v(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < v.size(); ++i)
    v[i] = scale * static_cast<float>(static_cast<int>(i * 2654435761U >> 20) % 199 - 99);
  return v;
}

// Every token goes to K different experts drawn at random.
struct Layer {
  Layer(Index experts, Index top_k, Index hidden, Index tokens)
      : slots(tokens * top_k),
        weights(values(3 * experts * hidden * kWidth, 5e-4F)),
        gradients(weights.size()),
        x(values(tokens * kWidth, 1e-2F)),
        d_y(values(tokens * kWidth, 1e-2F)),
        y(static_cast<std::size_t>(slots * kWidth)),
        d_x(y.size()),
        weight(static_cast<std::size_t>(slots), 0.5F),
        d_weight(weight.size()),
        tokens_TD(x.data(), tokens, kWidth),
        d_y_TD(d_y.data(), tokens, kWidth),
        offset{0} {
    std::vector<std::vector<std::int32_t>> rows(static_cast<std::size_t>(experts));
    const RandomStream stream(1, RandomPurpose::kTest);
    std::uint64_t draw = 0;
    for (Index t = 0; t < tokens; ++t) {
      std::vector<std::size_t> chosen;
      while (static_cast<Index>(chosen.size()) < top_k) {
        const auto e = static_cast<std::size_t>(stream.below(draw++, static_cast<std::uint64_t>(experts)));
        if (std::find(chosen.begin(), chosen.end(), e) == chosen.end()) chosen.push_back(e);
      }
      for (const std::size_t e : chosen) rows[e].push_back(static_cast<std::int32_t>(t));
    }
    for (const auto& r : rows) {
      token.insert(token.end(), r.begin(), r.end());
      offset.push_back(static_cast<std::int32_t>(token.size()));
    }
    const Index size = hidden * kWidth;
    for (Index e = 0; e < experts; ++e) {
      float* w = weights.data() + 3 * e * size;
      float* g = gradients.data() + 3 * e * size;
      ffn.push_back({ConstMatrix(w, hidden, kWidth), ConstMatrix(w + size, hidden, kWidth),
                     ConstMatrix(w + 2 * size, kWidth, hidden)});
      d_ffn.push_back({{g, hidden, kWidth}, {g + size, hidden, kWidth}, {g + 2 * size, kWidth, hidden}});
    }
  }

  void forward(GroupedFfnSaved* saved) {
    grouped_ffn_forward(Activation::kSwiGLU, tokens_TD, {offset, token, weight}, ffn, {y.data(), slots, kWidth}, saved);
  }
  void backward(const GroupedFfnSaved& saved) {
    grouped_ffn_backward(Activation::kSwiGLU, tokens_TD, {offset, token, weight}, ffn, saved, d_y_TD,
                         {d_x.data(), slots, kWidth}, d_weight, d_ffn);
  }

  Index slots;
  std::vector<float> weights, gradients, x, d_y, y, d_x, weight, d_weight;
  ConstMatrix tokens_TD, d_y_TD;
  std::vector<std::int32_t> offset, token;
  std::vector<FfnWeights> ffn;
  std::vector<FfnGradients> d_ffn;
};

template <class F>
void run(benchmark::State& state, double operations, const F& f) {
  Layer layer(state.range(0), state.range(1), state.range(2), state.range(3));
  const int threads = static_cast<int>(state.range(4));
  const double peak = bench::peak_gflops(threads);
  GroupedFfnSaved saved;
  ThreadArena(threads).run([&] {
    f(layer, saved);  // touches all memory once
    for (auto _ : state) f(layer, saved);
  });
  const double gflop = 1e-9 * operations * static_cast<double>(kWidth * state.range(2) * layer.slots) *
                       static_cast<double>(state.iterations());
  state.counters["GFLOP/s"] = benchmark::Counter(gflop, benchmark::Counter::kIsRate);
  state.counters["of_peak"] = benchmark::Counter(gflop / peak, benchmark::Counter::kIsRate);
  state.SetLabel(instruction_set());
}

void inference(benchmark::State& state) {
  run(state, 6.0, [](Layer& layer, GroupedFfnSaved&) { layer.forward(nullptr); });
}
void forward(benchmark::State& state) {
  run(state, 6.0, [](Layer& layer, GroupedFfnSaved& saved) { layer.forward(&saved); });
}
void forward_backward(benchmark::State& state) {
  run(state, 18.0, [](Layer& layer, GroupedFfnSaved& saved) {
    layer.forward(&saved);
    layer.backward(saved);
  });
}

void layers(benchmark::internal::Benchmark* b) {
  for (const int threads : {1, 2})
    b->Args({8, 2, 1024, 2048, threads})->Args({64, 8, 256, 2048, threads})->Args({128, 8, 256, 2048, threads});
}
// The same active parameters, more and more in total: the time should hardly change.
void more_experts(benchmark::internal::Benchmark* b) {
  for (const int experts : {8, 16, 32, 64, 128, 256}) b->Args({experts, 8, 256, 4096, 2});
}
void decoding(benchmark::internal::Benchmark* b) {
  for (const int tokens : {1, 4, 16}) b->Args({64, 8, 256, tokens, 2})->Args({8, 2, 1024, tokens, 2});
}

BENCHMARK(forward)->Apply(layers)->UseRealTime()->Unit(benchmark::kMillisecond)->MinTime(0.5);
BENCHMARK(forward_backward)->Apply(layers)->UseRealTime()->Unit(benchmark::kMillisecond)->MinTime(0.8);
BENCHMARK(forward)
    ->Name("more_experts")
    ->Apply(more_experts)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond)
    ->MinTime(0.5);
BENCHMARK(inference)->Name("decoding")->Apply(decoding)->UseRealTime()->Unit(benchmark::kMicrosecond)->MinTime(0.2);

}  // namespace
}  // namespace switchyard::kernels
