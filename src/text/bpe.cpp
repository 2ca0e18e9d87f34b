#include "bpe.hpp"

#include <algorithm>
#include <bit>
#include <queue>

#include "switchyard/base/error.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

constexpr std::size_t kShortWord = 48;   // units up to which a linear search for the next merge is fastest
constexpr std::size_t kUncutPiece = 32;  // bytes
constexpr std::uint32_t kNoRank = 0xFFFFFFFFU;

char32_t first_character(std::string_view text) { return read_utf8(text).code_point; }

char32_t last_character(std::string_view text) {
  std::size_t begin = text.size() - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0U) == 0x80U) --begin;
  return read_utf8(text.substr(begin)).code_point;
}

std::uint64_t join_of(char32_t left, char32_t right) { return std::uint64_t{left} << 32 | right | 1ULL << 63; }

std::size_t join_slot(std::uint64_t join, std::size_t slots) {
  const std::uint64_t mixed = join * 0x9E3779B97F4A7C15U;
  return (mixed ^ (mixed >> 31)) & (slots - 1);
}

}  // namespace

// The units of one piece and their merging.
class Bpe::Word {
 public:
  explicit Word(std::size_t units) { symbols_.reserve(units); }
  void add(std::int32_t id, std::size_t begin, std::size_t length) { symbols_.push_back({id, begin, begin + length}); }

  void merge_all(const Bpe& bpe, std::string_view part) {
    if (symbols_.size() <= kShortWord) {
      merge_short(bpe, part);
    } else {
      merge_long(bpe, part);
    }
  }
  void append_to(std::vector<std::int32_t>& ids) const {
    for (const Symbol& symbol : symbols_) {
      if (symbol.begin != symbol.end) ids.push_back(symbol.id);
    }
  }

 private:
  struct Symbol {
    std::int32_t id;
    std::size_t begin, end;  // bytes of the part; equal: merged into another
    std::int32_t previous = -1, next = -1;
  };

  static Merge rule(const Bpe& bpe, std::string_view part, const Symbol& left, const Symbol& right) {
    if (bpe.settings_.rank_is_id) {
      const std::int32_t id = bpe.vocabulary_.find(part.substr(left.begin, right.end - left.begin));
      return id < 0 ? Merge{kNoRank, -1} : Merge{static_cast<std::uint32_t>(id), id};
    }
    const Merge* found = bpe.merges_.find(left.id, right.id);
    return found == nullptr ? Merge{kNoRank, -1} : *found;
  }

  void merge_short(const Bpe& bpe, std::string_view part) {
    std::array<Merge, kShortWord> rules;
    std::size_t count = symbols_.size();
    for (std::size_t i = 0; i + 1 < count; ++i) rules[i] = rule(bpe, part, symbols_[i], symbols_[i + 1]);
    while (count > 1) {
      std::size_t best = 0;
      for (std::size_t i = 1; i + 1 < count; ++i) {
        if (rules[i].rank < rules[best].rank) best = i;
      }
      if (rules[best].rank == kNoRank) break;
      symbols_[best].id = rules[best].id;
      symbols_[best].end = symbols_[best + 1].end;
      symbols_.erase(symbols_.begin() + static_cast<std::ptrdiff_t>(best) + 1);
      std::copy(rules.begin() + static_cast<std::ptrdiff_t>(best) + 1,
                rules.begin() + static_cast<std::ptrdiff_t>(count), rules.begin() + static_cast<std::ptrdiff_t>(best));
      --count;
      if (best > 0) rules[best - 1] = rule(bpe, part, symbols_[best - 1], symbols_[best]);
      if (best + 1 < count) rules[best] = rule(bpe, part, symbols_[best], symbols_[best + 1]);
    }
  }

  struct Candidate {
    std::uint32_t rank;
    std::int32_t position, id;
    bool operator<(const Candidate& other) const {  // the queue's top is its largest
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };

