#include "unigram.hpp"

#include <algorithm>
#include <limits>

#include "switchyard/base/error.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

constexpr double kUnknownPenalty = 10.0;

std::size_t bytes_of(const Vocabulary& vocabulary) {
  std::size_t bytes = 0;
  for (std::int32_t id = 0; id < vocabulary.id_limit(); ++id) bytes += vocabulary.token(id).size();
  return bytes;
}

}  // namespace

Unigram::Unigram(Vocabulary vocabulary, std::vector<double> scores, std::int32_t unknown_id, bool byte_fallback)
    : vocabulary_(std::move(vocabulary)),
      scores_(std::move(scores)),
      unknown_id_(unknown_id),
      byte_fallback_(byte_fallback),
      lowest_score_(std::numeric_limits<double>::infinity()),
      children_(bytes_of(vocabulary_)),
      token_at_(1, -1) {
  for (std::int32_t id = 0; id < vocabulary_.id_limit(); ++id) {
    if (!vocabulary_.contains(id)) continue;
    lowest_score_ = std::min(lowest_score_, scores_[static_cast<std::size_t>(id)]);
    std::int32_t node = 0;
    for (const char c : vocabulary_.token(id)) {
      const auto byte = static_cast<std::int32_t>(static_cast<unsigned char>(c));
      const Merge* found = children_.find(node, byte);
      if (found != nullptr) {
        node = found->id;
        continue;
      }
      const auto made = static_cast<std::int32_t>(token_at_.size());
      token_at_.push_back(-1);
      children_.set(node, byte, {0, made});
      node = made;
    }
    if (node != 0) token_at_[static_cast<std::size_t>(node)] = id;
  }
}

void Unigram::encode(std::string_view piece, PieceCache& cache, std::vector<std::int32_t>& ids) const {
  if (piece.empty()) return;
  if (piece.size() > PieceCache::kLongest) {
    search(piece, ids);
    return;
  }
  const std::uint64_t hash = hash_bytes(piece);
  if (cache.append(piece, hash, ids)) return;
  const std::size_t before = ids.size();
  search(piece, ids);
  cache.put(piece, hash, ids.data() + before, ids.data() + ids.size());
}

void Unigram::search(std::string_view piece, std::vector<std::int32_t>& ids) const {
  struct End {
    std::int32_t id = -1;
    std::size_t begin = 0;
    double score = 0;
    bool reached = false;
  };
  std::vector<End> ends(piece.size() + 1);  // the best way to cut what comes before each position
  const auto offer = [&](std::size_t begin, std::size_t end, std::int32_t id, double score) {
    if (ends[end].reached && score <= ends[end].score) return;
    ends[end] = {id, begin, score, true};
  };
  for (std::size_t begin = 0; begin < piece.size();) {
    const double before = ends[begin].score;
    const std::size_t character = read_utf8(piece.substr(begin)).length;
    bool has_character = false;
    std::int32_t node = 0;
    for (std::size_t end = begin; end < piece.size();) {
      const Merge* next = children_.find(node, static_cast<unsigned char>(piece[end]));
      if (next == nullptr) break;
      node = next->id;
      ++end;
      const std::int32_t id = token_at_[static_cast<std::size_t>(node)];
      if (id < 0) continue;
      offer(begin, end, id, before + scores_[static_cast<std::size_t>(id)]);
      has_character = has_character || end - begin == character;
    }
    if (!has_character) {
      if (unknown_id_ < 0) {
        fail(ErrorKind::kBadInput, "the text has a character that the vocabulary lacks, and there is no unknown token");
      }
      offer(begin, begin + character, unknown_id_, before + (lowest_score_ - kUnknownPenalty));
    }
    begin += character;
  }
  std::vector<std::string_view> tokens;
  bool fusing = false;
  for (std::size_t end = piece.size(); end > 0; end = ends[end].begin) {
    const std::string_view token = piece.substr(ends[end].begin, end - ends[end].begin);
    const bool unknown = ends[end].id == unknown_id_;
    if (unknown && fusing) {
      tokens.back() = {token.data(), token.size() + tokens.back().size()};
    } else {
      tokens.push_back(token);
    }
    fusing = unknown;
  }
  for (auto token = tokens.rbegin(); token != tokens.rend(); ++token) add_token(*token, ids);
}

void Unigram::add_token(std::string_view text, std::vector<std::int32_t>& ids) const {
  const std::int32_t id = vocabulary_.find(text);
  if (id >= 0) {
    ids.push_back(id);
    return;
  }
  if (byte_fallback_) {
    std::vector<std::int32_t> bytes;
    for (const char c : text) {
      bytes.push_back(vocabulary_.find(fmt::format("<0x{:02X}>", static_cast<unsigned char>(c))));
    }
    if (std::find(bytes.begin(), bytes.end(), -1) == bytes.end()) {
      ids.insert(ids.end(), bytes.begin(), bytes.end());
      return;
    }
  }
  if (unknown_id_ < 0) {
    fail(ErrorKind::kBadInput, "the text has a character that the vocabulary lacks, and there is no unknown token");
  }
  ids.push_back(unknown_id_);
}

}  // namespace switchyard::text
