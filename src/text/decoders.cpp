#include "decoders.hpp"

#include <algorithm>

#include "byte_alphabet.hpp"
#include "pattern.hpp"
#include "sentencepiece_model.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

std::string join(const std::vector<std::string>& tokens) {
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

std::string replaced(const std::string& token, const std::string& what, std::string_view by) {
  std::string text;
  std::size_t done = 0;
  for (std::size_t at = token.find(what); at != std::string::npos; at = token.find(what, done)) {
    text.append(token, done, at - done);
    text += by;
    done = at + what.size();
  }
  return text.append(token, done, std::string::npos);
}

class ByteLevel final : public Decoder {
 public:
  void decode(std::vector<std::string>& tokens, RegexScratch&) const override {
    for (std::string& token : tokens) token = byte_level_bytes(token);
    tokens = {replace_invalid_utf8(join(tokens))};
  }
  bool decode_one(std::string& token, RegexScratch&) const override {
    token = byte_level_bytes(token);
    return false;
  }
};

class ByteFallback final : public Decoder {
 public:
  void decode(std::vector<std::string>& tokens, RegexScratch&) const override {
    std::vector<std::string> result;
    std::string bytes;
    const auto flush = [&] {
      if (bytes.empty()) return;
      if (!find_invalid_utf8(bytes)) {
        result.push_back(bytes);
      } else {
        result.insert(result.end(), bytes.size(), "\xEF\xBF\xBD");
      }
      bytes.clear();
    };
    for (std::string& token : tokens) {
      const int byte = byte_of(token);
      if (byte >= 0) {
        bytes.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
        continue;
      }
      flush();
      result.push_back(std::move(token));
    }
    flush();
    tokens = std::move(result);
  }
  bool decode_one(std::string& token, RegexScratch&) const override {
    const int byte = byte_of(token);
    if (byte >= 0) token.assign(1, static_cast<char>(static_cast<unsigned char>(byte)));
    return true;
  }

 private:
  // As byte_of_piece(), with small letters too.
  static int byte_of(const std::string& token) {
    std::string upper = token.size() == 6 ? token : std::string();
    for (std::size_t i = 3; i < upper.size(); ++i) {
      if (upper[i] >= 'a' && upper[i] <= 'f') upper[i] = static_cast<char>(upper[i] - 'a' + 'A');
    }
    return byte_of_piece(upper);
  }
};

class Metaspace final : public Decoder {
 public:
  Metaspace(std::string replacement, bool prepends) : replacement_(std::move(replacement)), prepends_(prepends) {}
  void decode(std::vector<std::string>& tokens, RegexScratch&) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = replaced(tokens[i], replacement_, i == 0 && prepends_ ? "" : " ");
  }
  bool decode_one(std::string& token, RegexScratch&) const override {
    token = replaced(token, replacement_, " ");
    return true;
  }

 private:
  std::string replacement_;
  bool prepends_;
};

