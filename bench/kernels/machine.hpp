#pragma once
// What this machine can do at most, measured when first asked for, so that every figure can be given as a share of it.

namespace switchyard::bench {

// Multiply-adds on registers alone, in GFLOP/s, on `threads` threads.
double peak_gflops(int threads);
// Reading an array much larger than the caches, in GB/s, on `threads` threads.
double read_bandwidth(int threads);

}  // namespace switchyard::bench
