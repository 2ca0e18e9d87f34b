#include "vocabulary.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "switchyard/base/error.hpp"

namespace switchyard::text {

std::uint64_t hash_bytes(std::string_view bytes) {
  constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15U, kOther = 0xD6E8FEB86659FD93U;
  std::uint64_t hash = bytes.size() * kOdd;
  const char* data = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 8; left -= 8, data += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, data, 8);
    hash = (hash ^ word) * kOdd;
    hash ^= hash >> 32;
  }
  if (left > 0) {
    std::uint64_t word = 0;
    std::memcpy(&word, data, left);
    hash = (hash ^ word) * kOdd;
    hash ^= hash >> 32;
  }
  hash *= kOther;
  return hash ^ (hash >> 32);
}

void Vocabulary::reserve(std::size_t tokens, std::size_t bytes) {
  bytes_.reserve(bytes);
  spans_.reserve(tokens);
  grow(std::bit_ceil(std::max<std::size_t>(16, tokens * 2)));
}

void Vocabulary::grow(std::size_t slots) {
  if (slots <= slots_.size()) return;
  const std::vector<std::int32_t> before = std::exchange(slots_, std::vector<std::int32_t>(slots, -1));
  for (const std::int32_t id : before) {
    if (id >= 0) slots_[slot_of(token(id))] = id;
  }
}

std::size_t Vocabulary::slot_of(std::string_view wanted) const {
  std::size_t slot = hash_bytes(wanted) & (slots_.size() - 1);
  while (slots_[slot] >= 0 && token(slots_[slot]) != wanted) slot = (slot + 1) & (slots_.size() - 1);
  return slot;
}

Vocabulary::Added Vocabulary::add(std::string_view text, std::int32_t id, bool findable) {
  require(id >= 0 && id <= kLargestId, "a token with id {}", id);
  if (contains(id)) return Added::kIdTwice;
  std::size_t slot = 0;
  if (findable) {
    if ((findable_ + 1) * 2 > slots_.size()) grow(std::max<std::size_t>(16, slots_.size() * 2));
    slot = slot_of(text);
    if (slots_[slot] >= 0) return Added::kTokenTwice;
  }
  const auto index = static_cast<std::size_t>(id);
  if (index >= spans_.size()) spans_.resize(index + 1);
  spans_[index] = {bytes_.size(), static_cast<std::int64_t>(text.size())};
  bytes_ += text;
  ++count_;
  if (findable) {
    slots_[slot] = id;
    ++findable_;
  }
  return Added::kYes;
}

std::int32_t Vocabulary::find(std::string_view wanted) const { return slots_.empty() ? -1 : slots_[slot_of(wanted)]; }

std::string_view Vocabulary::token(std::int32_t id) const {
  if (!contains(id)) return {};
  const Span& span = spans_[static_cast<std::size_t>(id)];
  return std::string_view(bytes_).substr(span.begin, static_cast<std::size_t>(span.length));
}

MergeTable::MergeTable(std::size_t merges) : entries_(std::bit_ceil(std::max<std::size_t>(16, merges * 2))) {}

void MergeTable::set(std::int32_t left, std::int32_t right, Merge merge) {
  const std::uint64_t key = key_of(left, right);
  std::size_t slot = first_slot(key);
  while (entries_[slot].key != key && entries_[slot].key != kFree) slot = (slot + 1) & (entries_.size() - 1);
  entries_[slot] = {key, merge};
}

bool PieceCache::append(std::string_view piece, std::uint64_t hash, std::vector<std::int32_t>& ids) const {
  for (std::size_t at = hash & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[at];
    if (slot.piece_length == 0) return false;
    if (slot.hash != hash || slot.piece_length != piece.size() ||
        std::memcmp(pieces_.data() + slot.piece, piece.data(), piece.size()) != 0) {
      continue;
    }
    const std::int32_t* first = ids_.data() + slot.ids;
    ids.insert(ids.end(), first, first + slot.id_count);
    return true;
  }
}

void PieceCache::put(std::string_view piece, std::uint64_t hash, const std::int32_t* begin, const std::int32_t* end) {
  if (piece.empty() || piece.size() > kLongest || end - begin > 1024 || count_ == kMost) return;
  if ((count_ + 1) * 2 > slots_.size()) {
    const std::vector<Slot> before = std::exchange(slots_, std::vector<Slot>(slots_.size() * 2));
    for (const Slot& slot : before) {
      if (slot.piece_length == 0) continue;
      std::size_t at = slot.hash & (slots_.size() - 1);
      while (slots_[at].piece_length != 0) at = (at + 1) & (slots_.size() - 1);
      slots_[at] = slot;
    }
  }
  std::size_t at = hash & (slots_.size() - 1);
  while (slots_[at].piece_length != 0) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = {hash, static_cast<std::uint32_t>(pieces_.size()), static_cast<std::uint32_t>(ids_.size()),
                static_cast<std::uint16_t>(piece.size()), static_cast<std::uint16_t>(end - begin)};
  ++count_;
  pieces_ += piece;
  ids_.insert(ids_.end(), begin, end);
}

}  // namespace switchyard::text