class Replace final : public Decoder {
 public:
  Replace(Pattern pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void decode(std::vector<std::string>& tokens, RegexScratch& scratch) const override {
    for (std::string& token : tokens) token = pattern_.replace(token, content_, scratch);
  }
  bool decode_one(std::string& token, RegexScratch& scratch) const override {
    // A single byte of a longer character, which another decoder has made, is no text.
    if (!find_invalid_utf8(token)) token = pattern_.replace(token, content_, scratch);
    return true;
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class Fuse final : public Decoder {
 public:
  void decode(std::vector<std::string>& tokens, RegexScratch&) const override { tokens = {join(tokens)}; }
  bool decode_one(std::string&, RegexScratch&) const override { return false; }
};

// Takes up to `start` characters `content` from the beginning of each token, and up to `stop` from its end.
class Strip final : public Decoder {
 public:
  Strip(std::string content, std::int64_t start, std::int64_t stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}
  void decode(std::vector<std::string>& tokens, RegexScratch&) const override {
    for (std::string& token : tokens) strip(token);
  }
  bool decode_one(std::string& token, RegexScratch&) const override {
    strip(token);
    return true;
  }

 private:
  void strip(std::string& token) const {
    std::string_view left = token;
    for (std::int64_t i = 0; i < start_ && left.substr(0, content_.size()) == content_; ++i) {
      left.remove_prefix(content_.size());
    }
    for (std::int64_t i = 0;
         i < stop_ && left.size() >= content_.size() && left.substr(left.size() - content_.size()) == content_; ++i) {
      left.remove_suffix(content_.size());
    }
    token = std::string(left);
  }

  std::string content_;
  std::int64_t start_, stop_;
};

// A suffix marks the end of a word.
class WordSuffix final : public Decoder {
 public:
  explicit WordSuffix(std::string suffix) : suffix_(std::move(suffix)) {}
  void decode(std::vector<std::string>& tokens, RegexScratch&) const override {
    for (std::size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = replaced(tokens[i], suffix_, i + 1 == tokens.size() ? "" : " ");
  }
  bool decode_one(std::string& token, RegexScratch&) const override {
    token = replaced(token, suffix_, " ");
    return true;
  }

 private:
  std::string suffix_;
};

class Sequence final : public Decoder {
 public:
  explicit Sequence(std::vector<std::unique_ptr<Decoder>> steps) : steps_(std::move(steps)) {}
  void decode(std::vector<std::string>& tokens, RegexScratch& scratch) const override {
    for (const auto& step : steps_) step->decode(tokens, scratch);
  }
  bool decode_one(std::string& token, RegexScratch& scratch) const override {
    return std::all_of(steps_.begin(), steps_.end(),
                       [&](const auto& step) { return step->decode_one(token, scratch); });
  }

 private:
  std::vector<std::unique_ptr<Decoder>> steps_;
};

std::string one_character(const JsonNode& node) {
  const std::string& text = node.text();
  if (text.empty() || read_utf8(text).length != text.size()) node.wrong_type("one character");
  return text;
}

}  // namespace

std::string byte_level_bytes(std::string_view token) {
  std::string bytes;
  return from_byte_characters(token, bytes) ? bytes : std::string(token);
}

std::unique_ptr<Decoder> read_decoder(const JsonNode& node) {
  if (node.is_null()) return nullptr;
  constexpr std::int64_t kMostStripped = 1 << 20;
  const std::string& type = node.get("type").text();
  if (type == "Sequence") {
    std::vector<std::unique_ptr<Decoder>> steps;
    const JsonNode list = node.get("decoders").array();
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (auto step = read_decoder(list.at(i))) steps.push_back(std::move(step));
    }
    return std::make_unique<Sequence>(std::move(steps));
  }
  if (type == "ByteLevel") return std::make_unique<ByteLevel>();
  if (type == "ByteFallback") return std::make_unique<ByteFallback>();
  if (type == "Fuse") return std::make_unique<Fuse>();
  if (type == "Replace") return std::make_unique<Replace>(Pattern(node.get("pattern")), node.get("content").text());
  if (type == "Strip") {
    return std::make_unique<Strip>(one_character(node.get("content")), node.get("start").count(kMostStripped),
                                   node.get("stop").count(kMostStripped));
  }
  if (type == "Metaspace") {
    const bool never =
        node.get("prepend_scheme").text_or("always") == "never" || !node.get("add_prefix_space").boolean_or(true);
    return std::make_unique<Metaspace>(one_character(node.get("replacement")), !never);
  }
  if (type == "BPEDecoder") {
    const JsonNode suffix = node.get("suffix");
    if (suffix.text().empty()) suffix.wrong_type("a string that is not empty");
    return std::make_unique<WordSuffix>(suffix.text());
  }
  node.get("type").unsupported("Sequence, ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace, BPEDecoder");
}

}  // namespace switchyard::text
