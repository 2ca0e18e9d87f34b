#include "switchyard/base/parallel.hpp"

#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <mutex>

#include "switchyard/base/error.hpp"

#ifdef SWITCHYARD_TSAN
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace switchyard {
namespace {

// libtbb is not instrumented, so the thread sanitizer does not see that a task starts after its caller came to it and
// ends before its caller goes on. This tells it, and no more: two tasks stay unordered. Nothing in other builds.
class TaskOrder {
 public:
#ifdef SWITCHYARD_TSAN
  TaskOrder() { __tsan_release(&begin_); }
  void task_begins() { __tsan_acquire(&begin_); }
  void task_ends() { __tsan_release(&end_); }
  void all_ended() { __tsan_acquire(&end_); }

 private:
  char begin_ = 0, end_ = 0;
#else
  void task_begins() {}
  void task_ends() {}
  void all_ended() {}
#endif
};

// TBB caps its workers at the number of cores; asking for more threads than cores must still give them, or a test of
// "the same bits at any thread count" would compare one thread with itself. The cap is one for the process and the
// least of all that are set, so there is only ever one, as large as the largest arena so far.
void raise_worker_limit(int threads) {
  static std::mutex mutex;
  static int limit = tbb::info::default_concurrency();
  static std::unique_ptr<tbb::global_control> control;
  const std::lock_guard lock(mutex);
  if (threads <= limit) return;
  control.reset();
  control = std::make_unique<tbb::global_control>(tbb::global_control::max_allowed_parallelism,
                                                  static_cast<std::size_t>(threads));
  limit = threads;
}

}  // namespace

struct ThreadArena::State {
  explicit State(int threads) : arena(threads) {}
  tbb::task_arena arena;
};

ThreadArena::ThreadArena(int threads) {
  if (threads < 0 || threads > 4096)
    fail(ErrorKind::kUsage, "threads must be 0 (all cores) to 4096, found {}", threads);
  if (threads == 0) threads = tbb::info::default_concurrency();
  raise_worker_limit(threads);
  state_ = std::make_unique<State>(threads);
}

ThreadArena::~ThreadArena() = default;

int ThreadArena::threads() const { return state_->arena.max_concurrency(); }

void ThreadArena::run(const std::function<void()>& f) {
  TaskOrder order;
  state_->arena.execute([&] {
    order.task_begins();
    f();
    order.task_ends();
  });
  order.all_ended();
}

int current_threads() { return tbb::this_task_arena::max_concurrency(); }

void parallel_for(Index count, Index grain, const std::function<void(Index, Index)>& body) {
  if (count <= 0) return;
  require(grain >= 1, "a grain of {}", grain);
  // TBB halves a range down to half the grain; cut in whole grains instead. The last takes the rest.
  const Index grains = std::max<Index>(1, count / grain);
  if (grains == 1 || current_threads() == 1) {
    body(0, count);
    return;
  }
  TaskOrder order;
  tbb::parallel_for(
      tbb::blocked_range<Index>(0, grains),
      [&](const tbb::blocked_range<Index>& range) {
        order.task_begins();
        body(range.begin() * grain, range.end() == grains ? count : range.end() * grain);
        order.task_ends();
      },
      tbb::auto_partitioner{});
  order.all_ended();
}

}  // namespace switchyard
