#include "regex_syntax.hpp"

#include <algorithm>
#include <optional>
#include <vector>

#include "regex_properties.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

constexpr int kDeepest = 100;
constexpr std::int64_t kMostRepeats = 65535;  // of PCRE2
// Outside a class Oniguruma's word characters have those that ISO 8859-1 calls numbers, too.
constexpr std::string_view kLooseWordItems = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

class Translator {
 public:
  Translator(std::string_view pattern, RegexDialect dialect, const std::string& where)
      : pattern_(pattern), left_(pattern), ruby_(dialect == RegexDialect::kOniguruma), where_(where) {}

  std::string run() {
    if (find_invalid_utf8(pattern_)) unsupported("it is not valid UTF-8");
    alternatives(0);
    if (!left_.empty()) unsupported("an unmatched ')'");
    return std::move(out_);
  }

 private:
  // What may stand in a class: items of a PCRE2 class, and whole expressions that match one character.
  struct Union {
    std::string items;
    std::vector<std::string> others;
    bool plain() const { return others.empty(); }
    std::string expression() const {
      if (others.empty()) return "[" + items + "]";
      std::string result = "(?:";
      if (!items.empty()) result += "[" + items + "]|";
      for (const std::string& other : others) result += other + "|";
      result.back() = ')';
      return result;
    }
  };

  [[noreturn]] void unsupported(std::string_view what) const {
    fail(ErrorKind::kUnsupported, "{}: the regular expression '{}' cannot be used: {} at byte {}", where_, pattern_,
         what, pattern_.size() - left_.size());
  }

  bool starts(std::string_view text) const { return left_.substr(0, text.size()) == text; }
  bool take(std::string_view text) {
    if (!starts(text)) return false;
    left_.remove_prefix(text.size());
    return true;
  }
  char take_char() {
    if (left_.empty()) unsupported("an unexpected end");
    const char c = left_[0];
    left_.remove_prefix(1);
    return c;
  }
  char32_t take_code_point() {
    if (left_.empty()) unsupported("an unexpected end");
    const Utf8Step step = read_utf8(left_);
    left_.remove_prefix(step.length);
    return step.code_point;
  }

  static std::string literal(char32_t c) { return fmt::format("\\x{{{:X}}}", static_cast<std::uint32_t>(c)); }

  // Up to the ')' of the group or the end.
  void alternatives(int depth) {
    if (depth > kDeepest) unsupported("groups nested too deeply");
    std::size_t opened = 0;  // by "(?i)" in Ruby's syntax, which reaches over the alternatives that follow
    while (!left_.empty() && !starts(")")) {
      if (take("|")) {
        out_ += '|';
        continue;
      }
      const std::size_t begin = out_.size();
      if (!atom(depth, opened)) continue;
      quantifiers(begin);
    }
    out_.append(opened, ')');
  }

  // False where nothing was written that a quantifier could be about.
  bool atom(int depth, std::size_t& opened) {
    if (starts("(")) return group(depth, opened);
    if (take("[")) {
      out_ += char_class(depth + 1).expression;
      return true;
    }
    if (take("\\")) return escape();
    if (take(".")) {
      out_ += '.';
      return true;
    }
    if (take("^")) {
      out_ += ruby_ ? "^" : "\\A";
      return false;
    }
    if (take("$")) {
      out_ += ruby_ ? "$" : "\\z";
      return false;
    }
    if (starts("*") || starts("+") || starts("?")) unsupported("nothing to repeat");
    out_ += literal(take_code_point());
    return true;
  }

