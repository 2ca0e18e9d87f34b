#pragma once
// What this machine can hold, read and compute: the measured side of a prediction.

#include <filesystem>
#include <string>

#include "switchyard/base/index.hpp"

namespace switchyard::plan {

struct Machine {
  Index memory_total = 0;      // bytes
  Index memory_available = 0;  // bytes that can be had without swapping, the limits of control groups included
  int threads = 1;
  std::string instruction_set;
  double bandwidth = 0.0;   // bytes per second that all threads together read from memory
  double arithmetic = 0.0;  // float32 operations per second of our matrix product, all threads; a multiply-add is two
  bool bandwidth_measured = false, arithmetic_measured = false;  // here, and not given by the caller
};

// Memory and threads of the caller's arena; the speeds stay 0. Throws kResource where /proc/meminfo cannot be read.
Machine describe_machine();

// Less than half a second each on a machine that has nothing else to do, in the caller's arena. The best of several
// rounds: what else runs on the machine can only slow a round down. Bandwidth is that of one stream a thread over a
// buffer several times as large as the caches (smaller where memory is short); arithmetic that of matmul_nt on matrices
// that fit the caches.
double measure_bandwidth();
double measure_arithmetic();

// The lines "Name:  123 kB" of a meminfo file, in bytes. Throws kResource where there is no such line.
Index meminfo_bytes(const std::string& text, const std::string& name);
// The least of what the control group and its ancestors leave: memory.max - memory.current. `none` where nothing
// limits.
Index cgroup_available(const std::filesystem::path& root, const std::string& group, Index none);

}  // namespace switchyard::plan
