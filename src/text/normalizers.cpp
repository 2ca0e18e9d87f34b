#include "normalizers.hpp"

#include <algorithm>
#include <vector>

#include "byte_alphabet.hpp"
#include "charsmap.hpp"
#include "pattern.hpp"
#include "switchyard/text/utf8.hpp"
#include "unicode.hpp"

namespace switchyard::text {
namespace {

class Form final : public Normalizer {
 public:
  explicit Form(NormalForm form) : form_(form) {}
  void normalize(std::string& text, RegexScratch&) const override { normalize_unicode(text, form_); }

 private:
  NormalForm form_;
};

class Lower final : public Normalizer {
 public:
  void normalize(std::string& text, RegexScratch&) const override { lowercase(text); }
};

class ByteCharacters final : public Normalizer {
 public:
  void normalize(std::string& text, RegexScratch&) const override { text = to_byte_characters(text); }
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string what) : what_(std::move(what)) {}
  void normalize(std::string& text, RegexScratch&) const override {
    if (!text.empty()) text.insert(0, what_);
  }

 private:
  std::string what_;
};

class Replace final : public Normalizer {
 public:
  Replace(Pattern pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void normalize(std::string& text, RegexScratch& scratch) const override {
    text = pattern_.replace(text, content_, scratch);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void normalize(std::string& text, RegexScratch&) const override {
    std::size_t begin = 0, end = text.size(), kept = 0;
    bool leading = true;
    for (std::size_t at = 0; at < text.size();) {
      const Utf8Step step = read_utf8(std::string_view(text).substr(at));
      const bool space = is_whitespace(step.code_point);
      leading = leading && space;
      at += step.length;
      if (leading && left_) begin = at;
      if (!space) kept = at;
    }
    if (right_) end = std::max(kept, begin);
    text = text.substr(begin, end - begin);
  }

 private:
  bool left_, right_;
};

// Each character becomes another, or nothing.
class Map final : public Normalizer {
 public:
  using Function = char32_t (*)(char32_t);  // 0: leave out
  explicit Map(Function function) : function_(function) {}
  void normalize(std::string& text, RegexScratch&) const override {
    std::string result;
    result.reserve(text.size());
    for (std::string_view left = text; !left.empty();) {
      const Utf8Step step = read_utf8(left);
      const char32_t to = function_(step.code_point);
      if (to != 0 || step.code_point == 0) append_utf8(result, to);
      left.remove_prefix(step.length);
    }
    text = std::move(result);
  }

 private:
  Function function_;
};

char32_t without_mark(char32_t c) { return is_mark(c) ? 0 : c; }

// SentencePiece's "nmt" rules: control characters out, line breaks and the like to spaces.
char32_t as_nmt(char32_t c) {
  if ((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F) return 0;
  if (c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) || c == 0x2028 ||
      c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD) {
    return ' ';
  }
  return c;
}

// The table of a SentencePiece model as the tokenizers library applies it: to short grapheme clusters whole, and else
// to each character; of several prefixes in the table, the shortest counts.
class Precompiled final : public Normalizer {
 public:
  Precompiled(std::string table, const std::string& where) : table_(std::move(table), where) {}
  void normalize(std::string& text, RegexScratch&) const override {
    constexpr std::size_t kShortCluster = 5;
    std::string result;
    result.reserve(text.size());
    std::size_t begin = 0;
    for (const std::size_t end : grapheme_ends(text)) {
      const std::string_view cluster = std::string_view(text).substr(begin, end - begin);
      begin = end;
      if (cluster.size() <= kShortCluster) {
        if (const auto found = table_.shortest(cluster)) {
          result += *found;
          continue;
        }
      }
      for (std::string_view left = cluster; !left.empty();) {
        const std::string_view character = left.substr(0, read_utf8(left).length);
        const auto found = table_.shortest(character);
        result += found ? *found : character;
        left.remove_prefix(character.size());
      }
    }
    text = std::move(result);
  }

 private:
  CharsMap table_;
};

class Sequence final : public Normalizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<Normalizer>> steps) : steps_(std::move(steps)) {}
  void normalize(std::string& text, RegexScratch& scratch) const override {
    for (const auto& step : steps_) step->normalize(text, scratch);
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> steps_;
};

std::string from_base64(const JsonNode& node) {
  std::string bytes;
  if (!decode_base64(node.text(), bytes)) node.wrong_type("base64");
  return bytes;
}

}  // namespace

std::unique_ptr<Normalizer> read_normalizer(const JsonNode& node) {
  if (node.is_null()) return nullptr;
  const std::string& type = node.get("type").text();
  if (type == "Sequence") {
    std::vector<std::unique_ptr<Normalizer>> steps;
    const JsonNode list = node.get("normalizers").array();
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (auto step = read_normalizer(list.at(i))) steps.push_back(std::move(step));
    }
    if (steps.empty()) return nullptr;
    return std::make_unique<Sequence>(std::move(steps));
  }
  if (type == "NFC") return std::make_unique<Form>(NormalForm::kNfc);
  if (type == "NFD") return std::make_unique<Form>(NormalForm::kNfd);
  if (type == "NFKC") return std::make_unique<Form>(NormalForm::kNfkc);
  if (type == "NFKD") return std::make_unique<Form>(NormalForm::kNfkd);
  if (type == "Lowercase") return std::make_unique<Lower>();
  if (type == "ByteLevel") return std::make_unique<ByteCharacters>();
  if (type == "Prepend") return std::make_unique<Prepend>(node.get("prepend").text());
  if (type == "Replace") return std::make_unique<Replace>(Pattern(node.get("pattern")), node.get("content").text());
  if (type == "Strip") {
    return std::make_unique<Strip>(node.get("strip_left").boolean(), node.get("strip_right").boolean());
  }
  if (type == "StripAccents") return std::make_unique<Map>(without_mark);
  if (type == "Nmt") return std::make_unique<Map>(as_nmt);
  if (type == "Precompiled") {
    const JsonNode table = node.get("precompiled_charsmap");
    std::string bytes = from_base64(table);
    if (bytes.empty()) return nullptr;
    return std::make_unique<Precompiled>(std::move(bytes), table.where());
  }
  node.get("type").unsupported(
      "Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip, StripAccents, Nmt, ByteLevel, Precompiled");
}

}  // namespace switchyard::text
