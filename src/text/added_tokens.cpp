#include "added_tokens.hpp"

#include <algorithm>

#include "switchyard/text/utf8.hpp"
#include "unicode.hpp"

namespace switchyard::text {
namespace {

std::size_t bytes_of(const std::vector<AddedTokenMatcher::Entry>& entries) {
  std::size_t bytes = 0;
  for (const auto& entry : entries) bytes += entry.pattern.size();
  return bytes;
}

std::size_t last_character_begin(std::string_view text) {
  std::size_t begin = text.size() - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0U) == 0x80U) --begin;
  return begin;
}

bool ends_with_word(std::string_view text) {
  return !text.empty() && is_word_character(read_utf8(text.substr(last_character_begin(text))).code_point);
}

bool starts_with_word(std::string_view text) { return !text.empty() && is_word_character(read_utf8(text).code_point); }

std::size_t without_trailing_space(std::string_view text, std::size_t least) {
  while (text.size() > least) {
    const std::size_t begin = last_character_begin(text);
    if (begin < least || !is_whitespace(read_utf8(text.substr(begin)).code_point)) break;
    text = text.substr(0, begin);
  }
  return text.size();
}

std::size_t leading_space(std::string_view text) {
  std::size_t length = 0;
  while (length < text.size()) {
    const Utf8Step step = read_utf8(text.substr(length));
    if (!is_whitespace(step.code_point)) break;
    length += step.length;
  }
  return length;
}

std::span<const ForeignText>::iterator first_behind(std::span<const ForeignText> foreign, std::size_t position) {
  return std::partition_point(foreign.begin(), foreign.end(),
                              [position](const ForeignText& one) { return one.end <= position; });
}

// Beside control tokens, files have tokens for runs of spaces and for words among the added ones; and some mark the
// turns of a conversation by tokens that are not called special.
bool marks_structure(const AddedToken& token) {
  constexpr std::string_view kBars = "\xEF\xBD\x9C";  // U+FF5C
  const std::string& text = token.content;
  return token.special || text[0] == '<' || text[0] == '[' || text[0] == '|' || text.find(kBars) != std::string::npos;
}

bool touches(std::span<const ForeignText> foreign, std::size_t begin, std::size_t end, const AddedToken& token) {
  for (auto one = first_behind(foreign, begin); one != foreign.end() && one->begin < end; ++one) {
    if (one->generated ? token.special : marks_structure(token)) return true;
  }
  return false;
}

}  // namespace

std::vector<ForeignText> foreign_within(std::span<const ForeignText> foreign, std::size_t begin, std::size_t end) {
  std::vector<ForeignText> result;
  for (auto one = first_behind(foreign, begin); one != foreign.end() && one->begin < end; ++one) {
    result.push_back({std::max(one->begin, begin) - begin, std::min(one->end, end) - begin, one->generated});
  }
  return result;
}

AddedTokenMatcher::AddedTokenMatcher(const std::vector<Entry>& entries)
    : children_(bytes_of(entries)), tokens_at_(1, -1) {
  for (const Entry& entry : entries) {
    if (entry.pattern.empty()) continue;
    std::int32_t node = 0;
    for (const char c : entry.pattern) {
      const auto byte = static_cast<std::int32_t>(static_cast<unsigned char>(c));
      const Merge* found = children_.find(node, byte);
      if (found != nullptr) {
        node = found->id;
        continue;
      }
      const auto made = static_cast<std::int32_t>(tokens_at_.size());
      tokens_at_.push_back(-1);
      children_.set(node, byte, {0, made});
      node = made;
    }
    first_bytes_[static_cast<unsigned char>(entry.pattern[0])] = true;
    tokens_at_[static_cast<std::size_t>(node)] = static_cast<std::int32_t>(tokens_.size());
    tokens_.push_back(entry.token);
  }
}

AddedTokenMatcher::Match AddedTokenMatcher::longest_at(std::string_view text, std::size_t at) const {
  Match best;
  std::int32_t node = 0;
  for (std::size_t i = at; i < text.size(); ++i) {
    const Merge* next = children_.find(node, static_cast<unsigned char>(text[i]));
    if (next == nullptr) break;
    node = next->id;
    const std::int32_t token = tokens_at_[static_cast<std::size_t>(node)];
    if (token >= 0) best = {i + 1 - at, tokens_[static_cast<std::size_t>(token)]};
  }
  return best;
}

void AddedTokenMatcher::split(std::string_view text, bool parse_special, std::span<const ForeignText> foreign,
                              const std::function<void(std::string_view, const AddedToken*)>& sink) const {
  std::size_t done = 0;
  if (!tokens_.empty()) {
    for (std::size_t at = 0; at < text.size();) {
      if (!first_bytes_[static_cast<unsigned char>(text[at])]) {
        ++at;
        continue;
      }
      const Match match = longest_at(text, at);
      if (match.token == nullptr) {
        ++at;
        continue;
      }
      std::size_t begin = at, end = at + match.length;
      if (touches(foreign, begin, end, *match.token)) {
        ++at;
        continue;
      }
      at = end;
      const AddedToken& token = *match.token;
      if (token.special && !parse_special) continue;
      if (token.single_word && (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end)))) continue;
      // White space may have been taken by the token before.
      if (token.lstrip) begin = without_trailing_space(text.substr(0, begin), std::min(done, begin));
      if (token.rstrip) end += leading_space(text.substr(end));
      if (done < begin) sink(text.substr(done, begin - done), nullptr);
      sink(text.substr(begin, end - begin), &token);
      done = end;
    }
  }
  if (done < text.size()) sink(text.substr(done), nullptr);
}

}  // namespace switchyard::text