  void merge_long(const Bpe& bpe, std::string_view part) {
    std::priority_queue<Candidate> queue;
    const auto at = [this](std::int32_t i) -> Symbol& { return symbols_[static_cast<std::size_t>(i)]; };
    const auto propose = [&](std::int32_t left, std::int32_t right) {
      const Merge merge = rule(bpe, part, at(left), at(right));
      if (merge.rank != kNoRank) queue.push({merge.rank, left, merge.id});
    };
    const auto count = static_cast<std::int32_t>(symbols_.size());
    for (std::int32_t i = 0; i < count; ++i) {
      at(i).previous = i - 1;
      at(i).next = i + 1 < count ? i + 1 : -1;
      if (i > 0) propose(i - 1, i);
    }
    while (!queue.empty()) {
      const Candidate top = queue.top();
      queue.pop();
      Symbol& left = at(top.position);
      if (left.begin == left.end || left.next < 0) continue;
      Symbol& right = at(left.next);
      // A candidate whose symbols have merged with others since.
      const Merge now = rule(bpe, part, left, right);
      if (now.rank == kNoRank || now.id != top.id) continue;
      left.id = top.id;
      left.end = right.end;
      left.next = right.next;
      right.begin = right.end;
      if (left.next >= 0) at(left.next).previous = top.position;
      if (left.previous >= 0) propose(left.previous, top.position);
      if (left.next >= 0) propose(top.position, left.next);
    }
  }

  std::vector<Symbol> symbols_;
};

Bpe::Bpe(Vocabulary vocabulary, const std::vector<Rule>& rules, BpeSettings settings, std::int32_t unknown_id)
    : vocabulary_(std::move(vocabulary)),
      settings_(std::move(settings)),
      merges_(rules.size()),
      unknown_id_(unknown_id) {
  for (std::size_t rank = 0; rank < rules.size(); ++rank) {
    merges_.set(rules[rank].left, rules[rank].right, {static_cast<std::uint32_t>(rank), rules[rank].id});
  }
  byte_ids_.fill(-1);
  ascii_ids_.fill(-1);
  if (settings_.unit == BpeSettings::Unit::kByte) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(static_cast<unsigned char>(byte));
      byte_ids_[byte] = vocabulary_.find({&c, 1});
    }
    return;
  }
  for (std::size_t c = 0; c < ascii_ids_.size(); ++c) {
    const char character = static_cast<char>(c);
    ascii_ids_[c] = vocabulary_.find({&character, 1});
  }
  if (settings_.byte_fallback) {
    for (std::size_t byte = 0; byte < 256; ++byte) byte_ids_[byte] = vocabulary_.find(fmt::format("<0x{:02X}>", byte));
    all_bytes_ = std::find(byte_ids_.begin(), byte_ids_.end(), -1) == byte_ids_.end();
  }
  find_joins(rules);
}

void Bpe::find_joins(const std::vector<Rule>& rules) {
  // Where unknown characters next to each other become one token, or a merge is about something else than the
  // characters of its tokens, a cut could be felt.
  if (!settings_.continuing_prefix.empty() || !settings_.end_suffix.empty() || settings_.ignore_merges) return;
  if (settings_.fuse_unknown && unknown_id_ >= 0 && !all_bytes_) return;
  std::vector<bool> special(static_cast<std::size_t>(vocabulary_.id_limit()));
  if (unknown_id_ >= 0) special[static_cast<std::size_t>(unknown_id_)] = true;
  for (const std::int32_t id : byte_ids_) {
    if (id >= 0) special[static_cast<std::size_t>(id)] = true;
  }
  std::size_t others = 0;
  joins_.assign(std::bit_ceil(std::max<std::size_t>(16, rules.size() * 2)), 0);
  for (const Rule& rule : rules) {
    const std::string_view left = vocabulary_.token(rule.left), right = vocabulary_.token(rule.right);
    if (left.empty() || right.empty()) return;
    if (special[static_cast<std::size_t>(rule.left)] || special[static_cast<std::size_t>(rule.right)]) return;
    const char32_t a = last_character(left), b = first_character(right);
    if (a < 128 && b < 128) {
      const std::size_t bit = a * 128 + b;
      ascii_joins_[bit / 64] |= std::uint64_t{1} << (bit % 64);
      continue;
    }
    const std::uint64_t join = join_of(a, b);
    std::size_t slot = join_slot(join, joins_.size());
    while (joins_[slot] != 0 && joins_[slot] != join) slot = (slot + 1) & (joins_.size() - 1);
    if (joins_[slot] == 0) ++others;
    joins_[slot] = join;
  }
  cuts_ = true;
}

bool Bpe::may_cut(char32_t left, char32_t right) const {
  if (left < 128 && right < 128) {
    const std::size_t bit = left * 128 + right;
    return (ascii_joins_[bit / 64] >> (bit % 64) & 1) == 0;
  }
  const std::uint64_t join = join_of(left, right);
  for (std::size_t slot = join_slot(join, joins_.size());; slot = (slot + 1) & (joins_.size() - 1)) {
    if (joins_[slot] == join) return false;
    if (joins_[slot] == 0) return true;
  }
}

