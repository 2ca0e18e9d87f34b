// Filters that give text or a number.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "machine.hpp"
#include "unicode_text.hpp"

namespace switchyard::text::jinja {
namespace {

// Characters change places or kinds: the result is trusted as little as the worst of them.
Value mapped(Machine& machine, const Value& input, std::string (*map)(std::string_view)) {
  const MarkedText text = machine.text(input);
  machine.budget().work_on(text.size() * 4);
  return machine.string(map(text.view()), text.origin());
}

Value upper_filter(Machine& machine, const Value& input, Arguments& arguments) {
  bind(arguments, "upper", {});
  return mapped(machine, input, upper);
}
Value lower_filter(Machine& machine, const Value& input, Arguments& arguments) {
  bind(arguments, "lower", {});
  return mapped(machine, input, lower);
}
Value capitalize_filter(Machine& machine, const Value& input, Arguments& arguments) {
  bind(arguments, "capitalize", {});
  return mapped(machine, input, title_first);
}

Value title_filter(Machine& machine, const Value& input, Arguments& arguments) {
  bind(arguments, "title", {});
  return mapped(machine, input, [](std::string_view text) {
    // Words begin behind white space and these.
    constexpr std::string_view kBreaks = "-({[<";
    std::string result;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t end = next_character(text, i);
      if (is_space(character_at(text, i)) || kBreaks.find(text[i]) != std::string_view::npos) {
        result += title_first(text.substr(begin, i - begin));
        result += text.substr(i, end - i);
        begin = end;
      }
      i = end;
    }
    return result + title_first(text.substr(begin));
  });
}

Value trim_filter(Machine& machine, const Value& input, Arguments& arguments) {
  const auto given = bind(arguments, "trim", {"chars"});
  const MarkedText text = machine.text(input);
  if (given[0] == nullptr || given[0]->is_none()) return machine.string(trimmed(text, nullptr, true, true));
  return machine.string(trimmed(text, &to_string(*given[0], "chars").bytes(), true, true));
}

Value replace_filter(Machine& machine, const Value& input, Arguments& arguments) {
  const auto given = bind(arguments, "replace", {"old", "new", "count"}, 2);
  return machine.string(replaced(machine, machine.text(input), machine.text(*given[0]), machine.text(*given[1]),
                                 integer_or(given[2], -1, "count")));
}

Value string_filter(Machine& machine, const Value& input, Arguments& arguments) {
  bind(arguments, "string", {});
  return input.is_string() ? input : machine.string(machine.text(input));
}
Value safe_filter(Machine& machine, const Value& input, Arguments& arguments) {
  bind(arguments, "safe", {});
  return machine.string(machine.text(input), true);
}
Value escape_filter(Machine& machine, const Value& input, Arguments& arguments) {
  bind(arguments, "escape", {});
  if (input.is_string() && input.string().markup) return input;
  return machine.string(escaped_html(machine.text(input)), true);
}
Value forceescape_filter(Machine& machine, const Value& input, Arguments& arguments) {
  bind(arguments, "forceescape", {});
  return machine.string(escaped_html(machine.text(input)), true);
}

Value indent_filter(Machine& machine, const Value& input, Arguments& arguments) {
  const auto given = bind(arguments, "indent", {"width", "first", "blank"});
  MarkedText indentation;
  if (given[0] != nullptr && given[0]->is_string()) {
    indentation = given[0]->text();
  } else {
    const std::int64_t width = integer_or(given[0], 4, "width");
    machine.budget().need(static_cast<std::size_t>(std::max<std::int64_t>(0, width)));
    indentation.append(std::string(static_cast<std::size_t>(std::max<std::int64_t>(0, width)), ' '));
  }
  const bool first = truth_or(given[1], false), blank = truth_or(given[2], false);
  const MarkedText& text = to_string(input, "what 'indent' indents");
  MarkedText result;
  bool at_first = true;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.view().find('\n', begin), text.size());
    if (!at_first) result.append("\n");
    if (at_first ? first : blank || end > begin) result.append(indentation);
    result.append(text, begin, end);
    machine.budget().need(result.memory());
    machine.budget().work_on(indentation.size());
    at_first = false;
    begin = end + 1;
  }
  return machine.string(std::move(result));
}

