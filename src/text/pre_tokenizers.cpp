#include "pre_tokenizers.hpp"

#include "byte_alphabet.hpp"
#include "pattern.hpp"
#include "switchyard/text/utf8.hpp"
#include "unicode.hpp"

namespace switchyard::text {
namespace {

constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

enum class Behavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

Behavior read_behavior(const JsonNode& node) {
  const std::string& name = node.text();
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  node.unsupported("Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous");
}

struct Part {
  std::size_t begin, end;
  bool match;
};

// Hands on the parts of a piece, which come one after the other and cover it, as the behaviour says.
class Splitter {
 public:
  Splitter(std::string_view piece, bool at_start, Behavior behavior, bool invert, PieceSink& sink)
      : piece_(piece), at_start_(at_start), behavior_(behavior), invert_(invert), sink_(sink) {}

  void match(std::size_t begin, std::size_t end) {
    if (begin != done_) part({done_, begin, false});
    part({begin, end, true});
    done_ = end;
  }
  void finish() {
    if (done_ != piece_.size()) part({done_, piece_.size(), false});
    if (behavior_ == Behavior::kIsolated || behavior_ == Behavior::kRemoved) return;
    if (behavior_ == Behavior::kMergedWithNext) {
      merge_with_next();
    } else {
      merge_with_previous();
    }
  }

 private:
  void emit(std::size_t begin, std::size_t end) {
    if (begin != end) sink_.piece(piece_.substr(begin, end - begin), at_start_ && begin == 0);
  }
  void part(Part next) {
    next.match = next.match != invert_;
    if (behavior_ == Behavior::kIsolated) {
      emit(next.begin, next.end);
    } else if (behavior_ == Behavior::kRemoved) {
      if (!next.match) emit(next.begin, next.end);
    } else {
      parts_.push_back(next);
    }
  }
  // A match goes to what stands before it, but not to another match; or equals stay together (contiguous).
  void merge_with_previous() {
    std::vector<Part> joined;
    bool previous = false;
    for (const Part& next : parts_) {
      const bool join = behavior_ == Behavior::kContiguous ? next.match == previous : next.match && !previous;
      if (join && !joined.empty()) {
        joined.back().end = next.end;
      } else {
        joined.push_back(next);
      }
      previous = next.match;
    }
    for (const Part& one : joined) emit(one.begin, one.end);
  }
  void merge_with_next() {
    std::vector<Part> joined;
    bool previous = false;
    for (auto next = parts_.rbegin(); next != parts_.rend(); ++next) {
      if (next->match && !previous && !joined.empty()) {
        joined.back().begin = next->begin;
      } else {
        joined.push_back(*next);
      }
      previous = next->match;
    }
    for (auto one = joined.rbegin(); one != joined.rend(); ++one) emit(one->begin, one->end);
  }

  std::string_view piece_;
  bool at_start_;
  Behavior behavior_;
  bool invert_;
  PieceSink& sink_;
  std::size_t done_ = 0;
  std::vector<Part> parts_;
};

class Split final : public PreTokenizer {
 public:
  Split(Pattern pattern, Behavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void split(std::string_view piece, bool at_start, RegexScratch& scratch, PieceSink& sink) const override {
    Splitter splitter(piece, at_start, behavior_, invert_, sink);
    pattern_.for_each(piece, scratch, [&](const RegexMatch& match) { splitter.match(match.begin, match.end); });
    splitter.finish();
  }

 private:
  Pattern pattern_;
  Behavior behavior_;
  bool invert_;
};

// Splits at single characters.
class CharacterSplit final : public PreTokenizer {
 public:
  using Test = bool (*)(char32_t);
  CharacterSplit(Test test, Behavior behavior) : test_(test), behavior_(behavior) {}
  void split(std::string_view piece, bool at_start, RegexScratch&, PieceSink& sink) const override {
    Splitter splitter(piece, at_start, behavior_, false, sink);
    for (std::size_t at = 0; at < piece.size();) {
      const Utf8Step step = read_utf8(piece.substr(at));
      if (test_(step.code_point)) splitter.match(at, at + step.length);
      at += step.length;
    }
    splitter.finish();
  }

