#pragma once
// Freed tensor memory, kept for the next tensor. A training step makes and frees the same tensors every time; from
// malloc, large ones would come as fresh pages, and the kernel's zeroing and page faults would cost more than many of
// the ops. Only blocks of 16 KiB to 256 MiB are kept, and at most 1 GiB together. Thread-safe. Off under
// AddressSanitizer, which is to see every use after free.

#include <cstddef>

namespace switchyard {

// The size that is allocated for `bytes`: the next of eight steps between powers of two, so that blocks fit again.
std::size_t block_capacity(std::size_t bytes);
// A block of that capacity, zeroed where asked; null where memory ran out, after all that was kept has been freed.
void* take_block(std::size_t capacity, bool zero);
// Hands back what take_block gave.
void give_block(void* block, std::size_t capacity) noexcept;

}  // namespace switchyard