Value center_filter(Machine& machine, const Value& input, Arguments& arguments) {
  const auto given = bind(arguments, "center", {"width"});
  const MarkedText text = machine.text(input);
  const std::int64_t width = integer_or(given[0], 80, "width");
  const std::int64_t space = width - static_cast<std::int64_t>(count_characters(text.view()));
  if (space <= 0) return machine.string(text);
  machine.budget().need(static_cast<std::size_t>(space));
  const std::int64_t left = space / 2 + (space & width & 1);
  MarkedText result(std::string(static_cast<std::size_t>(left), ' '));
  result.append(text);
  result.append(std::string(static_cast<std::size_t>(space - left), ' '));
  return machine.string(std::move(result));
}

Value truncate_filter(Machine& machine, const Value& input, Arguments& arguments) {
  const auto given = bind(arguments, "truncate", {"length", "killwords", "end", "leeway"});
  const MarkedText& text = to_string(input, "what 'truncate' cuts");
  const std::int64_t length = integer_or(given[0], 255, "length"), leeway = integer_or(given[3], 5, "leeway");
  const MarkedText end = given[2] == nullptr ? MarkedText("...") : to_string(*given[2], "end");
  const auto room = length - static_cast<std::int64_t>(count_characters(end.view()));
  if (room < 0 || leeway < 0)
    throw Failure("truncate: the length is less than that of the end, or the leeway negative");
  const auto characters = static_cast<std::int64_t>(count_characters(text.view()));
  if (characters <= length || characters - length <= leeway) return machine.string(text);
  std::size_t cut = byte_of_character(text.view(), static_cast<std::size_t>(room));
  if (!truth_or(given[1], false)) cut = std::min(text.view().substr(0, cut).rfind(' '), cut);
  MarkedText result = text.part(0, cut);
  result.append(end);
  return machine.string(std::move(result));
}

Value format_filter(Machine& machine, const Value& input, Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    throw Failure("format takes either positional or named arguments");
  }
  Value values;
  if (arguments.named.empty()) {
    values = machine.list(arguments.positional, List::Kind::kTuple);
  } else {
    const auto dict = machine.dict();
    for (const auto& [name, value] : arguments.named) dict->set(machine.string(name), value);
    values = Value(std::shared_ptr<const Dict>(dict));
  }
  return machine.string(printf_text(machine, machine.text(input), values));
}

Value urlencode_filter(Machine& machine, const Value& input, Arguments& arguments) {
  bind(arguments, "urlencode", {});
  const MarkedText& text = to_string(input, "what 'urlencode' encodes");
  std::string result;
  for (const char c : text.bytes()) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("_.-~/").find(c) != std::string_view::npos;
    result += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return machine.string(std::move(result), text.origin());
}

Value wordcount_filter(Machine& machine, const Value& input, Arguments& arguments) {
  bind(arguments, "wordcount", {});
  const MarkedText text = machine.text(input);
  std::int64_t words = 0;
  bool within = false;
  for (std::size_t i = 0; i < text.size(); i = next_character(text.view(), i)) {
    const char32_t c = character_at(text.view(), i);
    const bool word =
        c == U'_' || all_of_class(text.view().substr(i, next_character(text.view(), i) - i), CharacterClass::kAlnum);
    if (word && !within) ++words;
    within = word;
  }
  return Value(words);
}

std::string_view without_space(std::string_view text) {
  while (!text.empty() && is_space(character_at(text, 0))) text.remove_prefix(next_character(text, 0));
  while (!text.empty() && is_space(character_at(text, previous_character(text, text.size())))) {
    text.remove_suffix(text.size() - previous_character(text, text.size()));
  }
  return text;
}

std::string without_underscores(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto alnum = [&](std::size_t k) {
      return k < text.size() && std::isalnum(static_cast<unsigned char>(text[k])) != 0;
    };
    if (text[i] == '_' && i > 0 && alnum(i - 1) && alnum(i + 1)) continue;
    result += text[i];
  }
  return result;
}