 private:
  Test test_;
  Behavior behavior_;
};

// Runs of word characters and runs of what is neither that nor white space; the space is dropped.
class Whitespace final : public PreTokenizer {
 public:
  void split(std::string_view piece, bool at_start, RegexScratch&, PieceSink& sink) const override {
    enum class Kind { kSpace, kWord, kOther } kind = Kind::kSpace;
    std::size_t begin = 0;
    const auto emit = [&](std::size_t end) {
      if (kind != Kind::kSpace && begin != end) {
        sink.piece(piece.substr(begin, end - begin), at_start && begin == 0);
      }
      begin = end;
    };
    for (std::size_t at = 0; at < piece.size();) {
      const Utf8Step step = read_utf8(piece.substr(at));
      const Kind next = is_word_character(step.code_point) ? Kind::kWord
                        : is_whitespace(step.code_point)   ? Kind::kSpace
                                                           : Kind::kOther;
      if (next != kind) emit(at);
      kind = next;
      at += step.length;
    }
    emit(piece.size());
  }
};

class Metaspace final : public PreTokenizer {
 public:
  enum class Prepend { kAlways, kFirst, kNever };
  Metaspace(std::string replacement, Prepend prepend, bool split)
      : replacement_(std::move(replacement)), prepend_(prepend), split_(split) {}
  void split(std::string_view piece, bool at_start, RegexScratch&, PieceSink& sink) const override {
    std::string text;
    text.reserve(piece.size() * 3 / 2);
    for (const char c : piece) {
      if (c == ' ') {
        text += replacement_;
      } else {
        text.push_back(c);
      }
    }
    const bool prepends = prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && at_start);
    if (prepends && text.compare(0, replacement_.size(), replacement_) != 0) text.insert(0, replacement_);
    if (!split_) {
      sink.piece(text, at_start);
      return;
    }
    Splitter splitter(text, at_start, Behavior::kMergedWithNext, false, sink);
    for (std::size_t at = text.find(replacement_); at != std::string::npos;
         at = text.find(replacement_, at + replacement_.size())) {
      splitter.match(at, at + replacement_.size());
    }
    splitter.finish();
  }

 private:
  std::string replacement_;
  Prepend prepend_;
  bool split_;
};

class PrefixSpace final : public PreTokenizer {
 public:
  void split(std::string_view piece, bool at_start, RegexScratch&, PieceSink& sink) const override {
    if (piece[0] == ' ') {
      sink.piece(piece, at_start);
    } else {
      std::string spaced(1, ' ');
      spaced += piece;
      sink.piece(spaced, at_start);
    }
  }
};

class ByteCharacters final : public PreTokenizer {
 public:
  void split(std::string_view piece, bool at_start, RegexScratch&, PieceSink& sink) const override {
    sink.piece(to_byte_characters(piece), at_start);
  }
};

class FixedLength final : public PreTokenizer {
 public:
  explicit FixedLength(std::int64_t characters) : characters_(characters) {}
  void split(std::string_view piece, bool at_start, RegexScratch&, PieceSink& sink) const override {
    std::size_t begin = 0;
    std::int64_t count = 0;
    for (std::size_t at = 0; at < piece.size();) {
      at += read_utf8(piece.substr(at)).length;
      if (++count < characters_ && at < piece.size()) continue;
      sink.piece(piece.substr(begin, at - begin), at_start && begin == 0);
      begin = at;
      count = 0;
    }
  }

