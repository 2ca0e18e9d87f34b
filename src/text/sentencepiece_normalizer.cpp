#include "sentencepiece_normalizer.hpp"

#include <algorithm>
#include <bit>
#include <unordered_set>

#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

std::size_t slot_of(std::uint64_t key, std::size_t slots) {
  const std::uint64_t mixed = key * 0x9E3779B97F4A7C15U;
  return (mixed ^ (mixed >> 31)) & (slots - 1);
}

bool reaches_text(const SentencePiece& piece) {
  using Type = SentencePiece::Type;
  return piece.type == Type::kNormal || piece.type == Type::kUserDefined || piece.type == Type::kUnused;
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

}  // namespace

SentencePieceNormalizer::SentencePieceNormalizer(const SentencePieceModel& model)
    : add_dummy_prefix_(model.add_dummy_prefix),
      remove_extra_whitespaces_(model.remove_extra_whitespaces),
      whitespace_as_suffix_(model.whitespace_as_suffix),
      space_(model.escape_whitespaces ? kEscapedSpace : std::string_view(" ")) {
  if (!model.normalization_table.empty()) table_ = CharsMap(model.normalization_table, "the model");
  for (const SentencePiece& piece : model.pieces) {
    if (piece.type != SentencePiece::Type::kUserDefined) continue;
    user_defined_[static_cast<unsigned char>(piece.text[0])].push_back(piece.text);
  }
  for (auto& pieces : user_defined_) {
    std::sort(pieces.begin(), pieces.end(), [](const auto& a, const auto& b) { return a.size() > b.size(); });
  }
}

SentencePieceNormalizer::Step SentencePieceNormalizer::step(std::string_view text) const {
  for (const std::string& piece : user_defined_[static_cast<unsigned char>(text[0])]) {
    if (text.substr(0, piece.size()) == piece) return {piece.size(), text.substr(0, piece.size())};
  }
  if (!table_.empty()) {
    if (const auto found = table_.longest_prefix(text)) return {found->length, found->replacement};
  }
  const auto lead = static_cast<unsigned char>(text[0]);
  const std::size_t length = lead < 0x80 ? 1 : read_utf8(text).length;
  return {length, text.substr(0, length)};
}

std::string SentencePieceNormalizer::normalize(std::string_view text) const {
  std::string result;
  if (text.empty()) return result;
  if (remove_extra_whitespaces_) {
    while (!text.empty()) {
      const Step next = step(text);
      if (next.replacement != " ") break;
      text.remove_prefix(next.length);
    }
    if (text.empty()) return result;
  }
  result.reserve(text.size() * 3 / 2);
  if (add_dummy_prefix_ && !whitespace_as_suffix_) result += space_;
  bool after_space = remove_extra_whitespaces_;
  while (!text.empty()) {
    Step next = step(text);
    text.remove_prefix(next.length);
    while (after_space && next.replacement.substr(0, 1) == " ") next.replacement.remove_prefix(1);
    if (!next.replacement.empty()) {
      for (const char c : next.replacement) {
        if (c == ' ') {
          result += space_;
        } else {
          result.push_back(c);
        }
      }
      after_space = next.replacement.back() == ' ';
    }
    if (!remove_extra_whitespaces_) after_space = false;
  }
  if (remove_extra_whitespaces_) {
    while (ends_with(result, space_)) result.resize(result.size() - space_.size());
  }
  if (add_dummy_prefix_ && whitespace_as_suffix_) result += space_;
  return result;
}

CharacterJoins::CharacterJoins(const SentencePieceModel& model) {
  std::unordered_set<std::uint64_t> found;
  for (const SentencePiece& piece : model.pieces) {
    if (!reaches_text(piece)) continue;
    char32_t left = 0;
    for (std::size_t at = 0; at < piece.text.size();) {
      const Utf8Step next = read_utf8(std::string_view(piece.text).substr(at));
      if (at > 0) {
        if (left < 128 && next.code_point < 128) {
          ascii_.set(left * 128 + next.code_point);
        } else {
          found.insert(key(left, next.code_point));
        }
      }
      left = next.code_point;
      at += next.length;
    }
  }
  others_.assign(std::bit_ceil(std::max<std::size_t>(16, found.size() * 2)), 0);
  for (const std::uint64_t one : found) {
    std::size_t slot = slot_of(one, others_.size());
    while (others_[slot] != 0) slot = (slot + 1) & (others_.size() - 1);
    others_[slot] = one + 1;
  }
}

bool CharacterJoins::joins(char32_t left, char32_t right) const {
  if (left < 128 && right < 128) return ascii_.test(left * 128 + right);
  const std::uint64_t wanted = key(left, right);
  for (std::size_t slot = slot_of(wanted, others_.size()); others_[slot] != 0;
       slot = (slot + 1) & (others_.size() - 1)) {
    if (others_[slot] == wanted + 1) return true;
  }
  return false;
}

}  // namespace switchyard::text