  bool group(int depth, std::size_t& opened) {
    take_char();
    std::string_view head = "(?:";
    for (const std::string_view known : {"?:", "?=", "?!", "?<=", "?<!", "?>"}) {
      if (!take(known)) continue;
      out_ += '(';
      out_ += known;
      head = {};
      break;
    }
    if (!head.empty() && take("?#")) {
      while (take_char() != ')') {
      }
      return false;
    }
    if (!head.empty() && (take("?<") || take("?P<"))) {  // a name, which nothing can refer to
      while (take_char() != '>') {
      }
      out_ += head;
    } else if (!head.empty() && take("?")) {
      std::string on, off;
      std::string* to = &on;
      char c = take_char();
      for (; c != ':' && c != ')'; c = take_char()) {
        if (c == '-' && to == &on) {
          to = &off;
        } else if (c == 'i') {
          *to += 'i';
        } else if (c == (ruby_ ? 'm' : 's')) {
          *to += 's';
        } else {
          unsupported(fmt::format("the option '{}'", c));
        }
      }
      out_ += "(?" + on + (off.empty() ? "" : "-" + off);
      if (c == ')') {
        if (ruby_) {
          out_ += ':';
          ++opened;
        } else {
          out_ += ')';
        }
        return false;
      }
      out_ += ':';
    } else if (!head.empty()) {
      if (starts("*")) unsupported("a verb");
      out_ += head;
    }
    alternatives(depth + 1);
    if (!take(")")) unsupported("a group that does not end");
    out_ += ')';
    return true;
  }

  // Writes what follows the atom that was written from `begin` on.
  void quantifiers(std::size_t begin) {
    for (bool again = false;; again = true) {
      std::string text;
      bool interval = false, exact = false;
      if (take("*")) {
        text = "*";
      } else if (take("+")) {
        text = "+";
      } else if (take("?")) {
        text = "?";
      } else if (const auto bounds = take_interval()) {
        text = *bounds;
        interval = true;
        exact = text.find(',') == std::string::npos;
      } else {
        return;
      }
      if (again) wrap(begin);
      out_ += text;
      // After {n,m} Ruby's + repeats once more, and after {n} so does ?.
      if (starts("?") && !(ruby_ && interval && exact)) {
        take("?");
        out_ += '?';
      } else if (starts("+") && !(ruby_ && interval)) {
        take("+");
        out_ += '+';
      }
    }
  }

  void wrap(std::size_t begin) {
    out_.insert(begin, "(?:");
    out_ += ')';
  }

  // "{n}", "{n,}", "{n,m}" or Ruby's "{,m}"; anything else is no interval.
  std::optional<std::string> take_interval() {
    if (!starts("{")) return std::nullopt;
    std::string_view rest = left_.substr(1);
    const auto number = [&]() -> std::optional<std::int64_t> {
      std::int64_t value = 0;
      std::size_t digits = 0;
      while (digits < rest.size() && is_digit(rest[digits])) {
        value = std::min<std::int64_t>(value * 10 + (rest[digits] - '0'), kMostRepeats + 1);
        ++digits;
      }
      rest.remove_prefix(digits);
      return digits == 0 ? std::nullopt : std::optional(value);
    };
    const auto low = number();
    std::optional<std::int64_t> high = low;
    const bool comma = rest.substr(0, 1) == ",";
    if (comma) {
      rest.remove_prefix(1);
      high = number();
    }
    if (rest.substr(0, 1) != "}" || (!low && (!high || !ruby_))) return std::nullopt;
    rest.remove_prefix(1);
    if (low.value_or(0) > kMostRepeats || high.value_or(0) > kMostRepeats) unsupported("too many repeats");
    if (low && high && *low > *high) unsupported("a repeat from more to less");
    left_ = rest;
    if (!comma) return fmt::format("{{{}}}", *low);
    return fmt::format("{{{},{}}}", low.value_or(0), high ? std::to_string(*high) : std::string());
  }

