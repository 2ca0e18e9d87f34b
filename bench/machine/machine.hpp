#pragma once
// What this machine can do at most, measured when first asked for, so that every figure can be given as a share of it.

namespace switchyard::bench {

// Multiply-adds on registers alone, in GFLOP/s, on `threads` threads: the best of several runs.
double peak_gflops(int threads);
// The same on the threads of the arena that calls, now, in some ten milliseconds. Where other guests of the host change
// its speed from one second to the next, compare with this before and after.
double peak_gflops_now();
// Reading an array much larger than the caches, in GB/s, on `threads` threads.
double read_bandwidth(int threads);

}  // namespace switchyard::bench
