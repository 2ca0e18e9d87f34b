#include "machine.hpp"

#include <algorithm>
#include <chrono>
#include <map>
#include <numeric>
#include <vector>

#include "switchyard/base/parallel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "machine.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace switchyard::bench::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

// Ten chains hide the latency. Returns the number of operations.
double multiply_add(Index rounds, float* result) {
  const hn::ScalableTag<float> d;
  const auto x = hn::Set(d, 0.999F), y = hn::Set(d, 0.001F);
  // Different values, or the compiler would see that the chains are one.
  auto a0 = hn::Set(d, 0.0F), a1 = hn::Set(d, 0.1F), a2 = hn::Set(d, 0.2F), a3 = hn::Set(d, 0.3F);
  auto a4 = hn::Set(d, 0.4F), a5 = hn::Set(d, 0.5F), a6 = hn::Set(d, 0.6F), a7 = hn::Set(d, 0.7F);
  auto a8 = hn::Set(d, 0.8F), a9 = hn::Set(d, 0.9F);
  for (Index i = 0; i < rounds; ++i) {
    a0 = hn::MulAdd(a0, x, y);
    a1 = hn::MulAdd(a1, x, y);
    a2 = hn::MulAdd(a2, x, y);
    a3 = hn::MulAdd(a3, x, y);
    a4 = hn::MulAdd(a4, x, y);
    a5 = hn::MulAdd(a5, x, y);
    a6 = hn::MulAdd(a6, x, y);
    a7 = hn::MulAdd(a7, x, y);
    a8 = hn::MulAdd(a8, x, y);
    a9 = hn::MulAdd(a9, x, y);
  }
  const auto low = hn::Add(hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)), a4);
  const auto high = hn::Add(hn::Add(hn::Add(a5, a6), hn::Add(a7, a8)), a9);
  *result = hn::GetLane(hn::Add(low, high));
  return 2.0 * 10.0 * static_cast<double>(hn::Lanes(d)) * static_cast<double>(rounds);
}

void sum(const float* values, Index count, float* result) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<Index>(hn::Lanes(d));
  auto a = hn::Zero(d), b = a, c = a, e = a;
  for (Index i = 0; i + 4 * lanes <= count; i += 4 * lanes) {
    a = hn::Add(a, hn::LoadU(d, values + i));
    b = hn::Add(b, hn::LoadU(d, values + i + lanes));
    c = hn::Add(c, hn::LoadU(d, values + i + 2 * lanes));
    e = hn::Add(e, hn::LoadU(d, values + i + 3 * lanes));
  }
  *result = hn::GetLane(hn::Add(hn::Add(a, b), hn::Add(c, e)));
}

}  // namespace
}  // namespace switchyard::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace switchyard::bench {

HWY_EXPORT(multiply_add);
HWY_EXPORT(sum);

namespace {

// The least time of several runs: other programs only ever slow one down.
template <class F>
double best_seconds(const F& f) {
  double best = 1e9;
  for (int i = 0; i < 12; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

double measure_peak(int threads) {
  double best = 0.0;
  ThreadArena(threads).run([&] {
    for (int i = 0; i < 12; ++i) best = std::max(best, peak_gflops_now());
  });
  return best;
}

double measure_bandwidth(int threads) {
  constexpr Index kFloats = Index{1} << 26;  // 256 MB
  constexpr Index kPiece = Index{1} << 20;
  const std::vector<float> values(static_cast<std::size_t>(kFloats), 1.0F);
  std::vector<float> sink(static_cast<std::size_t>(kFloats / kPiece));
  double best = 0.0;
  ThreadArena(threads).run([&] {
    best = best_seconds([&] {
      parallel_for(kFloats / kPiece, 1, [&](Index begin, Index end) {
        for (Index i = begin; i < end; ++i)
          HWY_DYNAMIC_DISPATCH(sum)(values.data() + i * kPiece, kPiece, &sink[static_cast<std::size_t>(i)]);
      });
    });
  });
  return 1e-9 * 4.0 * static_cast<double>(kFloats) / best;
}

template <class F>
double remembered(std::map<int, double>& known, int threads, const F& measure) {
  const auto [at, fresh] = known.try_emplace(threads, 0.0);
  if (fresh) at->second = measure(threads);
  return at->second;
}

}  // namespace

double peak_gflops_now() {
  const int threads = current_threads();
  std::vector<float> sink(static_cast<std::size_t>(threads) * 16);
  std::vector<double> operations(static_cast<std::size_t>(threads));
  const auto begin = std::chrono::steady_clock::now();
  parallel_for(threads, 1, [&](Index first, Index last) {
    for (Index i = first; i < last; ++i)
      operations[static_cast<std::size_t>(i)] =
          HWY_DYNAMIC_DISPATCH(multiply_add)(2000000, &sink[static_cast<std::size_t>(i) * 16]);
  });
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return 1e-9 * std::accumulate(operations.begin(), operations.end(), 0.0) / seconds;
}

double peak_gflops(int threads) {
  static std::map<int, double> known;
  return remembered(known, threads, measure_peak);
}

double read_bandwidth(int threads) {
  static std::map<int, double> known;
  return remembered(known, threads, measure_bandwidth);
}

}  // namespace switchyard::bench
#endif  // HWY_ONCE