bool read_float(std::string_view text, double& value) {
  std::string digits = without_underscores(without_space(text));
  if (!digits.empty() && digits[0] == '+') digits.erase(0, 1);
  if (digits.empty() || digits[0] == '+') return false;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (read.ec == std::errc::result_out_of_range) {
    value = digits.find("e-") == std::string::npos ? std::numeric_limits<double>::infinity() : 0.0;
  }
  return read.ec != std::errc::invalid_argument && read.ptr == digits.data() + digits.size();
}

bool read_integer(std::string_view text, std::int64_t base, std::int64_t& value) {
  std::string digits = without_underscores(without_space(text));
  bool negative = false;
  if (!digits.empty() && (digits[0] == '+' || digits[0] == '-')) {
    negative = digits[0] == '-';
    digits.erase(0, 1);
  }
  if (digits.size() > 2 && digits[0] == '0') {
    const char letter = static_cast<char>(digits[1] | 0x20);
    if ((letter == 'x' && base == 16) || (letter == 'o' && base == 8) || (letter == 'b' && base == 2))
      digits.erase(0, 2);
  }
  if (digits.empty() || base < 2 || base > 36 || digits[0] == '-') return false;
  if (negative) digits.insert(0, 1, '-');
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value, static_cast<int>(base));
  if (read.ec == std::errc::result_out_of_range) throw Failure(fmt::format("{} does not fit 64 bits", digits));
  return read.ec == std::errc() && read.ptr == digits.data() + digits.size();
}

Value whole(double value, const Value& otherwise) {
  if (std::isnan(value)) return otherwise;
  if (!(std::fabs(value) < 9.2e18)) throw Failure("int: the number does not fit 64 bits");
  return Value(static_cast<std::int64_t>(value));
}

Value int_filter(Machine&, const Value& input, Arguments& arguments) {
  const auto given = bind(arguments, "int", {"default", "base"});
  require_defined(input);
  const Value otherwise = given[0] == nullptr ? Value(std::int64_t{0}) : *given[0];
  if (input.is_integer()) return Value(input.integer());
  if (input.is_number()) return whole(input.number(), otherwise);
  if (!input.is_string()) return otherwise;
  std::int64_t integer = 0;
  if (read_integer(input.view(), integer_or(given[1], 10, "base"), integer)) return Value(integer);
  double number = 0.0;
  return read_float(input.view(), number) ? whole(number, otherwise) : otherwise;
}

Value float_filter(Machine&, const Value& input, Arguments& arguments) {
  const auto given = bind(arguments, "float", {"default"});
  require_defined(input);
  if (input.is_number()) return Value(input.number());
  double number = 0.0;
  if (input.is_string() && read_float(input.view(), number)) return Value(number);
  return given[0] == nullptr ? Value(0.0) : *given[0];
}

Value abs_filter(Machine& machine, const Value& input, Arguments& arguments) {
  bind(arguments, "abs", {});
  require_defined(input);
  if (!input.is_number()) throw Failure(fmt::format("abs of a {}", type_name(input)));
  if (!input.is_integer()) return Value(std::fabs(input.number()));
  return input.integer() < 0 ? machine.arithmetic("-", Value(std::int64_t{0}), input) : Value(input.integer());
}

Value round_filter(Machine&, const Value& input, Arguments& arguments) {
  const auto given = bind(arguments, "round", {"precision", "method"});
  require_defined(input);
  if (!input.is_number()) throw Failure(fmt::format("round of a {}", type_name(input)));
  const std::int64_t precision = integer_or(given[0], 0, "precision");
  if (precision < -300 || precision > 300) throw Failure("round: expected a precision from -300 to 300");
  const std::string method = given[1] == nullptr ? "common" : to_string(*given[1], "method").bytes();
  const double value = input.number(), scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return Value(std::ceil(value * scale) / scale);
  if (method == "floor") return Value(std::floor(value * scale) / scale);
  if (method != "common") throw Failure("round: expected the method common, ceil or floor");
  if (!std::isfinite(value)) return Value(value);
  if (precision < 0) return Value(std::nearbyint(value * scale) / scale);
  if (input.is_integer() && precision == 0) return Value(input.integer());
  // The decimal digits are exact, and so half of one is told from just below it.
  const std::string digits = fmt::format("{:.{}f}", value, static_cast<int>(precision));
  double rounded = 0.0;
  std::from_chars(digits.data(), digits.data() + digits.size(), rounded);
  return Value(rounded);
}

