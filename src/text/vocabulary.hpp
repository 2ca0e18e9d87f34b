#pragma once
// The tables behind the tokenizers that are made here: filled once, then only read.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::text {

std::uint64_t hash_bytes(std::string_view bytes);

// Ids above this are refused: no tokenizer has them, and a table is as long as its highest id.
inline constexpr std::int64_t kLargestId = (std::int64_t{1} << 22) - 1;

// Tokens by id and ids by token. Ids may have gaps.
class Vocabulary {
 public:
  void reserve(std::size_t tokens, std::size_t bytes);

  enum class Added { kYes, kTokenTwice, kIdTwice };
  // `id` is 0 to kLargestId. A token that is not `findable` has an id but find() does not know it.
  Added add(std::string_view token, std::int32_t id, bool findable = true);

  std::int32_t find(std::string_view token) const;  // -1 where there is none
  bool contains(std::int32_t id) const {
    return id >= 0 && static_cast<std::size_t>(id) < spans_.size() && spans_[static_cast<std::size_t>(id)].length >= 0;
  }
  // Empty where the id has no token.
  std::string_view token(std::int32_t id) const;
  std::int32_t id_limit() const { return static_cast<std::int32_t>(spans_.size()); }  // the highest id + 1
  std::size_t count() const { return count_; }

 private:
  struct Span {
    std::size_t begin = 0;
    std::int64_t length = -1;
  };
  void grow(std::size_t slots);
  std::size_t slot_of(std::string_view token) const;

  std::string bytes_;
  std::vector<Span> spans_;
  std::vector<std::int32_t> slots_;  // ids, -1 where free; a power of two
  std::size_t count_ = 0, findable_ = 0;
};

// What a pair of adjacent tokens merges to.
struct Merge {
  std::uint32_t rank;
  std::int32_t id;
};
class MergeTable {
 public:
  explicit MergeTable(std::size_t merges);
  void set(std::int32_t left, std::int32_t right, Merge merge);  // a later one replaces an earlier one
  const Merge* find(std::int32_t left, std::int32_t right) const {
    const std::uint64_t key = key_of(left, right);
    for (std::size_t slot = first_slot(key);; slot = (slot + 1) & (entries_.size() - 1)) {
      if (entries_[slot].key == key) return &entries_[slot].merge;
      if (entries_[slot].key == kFree) return nullptr;
    }
  }

 private:
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};
  struct Entry {
    std::uint64_t key = kFree;
    Merge merge{};
  };
  static std::uint64_t key_of(std::int32_t left, std::int32_t right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }
  std::size_t first_slot(std::uint64_t key) const {
    const std::uint64_t mixed = key * 0x9E3779B97F4A7C15U;
    return (mixed ^ (mixed >> 29)) & (entries_.size() - 1);
  }
  std::vector<Entry> entries_;  // a power of two, at most half full
};

// The ids of pieces seen before: words come again and again. One encode() call has its own; not thread-safe.
class PieceCache {
 public:
  static constexpr std::size_t kLongest = 64, kMost = std::size_t{1} << 18;

  PieceCache() : slots_(1024) {}
  // Appends the ids of a known piece.
  bool append(std::string_view piece, std::uint64_t hash, std::vector<std::int32_t>& ids) const;
  void put(std::string_view piece, std::uint64_t hash, const std::int32_t* begin, const std::int32_t* end);

 private:
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t piece = 0, ids = 0;
    std::uint16_t piece_length = 0, id_count = 0;  // a length of 0: free
  };
  std::vector<Slot> slots_;  // a power of two, at most half full
  std::size_t count_ = 0;
  std::string pieces_;
  std::vector<std::int32_t> ids_;
};

}  // namespace switchyard::text
