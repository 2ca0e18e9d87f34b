#include "switchyard/base/parallel.hpp"

#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

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

}  // namespace

struct ThreadArena::State {
  // TBB caps its workers at the number of cores; asking for more threads than cores must still give them, or a test
  // of "the same bits at any thread count" would compare one thread with itself.
  explicit State(int threads)
      : limit(tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(threads)), arena(threads) {}
  tbb::global_control limit;
  tbb::task_arena arena;
};

ThreadArena::ThreadArena(int threads) {
  if (threads < 0 || threads > 4096)
    fail(ErrorKind::kUsage, "threads must be 0 (all cores) to 4096, found {}", threads);
  state_ = std::make_unique<State>(threads == 0 ? tbb::info::default_concurrency() : threads);
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
  if (count <= grain || current_threads() == 1) {
    body(0, count);
    return;
  }
  TaskOrder order;
  tbb::parallel_for(
      tbb::blocked_range<Index>(0, count, static_cast<std::size_t>(grain)),
      [&](const tbb::blocked_range<Index>& range) {
        order.task_begins();
        body(range.begin(), range.end());
        order.task_ends();
      },
      tbb::auto_partitioner{});
  order.all_ended();
}

}  // namespace switchyard