 private:
  std::int64_t characters_;
};

std::unique_ptr<PreTokenizer> read_metaspace(const JsonNode& node) {
  const JsonNode replacement = node.get("replacement");
  const std::string& character = replacement.text();
  if (character.empty() || read_utf8(character).length != character.size()) replacement.wrong_type("one character");
  const JsonNode scheme = node.get("prepend_scheme");
  const std::string name = scheme.text_or("always");
  Metaspace::Prepend prepend = Metaspace::Prepend::kAlways;
  if (name == "first") {
    prepend = Metaspace::Prepend::kFirst;
  } else if (name == "never") {
    prepend = Metaspace::Prepend::kNever;
  } else if (name != "always") {
    scheme.unsupported("first, never, always");
  }
  // The older way to say "never".
  if (!node.get("add_prefix_space").boolean_or(true)) {
    if (prepend != Metaspace::Prepend::kNever && !scheme.is_null()) {
      fail(ErrorKind::kBadInput, "{}: '{}', but 'add_prefix_space' is false", scheme.where(), name);
    }
    prepend = Metaspace::Prepend::kNever;
  }
  return std::make_unique<Metaspace>(character, prepend, node.get("split").boolean_or(true));
}

void read_into(const JsonNode& node, std::vector<std::unique_ptr<PreTokenizer>>& steps) {
  const std::string& type = node.get("type").text();
  if (type == "Sequence") {
    const JsonNode list = node.get("pretokenizers").array();
    for (std::size_t i = 0; i < list.size(); ++i) read_into(list.at(i), steps);
  } else if (type == "Split") {
    steps.push_back(std::make_unique<Split>(Pattern(node.get("pattern")), read_behavior(node.get("behavior")),
                                            node.get("invert").boolean_or(false)));
  } else if (type == "ByteLevel") {
    if (node.get("add_prefix_space").boolean_or(true)) steps.push_back(std::make_unique<PrefixSpace>());
    if (node.get("use_regex").boolean_or(true)) {
      steps.push_back(std::make_unique<Split>(Pattern(Regex(kGpt2Pattern, RegexDialect::kOniguruma, node.where())),
                                              Behavior::kIsolated, false));
    }
    steps.push_back(std::make_unique<ByteCharacters>());
  } else if (type == "Metaspace") {
    steps.push_back(read_metaspace(node));
  } else if (type == "Digits") {
    steps.push_back(std::make_unique<CharacterSplit>(
        is_numeric, node.get("individual_digits").boolean_or(false) ? Behavior::kIsolated : Behavior::kContiguous));
  } else if (type == "Punctuation") {
    const JsonNode behavior = node.get("behavior");
    steps.push_back(std::make_unique<CharacterSplit>(
        is_punctuation, behavior.is_null() ? Behavior::kIsolated : read_behavior(behavior)));
  } else if (type == "WhitespaceSplit") {
    steps.push_back(std::make_unique<CharacterSplit>(is_whitespace, Behavior::kRemoved));
  } else if (type == "BertPreTokenizer") {
    steps.push_back(std::make_unique<CharacterSplit>(is_whitespace, Behavior::kRemoved));
    steps.push_back(std::make_unique<CharacterSplit>(is_punctuation, Behavior::kIsolated));
  } else if (type == "Whitespace") {
    steps.push_back(std::make_unique<Whitespace>());
  } else if (type == "FixedLength") {
    const JsonNode length = node.get("length");
    const std::int64_t characters = length.is_null() ? 5 : length.count(std::int64_t{1} << 30);
    if (characters == 0) length.wrong_type("at least 1");
    steps.push_back(std::make_unique<FixedLength>(characters));
  } else {
    node.get("type").unsupported(
        "Sequence, Split, ByteLevel, Metaspace, Digits, Punctuation, Whitespace, WhitespaceSplit, BertPreTokenizer, "
        "FixedLength");
  }
}

}  // namespace

PreTokenizers read_pre_tokenizer(const JsonNode& node) {
  PreTokenizers result;
  if (node.is_null()) return result;
  read_into(node, result.steps);
  if (!result.steps.empty() && dynamic_cast<const ByteCharacters*>(result.steps.back().get()) != nullptr) {
    result.steps.pop_back();
    result.byte_level = true;
  }
  return result;
}

std::unique_ptr<PreTokenizer> byte_characters_step() { return std::make_unique<ByteCharacters>(); }

std::unique_ptr<PreTokenizer> keep_matches(Regex regex) {
  return std::make_unique<Split>(Pattern(std::move(regex)), Behavior::kRemoved, true);
}

}  // namespace switchyard::text