Value tojson_filter(Machine& machine, const Value& input, Arguments& arguments) {
  return machine.string(to_json(machine, input, arguments));
}

constexpr std::array kFilters = {
    NamedFilter{"abs", abs_filter},
    NamedFilter{"capitalize", capitalize_filter},
    NamedFilter{"center", center_filter},
    NamedFilter{"e", escape_filter},
    NamedFilter{"escape", escape_filter},
    NamedFilter{"float", float_filter},
    NamedFilter{"forceescape", forceescape_filter},
    NamedFilter{"format", format_filter},
    NamedFilter{"indent", indent_filter},
    NamedFilter{"int", int_filter},
    NamedFilter{"lower", lower_filter},
    NamedFilter{"replace", replace_filter},
    NamedFilter{"round", round_filter},
    NamedFilter{"safe", safe_filter},
    NamedFilter{"string", string_filter},
    NamedFilter{"title", title_filter},
    NamedFilter{"tojson", tojson_filter},
    NamedFilter{"trim", trim_filter},
    NamedFilter{"truncate", truncate_filter},
    NamedFilter{"upper", upper_filter},
    NamedFilter{"urlencode", urlencode_filter},
    NamedFilter{"wordcount", wordcount_filter},
};

}  // namespace

Filter find_text_filter(std::string_view name) { return find_named(kFilters, name); }

Filter find_filter(std::string_view name) {
  const Filter found = find_text_filter(name);
  return found != nullptr ? found : find_sequence_filter(name);
}

MarkedText escaped_html(const MarkedText& text) {
  MarkedText result;
  std::size_t done = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text.bytes()[i];
    const std::string_view name = c == '&'    ? "&amp;"
                                  : c == '<'  ? "&lt;"
                                  : c == '>'  ? "&gt;"
                                  : c == '"'  ? "&#34;"
                                  : c == '\'' ? "&#39;"
                                              : "";
    if (name.empty()) continue;
    result.append(text, done, i);
    result.append(name, text.part(i, i + 1).origin());
    done = i + 1;
  }
  result.append(text, done, text.size());
  return result;
}

MarkedText trimmed(const MarkedText& text, const std::string* characters, bool left, bool right) {
  const std::string_view view = text.view();
  const auto goes = [&](std::size_t begin, std::size_t end) {
    if (characters == nullptr) return is_space(character_at(view, begin));
    return characters->find(view.substr(begin, end - begin)) != std::string::npos;
  };
  std::size_t begin = 0, end = view.size();
  while (left && begin < end) {
    const std::size_t next = next_character(view, begin);
    if (!goes(begin, next)) break;
    begin = next;
  }
  while (right && begin < end) {
    const std::size_t previous = previous_character(view, end);
    if (!goes(previous, end)) break;
    end = previous;
  }
  return text.part(begin, end);
}

MarkedText replaced(Machine& machine, const MarkedText& text, const MarkedText& from, const MarkedText& to,
                    std::int64_t most) {
  MarkedText result;
  const std::string_view view = text.view();
  const Searcher searcher(from.view());
  std::size_t done = 0;
  const auto put = [&](std::size_t begin, std::size_t end) {
    result.append(text, done, begin);
    result.append(to);
    machine.budget().need(result.memory());
    machine.budget().work_on(to.size());
    done = end;
  };
  if (from.empty()) {
    for (std::size_t i = 0; most != 0; --most) {
      put(i, i);
      if (i == view.size()) break;
      i = next_character(view, i);
    }
  } else {
    machine.budget().search(view.size(), from.size());
    for (std::size_t i = 0; most != 0; --most) {
      i = searcher.find(view, i);
      if (i == std::string_view::npos) break;
      put(i, i + from.size());
      i = done;
    }
  }
  result.append(text, done, text.size());
  return result;
}

}  // namespace switchyard::text::jinja