void Bpe::encode(std::string_view piece, PieceCache& cache, std::vector<std::int32_t>& ids) const {
  if (piece.empty()) return;
  if (!cuts_ || piece.size() <= kUncutPiece) {
    encode_part(piece, cache, ids);
    return;
  }
  std::size_t begin = 0;
  char32_t previous = 0;
  for (std::size_t at = 0; at < piece.size();) {
    const auto lead = static_cast<unsigned char>(piece[at]);
    const Utf8Step step = lead < 0x80 ? Utf8Step{Utf8Status::kValid, 1, char32_t{lead}} : read_utf8(piece.substr(at));
    if (at > begin && may_cut(previous, step.code_point)) {
      encode_part(piece.substr(begin, at - begin), cache, ids);
      begin = at;
    }
    previous = step.code_point;
    at += step.length;
  }
  encode_part(piece.substr(begin), cache, ids);
}

void Bpe::encode_part(std::string_view part, PieceCache& cache, std::vector<std::int32_t>& ids) const {
  if (part.size() > PieceCache::kLongest) {
    merge(part, ids);
    return;
  }
  const std::uint64_t hash = hash_bytes(part);
  if (cache.append(part, hash, ids)) return;
  const std::size_t before = ids.size();
  merge(part, ids);
  cache.put(part, hash, ids.data() + before, ids.data() + ids.size());
}

void Bpe::merge(std::string_view part, std::vector<std::int32_t>& ids) const {
  if (settings_.ignore_merges) {
    const std::int32_t whole = vocabulary_.find(part);
    if (whole >= 0) {
      ids.push_back(whole);
      return;
    }
  }
  Word word(part.size());
  add_units(part, word);
  word.merge_all(*this, part);
  word.append_to(ids);
}

std::int32_t Bpe::unit_id(std::string_view part, std::size_t begin, std::size_t length, std::string& spelling) const {
  const std::string_view unit = part.substr(begin, length);
  if (settings_.unit == BpeSettings::Unit::kByte) return byte_ids_[static_cast<unsigned char>(unit[0])];
  const bool prefixed = begin > 0 && !settings_.continuing_prefix.empty();
  const bool suffixed = begin + length == part.size() && !settings_.end_suffix.empty();
  if (!prefixed && !suffixed) {
    const auto c = static_cast<unsigned char>(unit[0]);
    return length == 1 && c < 128 ? ascii_ids_[c] : vocabulary_.find(unit);
  }
  spelling = prefixed ? settings_.continuing_prefix : std::string();
  spelling += unit;
  if (suffixed) spelling += settings_.end_suffix;
  return vocabulary_.find(spelling);
}

void Bpe::add_units(std::string_view part, Word& word) const {
  const bool bytes = settings_.unit == BpeSettings::Unit::kByte;
  std::string spelling;
  // An unknown token that still waits for further unknown units to be fused with it.
  std::size_t unknown_begin = 0, unknown_end = 0;
  const auto flush = [&] {
    if (unknown_begin != unknown_end) word.add(unknown_id_, unknown_begin, unknown_end - unknown_begin);
    unknown_begin = unknown_end;
  };
  for (std::size_t begin = 0; begin < part.size();) {
    const std::size_t length =
        bytes || static_cast<unsigned char>(part[begin]) < 0x80 ? 1 : read_utf8(part.substr(begin)).length;
    spelling.clear();
    const std::int32_t id = unit_id(part, begin, length, spelling);
    if (id >= 0) {
      flush();
      word.add(id, begin, length);
      begin += length;
      continue;
    }
    if (settings_.byte_fallback && !bytes) {
      const std::string_view spelt = spelling.empty() ? part.substr(begin, length) : std::string_view(spelling);
      const bool all = std::all_of(spelt.begin(), spelt.end(),
                                   [&](char c) { return byte_ids_[static_cast<unsigned char>(c)] >= 0; });
      if (all) {
        // A prefix or suffix is spelt as well, without a place of its own in the text.
        for (std::size_t i = 0; i < spelt.size(); ++i) {
          word.add(byte_ids_[static_cast<unsigned char>(spelt[i])], begin, length);
        }
        begin += length;
        continue;
      }
    }
    if (!settings_.unknown.empty()) {
      if (unknown_id_ < 0) {
        fail(ErrorKind::kBadInput, "the text needs the unknown token '{}', which the vocabulary does not have",
             settings_.unknown);
      }
      if (!settings_.fuse_unknown) flush();
      if (unknown_begin == unknown_end) unknown_begin = begin;
      unknown_end = begin + length;
    }
    begin += length;
  }
  flush();
}

}  // namespace switchyard::text
