// Products with weights as files hold them, beside float32. Arguments: rows of a, width (the matrix is square), the
// type, threads. GB/s are of the stored bytes, scales included; a product that is bound by memory takes time in
// proportion to them.

#include <benchmark/benchmark.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "machine.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/matmul.hpp"

namespace switchyard::kernels {
namespace {

enum class Kind : int { kF32, kBF16, kF16, kF8, kF8Blocks, kMxF4, kBF16Columns, kQ80, kQ40, kQ4K, kQ6K };

struct Stored {
  std::vector<std::byte> memory, scales;
  WeightView view;
  std::string_view name;
};

Stored make(Kind kind, Index n) {
  Stored s;
  WeightView& w = s.view;
  const auto type = [&](DType dtype, std::string_view name) {
    w.dtype = dtype;
    s.name = name;
  };
  const auto scales = [&](DType dtype, Index rows, Index columns) {
    const Index stride = ceil_div(n, columns), count = ceil_div(n, rows) * stride;
    s.scales.assign(static_cast<std::size_t>(dtype_bytes(dtype, count)), std::byte{0x3F});
    w.scales = {s.scales.data(), dtype, stride, rows, columns};
  };
  w.rows = w.cols = w.row_stride = n;
  switch (kind) {
    case Kind::kF32:
      type(DType::kF32, "F32");
      break;
    case Kind::kBF16:
      type(DType::kBF16, "BF16");
      break;
    case Kind::kF16:
      type(DType::kF16, "F16");
      break;
    case Kind::kF8:
      type(DType::kF8E4M3, "F8_E4M3");
      break;
    case Kind::kF8Blocks:
      type(DType::kF8E4M3, "F8_E4M3, F32 scales of 128 x 128");
      scales(DType::kF32, 128, 128);
      break;
    case Kind::kMxF4:
      type(DType::kF4, "F4, E8M0 scales of 1 x 32");
      scales(DType::kF8E8M0, 1, 32);
      break;
    case Kind::kBF16Columns:
      type(DType::kBF16, "BF16, column-major");
      w.row_stride = 1;
      w.col_stride = n;
      break;
    case Kind::kQ80:
      type(DType::kQ80, "Q8_0");
      break;
    case Kind::kQ40:
      type(DType::kQ40, "Q4_0");
      break;
    case Kind::kQ4K:
      type(DType::kQ4K, "Q4_K");
      break;
    case Kind::kQ6K:
      type(DType::kQ6K, "Q6_K");
      break;
  }
  s.memory.assign(static_cast<std::size_t>(dtype_bytes(w.dtype, n * n)), std::byte{0x3C});
  w.data = s.memory.data();
  return s;
}

void product(benchmark::State& state) {
  const Index m = state.range(0), n = state.range(1);
  const Stored weight = make(static_cast<Kind>(state.range(2)), n);
  const int threads = static_cast<int>(state.range(3));
  const std::vector<float> a(static_cast<std::size_t>(m * n), 0.5F);
  std::vector<float> c(a.size());
  const double bandwidth = bench::read_bandwidth(threads);
  ThreadArena(threads).run([&] {
    for (auto _ : state) matmul_nt({a.data(), m, n}, weight.view, {c.data(), m, n});
  });
  const double runs = static_cast<double>(state.iterations());
  const double gb = 1e-9 * static_cast<double>(weight.memory.size() + weight.scales.size()) * runs;
  state.counters["GFLOP/s"] =
      benchmark::Counter(2e-9 * static_cast<double>(m * n * n) * runs, benchmark::Counter::kIsRate);
  state.counters["GB/s"] = benchmark::Counter(gb, benchmark::Counter::kIsRate);
  state.counters["of_bandwidth"] = benchmark::Counter(gb / bandwidth, benchmark::Counter::kIsRate);
  state.SetLabel(std::string(weight.name));
}

void shapes(benchmark::internal::Benchmark* b) {
  for (const int threads : {1, 2})
    for (const int m : {1, 4, 8, 64})
      for (int kind = 0; kind <= static_cast<int>(Kind::kQ6K); ++kind) b->Args({m, 8192, kind, threads});
}

BENCHMARK(product)->Name("stored_weight")->Apply(shapes)->UseRealTime()->Unit(benchmark::kMillisecond)->MinTime(0.3);

}  // namespace
}  // namespace switchyard::kernels
