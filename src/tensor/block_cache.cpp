#include "block_cache.hpp"

#include <sys/mman.h>

#include <array>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SWITCHYARD_ADDRESS_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SWITCHYARD_ADDRESS_SANITIZER 1
#endif

namespace switchyard {
namespace {

#ifdef SWITCHYARD_ADDRESS_SANITIZER
constexpr bool kEnabled = false;
#else
constexpr bool kEnabled = true;
#endif
constexpr int kSmallestLog = 14, kLargestLog = 28;
constexpr std::size_t kSmallest = std::size_t{1} << kSmallestLog, kLargest = std::size_t{1} << kLargestLog;
constexpr std::size_t kMostKept = std::size_t{1} << 30;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kSteps = 8;  // between powers of two

bool is_kept(std::size_t capacity) { return kEnabled && capacity >= kSmallest && capacity <= kLargest; }

class BlockCache {
 public:
  void* take(std::size_t capacity) {
    const std::lock_guard lock(mutex_);
    std::vector<void*>& blocks = blocks_[place_of(capacity)];
    if (blocks.empty()) return nullptr;
    void* block = blocks.back();
    blocks.pop_back();
    kept_ -= capacity;
    return block;
  }
  void give(void* block, std::size_t capacity) {
    const std::lock_guard lock(mutex_);
    // What is kept may be of sizes that nobody asks for any more: start afresh instead of holding on to it.
    if (kept_ + capacity > kMostKept) free_all();
    blocks_[place_of(capacity)].push_back(block);
    kept_ += capacity;
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    free_all();
  }

 private:
  static std::size_t place_of(std::size_t capacity) {
    const int log = static_cast<int>(std::bit_width(capacity)) - 1;
    const std::size_t step = (capacity >> (log - 3)) - kSteps;
    return static_cast<std::size_t>(log - kSmallestLog) * kSteps + step;
  }
  void free_all() {
    for (std::vector<void*>& blocks : blocks_) {
      for (void* block : blocks) std::free(block);
      blocks.clear();
    }
    kept_ = 0;
  }
  std::mutex mutex_;
  std::array<std::vector<void*>, (kLargestLog - kSmallestLog + 1) * kSteps> blocks_;
  std::size_t kept_ = 0;
};

// Never destroyed: tensors with static storage may outlive any other static object.
BlockCache& cache() {
  static auto* const instance = new BlockCache;
  return *instance;
}

// Weights and gradients are read in strides of rows: with pages of 4 KiB, misses of the TLB cost a tenth of a product.
void* advise_huge_pages(void* block, std::size_t capacity) {
  const auto begin = (reinterpret_cast<std::uintptr_t>(block) + kHugePage - 1) / kHugePage * kHugePage;
  const auto end = (reinterpret_cast<std::uintptr_t>(block) + capacity) / kHugePage * kHugePage;
  if (block != nullptr && begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
  return block;
}

}  // namespace

std::size_t block_capacity(std::size_t bytes) {
  if (!is_kept(bytes)) return bytes;
  const std::size_t step = std::bit_floor(bytes) / kSteps;
  const std::size_t capacity = (bytes + step - 1) / step * step;
  return is_kept(capacity) ? capacity : bytes;
}

void* take_block(std::size_t capacity, bool zero) {
  if (is_kept(capacity)) {
    if (void* block = cache().take(capacity)) {
      if (zero) std::memset(block, 0, capacity);
      return block;
    }
  }
  // What is not written yet must stay unbacked: a cache is as large as the longest text that it may have to hold.
  const auto fresh = [&] {
    return advise_huge_pages(zero ? std::calloc(capacity, 1) : std::malloc(capacity), capacity);
  };
  void* block = fresh();
  if (block == nullptr && kEnabled) {
    cache().clear();
    block = fresh();
  }
  return block;
}

void give_block(void* block, std::size_t capacity) noexcept {
  if (is_kept(capacity)) {
    try {
      cache().give(block, capacity);
      return;
    } catch (const std::bad_alloc&) {
      // No memory to note it down: let it go.
    }
  }
  std::free(block);
}

}  // namespace switchyard
