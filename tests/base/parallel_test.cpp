#include "switchyard/base/parallel.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "switchyard/base/error.hpp"

namespace switchyard {
namespace {

TEST(ParallelFor, CoversEveryItemOnceInRangesOfAtLeastTheGrain) {
  for (int threads = 1; threads <= 8; ++threads) {
    ThreadArena arena(threads);
    EXPECT_EQ(arena.threads(), threads);
    for (const Index count : {0, 1, 2, 7, 8, 9, 63, 100, 1000, 4097}) {
      for (const Index grain : {1, 3, 8, 60, 5000}) {
        std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
        std::atomic<Index> smallest{count};
        arena.run([&] {
          EXPECT_EQ(current_threads(), threads);
          parallel_for(count, grain, [&](Index begin, Index end) {
            EXPECT_LT(begin, end);
            Index seen = smallest.load();
            while (end - begin < seen && !smallest.compare_exchange_weak(seen, end - begin)) {
            }
            for (Index i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
          });
        });
        for (const auto& v : visits) ASSERT_EQ(v.load(), 1) << count << " items, grain " << grain;
        EXPECT_GE(smallest.load(), std::min(count, grain)) << count << " items, grain " << grain;
      }
    }
  }
}

// How many threads come together in one parallel_for; waits for them, up to a limit that a slow machine can meet.
std::size_t threads_that_meet(ThreadArena& arena, std::size_t wanted) {
  std::mutex mutex;
  std::set<std::thread::id> met;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  arena.run([&] {
    parallel_for(static_cast<Index>(wanted) * 4, 1, [&](Index, Index) {
      while (std::chrono::steady_clock::now() < deadline) {
        {
          const std::lock_guard lock(mutex);
          met.insert(std::this_thread::get_id());
          if (met.size() >= wanted) return;
        }
        std::this_thread::yield();
      }
    });
  });
  return met.size();
}

TEST(ThreadArena, GivesMoreThreadsThanCoresWhereAsked) {
  ThreadArena arena(8);
  EXPECT_EQ(threads_that_meet(arena, 8), 8U);
}

TEST(ThreadArena, ASmallArenaDoesNotSlowALargeOne) {
  ThreadArena one(1);
  ThreadArena four(4);
  EXPECT_EQ(threads_that_meet(four, 4), 4U);
}

TEST(ThreadArena, ZeroMeansEveryCore) { EXPECT_GE(ThreadArena(0).threads(), 1); }

TEST(ThreadArena, RefusesAbsurdCounts) {
  for (const int threads : {-1, 4097}) {
    try {
      ThreadArena arena(threads);
      ADD_FAILURE() << threads << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    }
  }
}

TEST(ParallelFor, PassesExceptionsThrough) {
  for (const int threads : {1, 2, 8}) {
    ThreadArena arena(threads);
    try {
      arena.run([] {
        parallel_for(1000, 1, [](Index begin, Index end) {
          if (begin <= 500 && 500 < end) fail(ErrorKind::kBadInput, "item {}", 500);
        });
      });
      ADD_FAILURE() << "no exception with " << threads << " threads";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
      EXPECT_STREQ(error.what(), "item 500");
    }
    // The arena goes on working.
    std::atomic<Index> sum{0};
    arena.run([&] { parallel_for(100, 1, [&](Index begin, Index end) { sum += end - begin; }); });
    EXPECT_EQ(sum.load(), 100);
  }
}

TEST(ParallelFor, MayBeNested) {
  ThreadArena arena(4);
  std::vector<std::atomic<int>> visits(35);
  arena.run([&] {
    parallel_for(5, 1, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        parallel_for(7, 1, [&, i](Index b, Index e) {
          for (Index j = b; j < e; ++j) ++visits[static_cast<std::size_t>(i * 7 + j)];
        });
      }
    });
  });
  for (const auto& v : visits) EXPECT_EQ(v.load(), 1);
}

TEST(ParallelFor, RefusesAGrainOfZero) {
  EXPECT_THROW(parallel_for(10, 0, [](Index, Index) {}), Error);
}

}  // namespace
}  // namespace switchyard
