#pragma once
// Threads. oneTBB runs the tasks because it does not spin: a core taken by another process costs its share and no
// more (docs/architecture.md has the measurement).

#include <functional>
#include <memory>

#include "switchyard/base/index.hpp"

namespace switchyard {

// A fixed number of threads. Everything called inside run() is parallel over at most that many, including the
// calling thread. Thread-safe: several threads may call run() at once and then share the arena.
class ThreadArena {
 public:
  // threads >= 1; 0 means every core this process may use (its CPU affinity counts).
  explicit ThreadArena(int threads = 0);
  ~ThreadArena();
  ThreadArena(const ThreadArena&) = delete;
  ThreadArena& operator=(const ThreadArena&) = delete;

  int threads() const;
  // Runs f here and returns when it has ended; exceptions pass through.
  void run(const std::function<void()>& f);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The number of threads of the arena the caller is in.
int current_threads();

// Calls body(begin, end) on disjoint ranges that cover [0, count), each of at least `grain` >= 1 items (of all, where
// count is less). An exception of a body passes through; ranges not yet begun are then left out.
// Which thread gets which range is not defined and the cut depends on the number of threads: a body must compute
// each item in a way that does not depend on the range it came in. Runs inline where count < 2 * grain.
void parallel_for(Index count, Index grain, const std::function<void(Index begin, Index end)>& body);

}  // namespace switchyard
