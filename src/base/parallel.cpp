#include "switchyard/base/parallel.hpp"

#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include "switchyard/base/error.hpp"

namespace switchyard {

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

void ThreadArena::run(const std::function<void()>& f) { state_->arena.execute(f); }

int current_threads() { return tbb::this_task_arena::max_concurrency(); }

void parallel_for(Index count, Index grain, const std::function<void(Index, Index)>& body) {
  if (count <= 0) return;
  if (count <= grain || current_threads() == 1) {
    body(0, count);
    return;
  }
  tbb::parallel_for(
      tbb::blocked_range<Index>(0, count, static_cast<std::size_t>(grain)),
      [&](const tbb::blocked_range<Index>& range) { body(range.begin(), range.end()); }, tbb::auto_partitioner{});
}

}  // namespace switchyard
