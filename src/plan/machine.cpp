#include "switchyard/plan/machine.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/matmul.hpp"

namespace switchyard::plan {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr double kMeasureSeconds = 0.2;
constexpr Index kMiB = 1 << 20;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Files of /proc and of control groups have no size that can be asked for. Empty where it cannot be read.
std::string slurp(const fs::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// The number at the beginning of the first line that begins with `name`, after it and spaces.
std::optional<Index> number_after(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (!line.starts_with(name)) continue;
    line.remove_prefix(name.size());
    line.remove_prefix(std::min(line.size(), line.find_first_not_of(' ')));
    Index number = 0;
    if (std::from_chars(line.data(), line.data() + line.size(), number).ec == std::errc()) return number;
  }
  return std::nullopt;
}

// Best rate of work / seconds over rounds of f, within the time.
template <class F>
double best_rate(double work, const F& f) {
  f();  // threads start, pages are mapped
  double best = 0.0;
  const auto start = Clock::now();
  do {
    const auto round = Clock::now();
    f();
    best = std::max(best, work / seconds_since(round));
  } while (seconds_since(start) < kMeasureSeconds);
  return best;
}

Index largest_cache() {
  const long l3 = ::sysconf(_SC_LEVEL3_CACHE_SIZE), l2 = ::sysconf(_SC_LEVEL2_CACHE_SIZE);
  return std::max<Index>({l3, l2, 0});
}

// Eight chains, so that additions do not wait for one another.
std::uint64_t sum_of(const std::uint64_t* words, Index count) {
  std::uint64_t sums[8] = {};
  for (Index i = 0; i + 8 <= count; i += 8)
    for (int j = 0; j < 8; ++j) sums[j] += words[i + j];
  std::uint64_t sum = 0;
  for (const std::uint64_t s : sums) sum += s;
  return sum;
}

}  // namespace

Index meminfo_bytes(const std::string& text, const std::string& name) {
  const std::optional<Index> kibibytes = number_after(text, name + ":");
  if (!kibibytes) fail(ErrorKind::kResource, "/proc/meminfo: no line {}", name);
  return *kibibytes * 1024;
}

Index cgroup_available(const fs::path& root, const std::string& group, Index none) {
  Index least = none;
  // "0::/a/b" of /proc/self/cgroup: the limits of b, of a and of the root hold together.
  fs::path relative = fs::path(group).relative_path();
  while (true) {
    const std::optional<Index> max = number_after(slurp(root / relative / "memory.max"), "");
    const std::optional<Index> used = number_after(slurp(root / relative / "memory.current"), "");
    if (max && used) {
      // Cached file contents count as used, yet go when the room is needed.
      const Index cached = number_after(slurp(root / relative / "memory.stat"), "inactive_file ").value_or(0);
      least = std::min(least, std::max<Index>(0, *max - *used + cached));
    }
    if (relative.empty()) return least;
    relative = relative.parent_path();
  }
}

Machine describe_machine() {
  Machine machine;
  const std::string meminfo = slurp("/proc/meminfo");
  machine.memory_total = meminfo_bytes(meminfo, "MemTotal");
  machine.memory_available = meminfo_bytes(meminfo, "MemAvailable");
  std::string group = slurp("/proc/self/cgroup");
  if (group.starts_with("0::")) {
    group = group.substr(3, group.find('\n') - 3);
    machine.memory_available = cgroup_available("/sys/fs/cgroup", group, machine.memory_available);
  }
  machine.threads = current_threads();
  machine.instruction_set = kernels::instruction_set();
  return machine;
}

double measure_bandwidth() {
  // Filling the buffer takes longer than reading it, so a very large cache gets twice its size and no more.
  const Index cache = largest_cache(), wanted = std::max({64 * kMiB, std::min(4 * cache, 512 * kMiB), 2 * cache});
  const Index bytes = std::clamp(wanted, 8 * kMiB, std::max(8 * kMiB, describe_machine().memory_available / 4));
  const Index words = bytes / 8, threads = current_threads();
  // Not initialised: each thread touches its own share first.
  const auto buffer = std::make_unique_for_overwrite<std::uint64_t[]>(static_cast<std::size_t>(words));
  const Index share = ceil_div(words, threads);
  std::atomic<std::uint64_t> sink{0};
  parallel_for(threads, 1, [&](Index begin, Index end) {
    for (Index i = begin * share; i < std::min(words, end * share); ++i)
      buffer[static_cast<std::size_t>(i)] = static_cast<std::uint64_t>(i);
  });
  return best_rate(static_cast<double>(words) * 8.0, [&] {
    parallel_for(threads, 1, [&](Index begin, Index end) {
      const Index first = std::min(words, begin * share), last = std::min(words, end * share);
      sink += sum_of(buffer.get() + first, last - first);
    });
  });
}

double measure_arithmetic() {
  constexpr Index kRows = 256, kCols = 512, kDepth = 512;
  const std::vector<float> a(kRows * kDepth, 0.5F), b(kCols * kDepth, 0.25F);
  std::vector<float> c(kRows * kCols);
  const ConstMatrix weights(b.data(), kCols, kDepth);
  return best_rate(2.0 * kRows * kCols * kDepth, [&] {
    kernels::matmul_nt({a.data(), kRows, kDepth}, weights, {c.data(), kRows, kCols});
  });
}

}  // namespace switchyard::plan
