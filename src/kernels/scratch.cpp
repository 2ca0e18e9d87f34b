#include "scratch.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include "switchyard/base/error.hpp"

namespace switchyard::kernels {
namespace {

struct Free {
  void operator()(float* p) const { std::free(p); }
};

struct Buffer {
  std::unique_ptr<float, Free> memory;
  Index floats = 0;
};

struct Stack {
  std::vector<Buffer> buffers;
  std::size_t depth = 0;
};

Stack& stack() {
  thread_local Stack s;
  return s;
}

constexpr Index kHugePage = Index{2} << 20;

void grow(Buffer& buffer, Index floats) {
  const Index wanted = floats * static_cast<Index>(sizeof(float));
  // Large buffers take whole huge pages: packing writes many streams at once, one 4 KB page each would exhaust the TLB.
  const Index alignment = wanted >= kHugePage ? kHugePage : 64;
  const Index bytes = round_up(wanted, alignment);
  buffer.memory.reset();
  buffer.floats = 0;
  void* p = std::aligned_alloc(static_cast<std::size_t>(alignment), static_cast<std::size_t>(bytes));
  if (p == nullptr) fail(ErrorKind::kResource, "out of memory: cannot allocate {} bytes of working memory", bytes);
  if (alignment == kHugePage) madvise(p, static_cast<std::size_t>(bytes), MADV_HUGEPAGE);
  buffer.memory.reset(static_cast<float*>(p));
  buffer.floats = bytes / static_cast<Index>(sizeof(float));
}

}  // namespace

Scratch::Scratch(Index floats) {
  Stack& s = stack();
  if (s.depth == s.buffers.size()) s.buffers.emplace_back();
  Buffer& buffer = s.buffers[s.depth];
  if (buffer.floats < floats || buffer.memory == nullptr) grow(buffer, floats < 1024 ? 1024 : floats);
  data_ = buffer.memory.get();
  ++s.depth;
}

Scratch::~Scratch() { --stack().depth; }

}  // namespace switchyard::kernels