  bool escape() {
    const char c = left_.empty() ? '\0' : left_[0];
    const std::string word_items(ruby_ ? kLooseWordItems : kWordItems), word = fmt::format("[{}]", word_items);
    switch (c) {
      case 'A':
      case 'z':
        take_char();
        out_ += c == 'A' ? "\\A" : "\\z";
        return false;
      case 'Z':
        if (!ruby_) break;
        take_char();
        out_ += "(?=\\n?\\z)";
        return false;
      case 'b':
        take_char();
        out_ += "(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + "))";
        return false;
      case 'B':
        take_char();
        out_ += "(?:(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" + word + "))";
        return false;
      case 'w':
      case 'W':
        take_char();
        out_ += c == 'w' ? word : fmt::format("[^{}]", word_items);
        return true;
      case 'R':
      case 'X':
        if (!ruby_) break;
        take_char();
        out_ += c == 'R' ? "\\R" : "\\X";
        return true;
      default:
        break;
    }
    Union set;
    if (take_set_escape(set)) {
      out_ += set.expression();
    } else {
      out_ += literal(take_literal_escape());
    }
    return true;
  }

  // An escape that stands for a set of characters; what follows the backslash.
  bool take_set_escape(Union& set) {
    const auto add = [&](std::string_view items, bool negated) {
      if (!negated) {
        set.items += items;
      } else {
        set.others.push_back("[^" + std::string(items) + "]");
      }
    };
    if (left_.empty()) unsupported("a final backslash");
    const char c = left_[0];
    switch (c) {
      case 's':
      case 'S':
        take_char();
        set.items += c == 's' ? R"(\p{White_Space})" : R"(\P{White_Space})";
        return true;
      case 'd':
      case 'D':
        take_char();
        set.items += c == 'd' ? R"(\p{Nd})" : R"(\P{Nd})";
        return true;
      case 'w':
      case 'W':
        take_char();
        add(kWordItems, c == 'W');
        return true;
      case 'h':
      case 'H':
        if (!ruby_) return false;
        take_char();
        add("0-9A-Fa-f", c == 'H');
        return true;
      case 'p':
      case 'P': {
        take_char();
        std::string name;
        if (take("{")) {
          for (char next = take_char(); next != '}'; next = take_char()) name += next;
        } else {
          if (ruby_) unsupported("a property without braces");
          name = std::string(1, take_char());
        }
        bool negated = c == 'P';
        if (!name.empty() && name[0] == '^') {
          negated = !negated;
          name.erase(0, 1);
        }
        add_property(name, negated, set);
        return true;
      }
      default:
        return false;
    }
  }

  void add_property(const std::string& name, bool negated, Union& set) const {
    std::string key;
    for (const char c : name) {
      if (c == ' ' || c == '_' || c == '-') continue;
      key += c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
    }
    bool script = false;
    for (const std::string_view prefix : {"script=", "sc=", "generalcategory=", "gc="}) {
      if (key.substr(0, prefix.size()) != prefix) continue;
      script = prefix[0] == 's';
      key.erase(0, prefix.size());
      break;
    }
    const bool clean =
        !key.empty() && std::all_of(key.begin(), key.end(), [](char c) { return is_letter(c) || is_digit(c); });
    if (!clean) unsupported(fmt::format("the property '{}'", name));
    std::string items = script ? std::string() : property_items(key);
    // A script by its name, without those that share its characters. PCRE2 says whether it knows it.
    if (items.empty()) items = "\\p{sc:" + key + "}";
    if (!negated) {
      set.items += items;
    } else {
      set.others.push_back("[^" + items + "]");
    }
  }

  // An escape that stands for one character; what follows the backslash.
  char32_t take_literal_escape() {
    if (!left_.empty() && !is_letter(left_[0]) && !is_digit(left_[0])) return take_code_point();
    const char c = take_char();
    switch (c) {
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'f':
        return '\f';
      case 'v':
        return '\v';
      case 'a':
        return '\a';
      case 'e':
        if (ruby_) return 0x1B;
        break;
      case 'x':
        if (take("{")) return take_hex(1, 8, true);
        {
          const char32_t value = take_hex(ruby_ ? 1 : 2, 2, false);
          // In Oniguruma this is a byte, and several make a character.
          if (ruby_ && value >= 0x80) unsupported("a byte of a character");
          return value;
        }
      case 'u':
        if (!ruby_ && take("{")) return take_hex(1, 8, true);
        return take_hex(4, 4, false);
      default:
        break;
    }
    unsupported(fmt::format("the escape '\\{}'", c));
  }

  char32_t take_hex(int least, int most, bool braced) {
    char32_t value = 0;
    int digits = 0;
    while (digits < most && !left_.empty() && hex_digit(left_[0]) >= 0) {
      value = value * 16 + static_cast<char32_t>(hex_digit(take_char()));
      ++digits;
    }
    if (digits < least || (braced && !take("}"))) unsupported("a malformed character number");
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) unsupported("a number that is no character");
    return value;
  }

  struct Class {
    bool plain;  // `items` says it all
    bool negated;
    std::string items;
    std::string expression;  // matches one character
  };

  // After the '['.
  Class char_class(int depth) {
    if (depth > kDeepest) unsupported("classes nested too deeply");
    const bool negated = take("^");
    std::vector<Union> operands(1);
    bool first = true;
    while (first || !starts("]")) {
      if (left_.empty()) unsupported("a class that does not end");
      if (take("&&")) {
        operands.emplace_back();
        first = false;
        continue;
      }
      if (!ruby_ && (starts("--") || starts("~~"))) unsupported("a class operator");
      class_item(operands.back(), depth, first);
      first = false;
    }
    take("]");
    for (const Union& operand : operands) {
      if (operand.items.empty() && operand.plain()) unsupported("an empty class");
    }
    if (operands.size() == 1 && operands[0].plain()) {
      const std::string& items = operands[0].items;
      return {true, negated, items, (negated ? "[^" : "[") + items + "]"};
    }
    std::string both;
    for (std::size_t i = 0; i + 1 < operands.size(); ++i) both += "(?=" + operands[i].expression() + ")";
    both += operands.back().expression();
    if (!negated) return {false, false, {}, "(?:" + both + ")"};
    return {false, true, {}, "(?:(?!" + both + ")(?s:.))"};
  }

  void class_item(Union& to, int depth, bool first) {
    if (take("[:")) {
      const bool negated = take("^");
      std::string name;
      while (!starts(":]")) name += take_char();
      take(":]");
      // In Rust these are about ASCII alone.
      if (!ruby_) unsupported(fmt::format("the class '[:{}:]'", name));
      if (name == "punct") name = "posixpunct";
      add_property(name, negated, to);
      return;
    }
    if (take("[")) {
      Class inner = char_class(depth + 1);
      if (inner.plain && !inner.negated) {
        to.items += inner.items;
      } else {
        to.others.push_back(std::move(inner.expression));
      }
      return;
    }
    if (starts("\\")) {
      const std::string_view before = left_;
      take_char();
      if (take_set_escape(to)) return;
      left_ = before;
    }
    const char32_t low = class_character(first);
    if (!starts("-") || starts("-]") || starts("-[") || starts("-&&") || left_.size() == 1) {
      to.items += literal(low);
      return;
    }
    const std::string_view before = left_;
    take("-");
    if (starts("\\")) {
      take_char();
      Union ignored;
      if (take_set_escape(ignored)) {  // "a-\d": the hyphen is itself
        left_ = before;
        to.items += literal(low);
        return;
      }
      left_ = before.substr(1);
    }
    const char32_t high = class_character(false);
    if (high < low) unsupported("a range from more to less");
    to.items += literal(low) + "-" + literal(high);
  }

  char32_t class_character(bool first) {
    if (take("\\")) {
      if (take("b")) return '\b';
      return take_literal_escape();
    }
    if (!first && starts("]")) unsupported("a range without an end");
    return take_code_point();
  }

  std::string_view pattern_, left_;
  bool ruby_;
  const std::string& where_;
  std::string out_;
};

}  // namespace

std::string translate_regex(std::string_view pattern, RegexDialect dialect, const std::string& where) {
  return Translator(pattern, dialect, where).run();
}

}  // namespace switchyard::text
