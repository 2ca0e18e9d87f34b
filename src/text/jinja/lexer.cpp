#include "lexer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "switchyard/text/utf8.hpp"
#include "unicode.hpp"
#include "unicode_text.hpp"
#include "value.hpp"

namespace switchyard::text::jinja {
namespace {

constexpr std::array<std::string_view, 26> kOperators = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                         "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                         ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};

// One newline for every kind, and the last one goes.
std::string normalized(std::string_view source) {
  std::string result;
  result.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      result += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      result += source[i];
    }
  }
  if (!result.empty() && result.back() == '\n') result.pop_back();
  return result;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalized(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) root();
    add(Token::Type::kEnd, {});
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool at(std::string_view text) const { return rest().substr(0, text.size()) == text; }

  void advance(std::size_t bytes) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(at_ + bytes), '\n'));
    at_ += bytes;
    line_starts_ = bytes > 0 && source_[at_ - 1] == '\n';
  }
  std::size_t space_from(std::size_t from) const {
    while (from < source_.size() && is_space(character_at(source_, from))) from = next_character(source_, from);
    return from;
  }
  void add(Token::Type type, std::string text) { tokens_.push_back({type, line_, std::move(text), 0, 0.0}); }
  [[noreturn]] void fail(const std::string& message) const { throw Failure(message, line_); }

  // The text before a tag, as far as the tag leaves it. `sign` stands behind the tag's opening.
  void add_data(std::size_t end, char sign, bool is_variable) {
    std::string_view data = rest().substr(0, end - at_);
    if (sign == '-') {
      while (!data.empty()) {
        const std::size_t last = previous_character(data, data.size());
        if (!is_space(character_at(data, last))) break;
        data = data.substr(0, last);
      }
    } else if (sign != '+' && !is_variable) {
      const std::size_t newline = data.rfind('\n');
      const std::size_t line = newline == std::string_view::npos ? 0 : newline + 1;
      if (line > 0 || line_starts_) {
        bool blank = true;
        for (std::size_t i = line; blank && i < data.size(); i = next_character(data, i)) {
          blank = is_space(character_at(data, i));
        }
        if (blank) data = data.substr(0, line);
      }
    }
    if (!data.empty()) add(Token::Type::kData, std::string(data));
    advance(end - at_);
  }

  char sign_at(std::size_t position) const {
    const char c = position < source_.size() ? source_[position] : '\0';
    return c == '-' || c == '+' ? c : '\0';
  }

  void root() {
    std::size_t tag = at_;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos) {
        add(Token::Type::kData, std::string(rest()));
        advance(rest().size());
        return;
      }
      const char next = tag + 1 < source_.size() ? source_[tag + 1] : '\0';
      if (next == '{' || next == '%' || next == '#') break;
      ++tag;
    }
    const char kind = source_[tag + 1];
    const char sign = sign_at(tag + 2);
    const std::size_t behind = tag + (sign == '\0' ? 2 : 3);
    if (kind == '%' && raw(tag, behind, sign)) return;
    add_data(tag, sign, kind == '{');
    if (kind == '#') {
      advance(behind - at_);
      comment();
    } else {
      add(kind == '{' ? Token::Type::kVariableBegin : Token::Type::kBlockBegin, {});
      advance(behind - at_);
      tag_body(kind == '{');
    }
  }

  // The length of a block tag's end at `position`, with what it strips; 0 where there is none.
  std::size_t block_end(std::size_t position, std::string_view close) const {
    const std::string_view text = std::string_view(source_).substr(position);
    const auto starts = [&](char sign) {
      return text.size() > close.size() && text[0] == sign && text.substr(1, close.size()) == close;
    };
    if (starts('+')) return close.size() + 1;
    if (starts('-')) return space_from(position + close.size() + 1) - position;
    if (text.substr(0, close.size()) != close) return 0;
    const std::size_t length = close.size();
    return length + (text.size() > length && text[length] == '\n' ? 1 : 0);
  }

  void comment() {
    for (std::size_t i = at_; i < source_.size(); ++i) {
      const std::size_t end = block_end(i, "#}");
      if (end == 0) continue;
      advance(i + end - at_);
      return;
    }
    fail("a comment has no end: expected #}");
  }

  // {% raw %} up to {% endraw %}, if that is what stands there.
  bool raw(std::size_t tag, std::size_t behind, char sign) {
    std::size_t i = space_from(behind);
    if (source_.compare(i, 3, "raw") != 0) return false;
    i = space_from(i + 3);
    std::size_t begin = 0;
    if (source_.compare(i, 3, "-%}") == 0) {
      begin = space_from(i + 3);
    } else if (source_.compare(i, 2, "%}") == 0) {
      begin = i + 2;
    } else {
      return false;
    }
    add_data(tag, sign, false);
    advance(begin - at_);
    for (std::size_t open = source_.find("{%", at_); open != std::string::npos; open = source_.find("{%", open + 2)) {
      const char end_sign = sign_at(open + 2);
      std::size_t word = space_from(open + (end_sign == '\0' ? 2 : 3));
      if (source_.compare(word, 6, "endraw") != 0) continue;
      word = space_from(word + 6);
      const std::size_t end = block_end(word, "%}");
      if (end == 0) continue;
      add_data(open, end_sign, false);
      advance(word + end - at_);
      return true;
    }
    fail("{% raw %} has no {% endraw %}");
  }

  void tag_body(bool is_variable) {
    std::string open;  // brackets
    while (true) {
      if (at_ == source_.size()) fail(is_variable ? "expected }}, found the end" : "expected %}, found the end");
      if (open.empty()) {
        std::size_t end = 0;
        if (is_variable) {
          if (at("-}}")) end = space_from(at_ + 3) - at_;
          if (at("}}")) end = 2;
        } else {
          end = block_end(at_, "%}");
        }
        if (end > 0) {
          add(is_variable ? Token::Type::kVariableEnd : Token::Type::kBlockEnd, {});
          advance(end);
          return;
        }
      }
      const char32_t c = character_at(source_, at_);
      if (is_space(c)) {
        advance(space_from(at_) - at_);
      } else if (c < 0x80 && is_digit(source_[at_])) {
        number();
      } else if (is_word_character(c)) {
        name();
      } else if (c == U'\'' || c == U'"') {
        string();
      } else {
        operation(open);
      }
    }
  }

  void name() {
    std::size_t end = at_;
    while (end < source_.size() && is_word_character(character_at(source_, end))) end = next_character(source_, end);
    add(Token::Type::kName, source_.substr(at_, end - at_));
    advance(end - at_);
  }

  // Digits in groups that '_' joins; the end of them.
  template <class IsDigit>
  std::size_t digits_from(std::size_t i, IsDigit&& digit) const {
    while (i < source_.size() &&
           (digit(source_[i]) || (source_[i] == '_' && i + 1 < source_.size() && digit(source_[i + 1])))) {
      ++i;
    }
    return i;
  }

  void number() {
    const auto decimal = [](char c) { return is_digit(c); };
    const auto digit_at = [&](std::size_t i) { return i < source_.size() && is_digit(source_[i]); };
    std::size_t end = digits_from(at_, decimal);
    bool is_float = false;
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';
    if (!after_dot) {
      if (end < source_.size() && source_[end] == '.' && digit_at(end + 1)) {
        end = digits_from(end + 1, decimal);
        is_float = true;
      }
      if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
        const std::size_t sign =
            end + 1 < source_.size() && (source_[end + 1] == '+' || source_[end + 1] == '-') ? 1 : 0;
        if (digit_at(end + 1 + sign)) {
          end = digits_from(end + 1 + sign, decimal);
          is_float = true;
        }
      }
    }
    int base = 10;
    std::size_t begin = at_;
    if (!is_float && source_[at_] == '0' && at_ + 2 < source_.size()) {
      const char letter = static_cast<char>(source_[at_ + 1] | 0x20);
      base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
      if (base != 10) {
        begin = at_ + 2;
        end = digits_from(begin, [base](char c) {
          const int value = is_digit(c) ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : 99;
          return value < base;
        });
      }
    }
    std::string digits = source_.substr(begin, end - begin);
    digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
    Token token{is_float ? Token::Type::kFloat : Token::Type::kInteger, line_, source_.substr(at_, end - at_), 0, 0.0};
    const char* last = digits.data() + digits.size();
    const auto read = is_float ? std::from_chars(digits.data(), last, token.number)
                               : std::from_chars(digits.data(), last, token.integer, base);
    if (is_float && read.ec == std::errc::result_out_of_range) {
      token.number = digits.find('-') == std::string::npos ? std::numeric_limits<double>::infinity() : 0.0;
    } else if (read.ec != std::errc() || read.ptr != last) {
      fail(fmt::format("{} is not a number that fits 64 bits", token.text));
    }
    tokens_.push_back(std::move(token));
    advance(end - at_);
  }

  void string() {
    const char quote = source_[at_];
    std::size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail("a string has no end");
    add(Token::Type::kString, unescaped(std::string_view(source_).substr(at_ + 1, end - at_ - 1)));
    advance(end + 1 - at_);
  }

  std::string unescaped(std::string_view text) const {
    constexpr std::string_view kLetters = "abfnrtv\\'\"", kMeanings = "\a\b\f\n\r\t\v\\'\"";
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\') {
        result += text[i];
        continue;
      }
      const char kind = text[++i];
      if (kind == '\n') continue;
      if (const std::size_t known = kLetters.find(kind); known != std::string_view::npos) {
        result += kMeanings[known];
        continue;
      }
      std::uint32_t code = 0;
      if (kind >= '0' && kind <= '7') {
        std::size_t digits = 1;
        while (digits < 3 && i + digits < text.size() && text[i + digits] >= '0' && text[i + digits] <= '7') ++digits;
        std::from_chars(text.data() + i, text.data() + i + digits, code, 8);
        i += digits - 1;
      } else if (kind == 'x' || kind == 'u' || kind == 'U') {
        const std::size_t digits = kind == 'x' ? 2 : kind == 'u' ? 4 : 8;
        const std::string_view hex = text.substr(i + 1, digits);
        const auto read = std::from_chars(hex.data(), hex.data() + hex.size(), code, 16);
        if (hex.size() != digits || read.ptr != hex.data() + digits) {
          fail(fmt::format("\\{} in a string: expected {} hexadecimal digits", kind, digits));
        }
        i += digits;
      } else if (kind == 'N' && i + 1 < text.size() && text[i + 1] == '{') {
        const std::size_t close = text.find('}', i);
        const std::string name(text.substr(i + 2, close == std::string_view::npos ? close : close - i - 2));
        code = character_named(name);
        if (code == 0 || close == std::string_view::npos)
          fail(fmt::format("\\N{{{}}} in a string: no such character", name));
        i = close;
      } else {
        result += '\\';
        result += kind;
        continue;
      }
      if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
        fail(fmt::format("U+{:04X} in a string is not a character", code));
      }
      append_utf8(result, code);
    }
    return result;
  }

  void operation(std::string& open) {
    const auto* found = std::find_if(kOperators.begin(), kOperators.end(), [this](auto text) { return at(text); });
    if (found == kOperators.end()) {
      fail(fmt::format("unexpected character '{}'", rest().substr(0, next_character(rest(), 0))));
    }
    const char c = (*found)[0];
    if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open.empty() || open.back() != c) {
        fail(open.empty() ? fmt::format("unexpected '{}'", c)
                          : fmt::format("unexpected '{}', expected '{}'", c, open.back()));
      }
      open.pop_back();
    }
    add(Token::Type::kOperator, std::string(*found));
    advance(found->size());
  }

  std::string source_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;  // what was read last ends with a newline
};

}  // namespace

std::string Token::describe() const {
  switch (type) {
    case Type::kData:
      return "text";
    case Type::kVariableBegin:
      return "{{";
    case Type::kVariableEnd:
      return "the end of the expression";
    case Type::kBlockBegin:
      return "{%";
    case Type::kBlockEnd:
      return "the end of the tag";
    case Type::kEnd:
      return "the end of the template";
    default:
      return fmt::format("'{}'", text);
  }
}

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace switchyard::text::jinja
