#include "charsmap.hpp"

#include <cstring>

#include "switchyard/base/error.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

constexpr std::uint32_t kIsValue = 1U << 31, kHasValue = 1U << 8, kWideOffset = 1U << 9;
constexpr std::uint32_t kLabel = kIsValue | 0xFFU;

std::size_t offset_of(std::uint32_t unit) { return std::size_t{unit >> 10} << ((unit & kWideOffset) >> 6); }

}  // namespace

CharsMap::CharsMap(std::string_view table, const std::string& where) {
  const auto bad = [&](std::string_view what) {
    fail(ErrorKind::kBadInput, "{}: malformed normalisation table: {}", where, what);
  };
  std::uint32_t trie_bytes = 0;
  if (table.size() <= sizeof(trie_bytes)) bad("truncated");
  std::memcpy(&trie_bytes, table.data(), sizeof(trie_bytes));
  if (trie_bytes == 0 || trie_bytes % 1024 != 0 || trie_bytes >= table.size() - sizeof(trie_bytes)) {
    bad(fmt::format("a trie of {} bytes in {} bytes", trie_bytes, table.size()));
  }
  units_.resize(trie_bytes / 4);
  std::memcpy(units_.data(), table.data() + sizeof(trie_bytes), trie_bytes);
  strings_ = table.substr(sizeof(trie_bytes) + trie_bytes);
  if (strings_.back() != '\0') bad("its strings do not end in a zero byte");
  if (find_invalid_utf8(strings_)) bad("its strings are not valid UTF-8");
  for (std::size_t i = 0; i < units_.size(); ++i) {
    const std::uint32_t unit = units_[i];
    if ((unit & kIsValue) != 0 && i != 0) continue;  // holds a value; no step reads it as a node, save at the root
    const std::size_t base = i ^ offset_of(unit);
    if ((base | 0xFF) >= units_.size()) bad(fmt::format("unit {} leads outside", i));
    if ((unit & kHasValue) == 0) continue;
    const std::uint32_t value = units_[base] & ~kIsValue;
    if (value >= strings_.size()) bad(fmt::format("unit {} has a value outside", i));
    // The middle of a character would make the normalised text invalid.
    if ((static_cast<unsigned char>(strings_[value]) & 0xC0U) == 0x80U) {
      bad(fmt::format("unit {} has a value within a character", i));
    }
  }
}

template <class Found>
void CharsMap::prefixes(std::string_view text, Found&& found) const {
  if (units_.empty()) return;
  std::size_t node = offset_of(units_[0]);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    node ^= byte;
    const std::uint32_t unit = units_[node];
    if ((unit & kLabel) != byte) return;
    node ^= offset_of(unit);
    if ((unit & kHasValue) != 0 && !found(i + 1, units_[node] & ~kIsValue)) return;
  }
}

std::string_view CharsMap::replacement(std::uint32_t value) const { return strings_.c_str() + value; }

std::optional<CharsMap::Prefix> CharsMap::longest_prefix(std::string_view text) const {
  std::optional<Prefix> result;
  prefixes(text, [&](std::size_t length, std::uint32_t value) {
    result = Prefix{length, replacement(value)};
    return true;
  });
  return result;
}

std::optional<std::string_view> CharsMap::shortest(std::string_view text) const {
  std::optional<std::string_view> result;
  prefixes(text, [&](std::size_t, std::uint32_t value) {
    result = replacement(value);
    return false;
  });
  return result;
}

bool decode_base64(std::string_view text, std::string& bytes) {
  bytes.clear();
  while (!text.empty() && text.back() == '=' && text.size() % 4 != 1) text.remove_suffix(1);
  if (text.size() % 4 == 1) return false;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    std::uint32_t digit = 0;
    if (c >= 'A' && c <= 'Z') {
      digit = static_cast<std::uint32_t>(c - 'A');
    } else if (c >= 'a' && c <= 'z') {
      digit = static_cast<std::uint32_t>(c - 'a') + 26;
    } else if (c >= '0' && c <= '9') {
      digit = static_cast<std::uint32_t>(c - '0') + 52;
    } else if (c == '+' || c == '/') {
      digit = c == '+' ? 62 : 63;
    } else {
      return false;
    }
    bits = bits << 6 | digit;
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes.push_back(static_cast<char>(static_cast<unsigned char>(bits >> count)));
    }
  }
  return true;
}

}  // namespace switchyard::text
