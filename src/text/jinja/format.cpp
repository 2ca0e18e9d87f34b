// "%s" % value and "{}".format(value), as far as templates use them.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "machine.hpp"
#include "unicode_text.hpp"

namespace switchyard::text::jinja {
namespace {

constexpr int kWidest = 10'000;

// What stands between % or : and the type.
struct Spec {
  std::string fill = " ";
  char align = '\0';  // < > ^ =
  char sign = '-';
  bool alternate = false, zero = false;
  char group = '\0';
  int width = 0, precision = -1;
  char type = '\0';
};

int read_count(std::string_view text, std::size_t& i) {
  int value = 0;
  while (i < text.size() && text[i] >= '0' && text[i] <= '9') {
    value = value * 10 + (text[i++] - '0');
    if (value > kWidest) throw Failure(fmt::format("a format with a width above {}", kWidest));
  }
  return value;
}

MarkedText padded(const MarkedText& text, const Spec& spec, char align) {
  const int length = static_cast<int>(std::min<std::size_t>(count_characters(text.view()), kWidest));
  const int space = spec.width - length;
  if (space <= 0) return text;
  const auto fill = [&](MarkedText& out, int count) {
    for (int i = 0; i < count; ++i) out.append(spec.fill);
  };
  MarkedText out;
  const int left = align == '<' ? 0 : align == '^' ? space / 2 : space;
  if (align == '=') {
    const std::size_t sign =
        !text.empty() && (text.bytes()[0] == '-' || text.bytes()[0] == '+' || text.bytes()[0] == ' ') ? 1 : 0;
    out.append(text, 0, sign);
    fill(out, space);
    out.append(text, sign, text.size());
    return out;
  }
  fill(out, left);
  out.append(text);
  fill(out, space - left);
  return out;
}

std::string grouped(const std::string& digits, char separator) {
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += separator;
    out += digits[i];
  }
  return out;
}

std::string integer_text(std::int64_t value, const Spec& spec) {
  const bool negative = value < 0;
  const std::uint64_t size = negative ? ~static_cast<std::uint64_t>(value) + 1 : static_cast<std::uint64_t>(value);
  std::string digits;
  std::string_view prefix;
  switch (spec.type) {
    case 'x':
      digits = fmt::format("{:x}", size);
      prefix = "0x";
      break;
    case 'X':
      digits = fmt::format("{:X}", size);
      prefix = "0X";
      break;
    case 'o':
      digits = fmt::format("{:o}", size);
      prefix = "0o";
      break;
    case 'b':
      digits = fmt::format("{:b}", size);
      prefix = "0b";
      break;
    default:
      digits = fmt::format("{}", size);
  }
  if (spec.group != '\0') digits = grouped(digits, spec.group);
  const std::string_view sign = negative ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "";
  return fmt::format("{}{}{}", sign, spec.alternate ? prefix : "", digits);
}

std::string float_in(double value, const Spec& spec) {
  std::string text = number_text(std::fabs(value), spec.type, spec.precision, spec.alternate);
  if (spec.group != '\0') {
    const std::size_t end = std::min(text.find_first_of(".e"), text.size());
    text = grouped(text.substr(0, end), spec.group) + text.substr(end);
  }
  const std::string_view sign = std::signbit(value) ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "";
  return fmt::format("{}{}", sign, text);
}

MarkedText cut(const MarkedText& text, int precision) {
  if (precision < 0) return text;
  return text.part(0, byte_of_character(text.view(), static_cast<std::size_t>(precision)));
}

bool is_float_type(char type) { return std::string_view("eEfFgG%").find(type) != std::string_view::npos; }

// One value of "%": the spec's type tells how.
MarkedText printf_value(Machine& machine, const Value& value, Spec spec) {
  const auto number = [&] {
    require_defined(value);
    if (!value.is_number()) throw Failure(fmt::format("%{} of a {}, expected a number", spec.type, type_name(value)));
  };
  switch (spec.type) {
    case 's':
      return padded(cut(machine.text(value), spec.precision), spec, spec.align == '<' ? '<' : '>');
    case 'r':
    case 'a': {
      MarkedText text;
      append_repr(text, value, machine.budget());
      return padded(cut(text, spec.precision), spec, spec.align == '<' ? '<' : '>');
    }
    case 'c':
      return padded(
          value.is_integer() ? cut(format_text(machine, MarkedText("{:c}"), {{value}, {}}), 1) : to_string(value, "%c"),
          spec, '>');
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o': {
      number();
      if (!value.is_integer() && !(std::fabs(value.number()) < 9.2e18)) throw Failure("a number does not fit 64 bits");
      const std::int64_t whole = value.is_integer() ? value.integer() : static_cast<std::int64_t>(value.number());
      if (spec.type == 'i' || spec.type == 'u') spec.type = 'd';
      if (spec.zero && spec.align != '<') spec.fill.assign(1, '0');
      return padded(MarkedText(integer_text(whole, spec)), spec, spec.align == '<' ? '<' : spec.zero ? '=' : '>');
    }
    default:
      number();
      if (spec.precision < 0) spec.precision = 6;
      if (spec.zero && spec.align != '<') spec.fill.assign(1, '0');
      return padded(MarkedText(float_in(value.number(), spec)), spec, spec.align == '<' ? '<' : spec.zero ? '=' : '>');
  }
}

Spec format_spec(std::string_view text) {
  Spec spec;
  std::size_t i = 0;
  constexpr std::string_view kAligns = "<>^=";
  const std::size_t first = text.empty() ? 0 : next_character(text, 0);
  if (first < text.size() && kAligns.find(text[first]) != std::string_view::npos) {
    spec.fill = text.substr(0, first);
    spec.align = text[first];
    i = first + 1;
  } else if (!text.empty() && kAligns.find(text[0]) != std::string_view::npos) {
    spec.align = text[i++];
  }
  const auto take = [&](char c) { return i < text.size() && text[i] == c ? (++i, true) : false; };
  for (const char sign : {'+', '-', ' '}) {
    if (take(sign)) {
      spec.sign = sign;
      break;
    }
  }
  spec.alternate = take('#');
  spec.zero = take('0');
  spec.width = read_count(text, i);
  if (take(',')) spec.group = ',';
  if (take('_')) spec.group = '_';
  if (take('.')) {
    if (i == text.size() || text[i] < '0' || text[i] > '9')
      throw Failure("a format has a '.' without digits behind it");
    spec.precision = read_count(text, i);
  }
  if (i < text.size()) spec.type = text[i++];
  if (i < text.size()) throw Failure(fmt::format("the format '{}' is not understood", text));
  return spec;
}

MarkedText format_value(Machine& machine, const Value& value, std::string_view text) {
  if (text.empty()) return machine.text(value);
  Spec spec = format_spec(text);
  require_defined(value);
  if (spec.zero) {
    spec.fill.assign(1, '0');
    if (spec.align == '\0') spec.align = '=';
  }
  const bool as_text = value.is_string() || spec.type == 's';
  if (as_text || (!value.is_number() && spec.type == '\0')) {
    if (!value.is_string()) throw Failure(fmt::format("the format '{}' does not fit a {}", text, type_name(value)));
    if (spec.type != '\0' && spec.type != 's') throw Failure(fmt::format("the format '{}' does not fit a str", text));
    return padded(cut(value.text(), spec.precision), spec, spec.align == '\0' || spec.align == '=' ? '<' : spec.align);
  }
  if (!value.is_number()) throw Failure(fmt::format("the format '{}' does not fit a {}", text, type_name(value)));
  const char align = spec.align == '\0' ? '>' : spec.align;
  if (value.is_integer() && !is_float_type(spec.type == '\0' ? 'd' : spec.type)) {
    if (std::string_view("bcdoxX").find(spec.type) == std::string_view::npos && spec.type != '\0') {
      throw Failure(fmt::format("the format '{}' is not understood", text));
    }
    if (spec.type == 'c') {
      if (value.integer() < 1 || value.integer() > 0x7F) throw Failure("the format 'c' is for ASCII characters only");
      return padded(MarkedText(std::string(1, static_cast<char>(value.integer()))), spec, align);
    }
    return padded(MarkedText(integer_text(value.integer(), spec)), spec, align);
  }
  if (spec.type != '\0' && !is_float_type(spec.type))
    throw Failure(fmt::format("the format '{}' does not fit a float", text));
  if (spec.type != '\0' && spec.precision < 0) spec.precision = 6;
  return padded(MarkedText(float_in(value.number(), spec)), spec, align);
}

}  // namespace

std::string number_text(double value, char type, int precision, bool alternate) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return "inf";
  switch (type) {
    case 'e':
      return fmt::format("{:.{}e}", value, precision);
    case 'E':
      return fmt::format("{:.{}E}", value, precision);
    case 'f':
    case 'F':
      return fmt::format("{:.{}f}", value, precision);
    case '%':
      return fmt::format("{:.{}f}%", value * 100.0, precision);
    case 'G':
      return fmt::format("{:.{}G}", value, std::max(1, precision));
    case 'g':
      return alternate ? fmt::format("{:#.{}g}", value, std::max(1, precision))
                       : fmt::format("{:.{}g}", value, std::max(1, precision));
    default: {
      if (precision < 0) return float_text(value);
      // Without a type: as g, but with a digit behind the point.
      std::string text = fmt::format("{:.{}g}", value, std::max(1, precision));
      if (text.find_first_of(".e") == std::string::npos) text.append(".0");
      return text;
    }
  }
}

MarkedText printf_text(Machine& machine, const MarkedText& format, const Value& values) {
  MarkedText out;
  const std::string_view text = format.view();
  const bool is_tuple = values.is_list() && values.list().kind == List::Kind::kTuple;
  std::size_t used = 0, done = 0;
  const auto next_value = [&]() -> Value {
    const std::size_t count = is_tuple ? values.list().items.size() : 1;
    if (used >= count) throw Failure("not enough values for the % of a string");
    return is_tuple ? values.list().items[used++] : (++used, values);
  };
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] != '%') {
      ++i;
      continue;
    }
    out.append(format, done, i++);
    Spec spec;
    bool by_name = false;
    Value value;
    if (i < text.size() && text[i] == '(') {
      const std::size_t close = text.find(')', i);
      if (close == std::string_view::npos) throw Failure("a % of a string has a '(' without a ')'");
      if (!values.is_dict()) throw Failure("a % with a name needs a dict");
      const Value* found = values.dict().find(text.substr(i + 1, close - i - 1));
      if (found == nullptr) throw Failure(fmt::format("there is no value '{}'", text.substr(i + 1, close - i - 1)));
      value = *found;
      by_name = true;
      i = close + 1;
    }
    for (; i < text.size() && std::string_view("-+ 0#").find(text[i]) != std::string_view::npos; ++i) {
      if (text[i] == '-') spec.align = '<';
      if (text[i] == '+') spec.sign = '+';
      if (text[i] == ' ' && spec.sign != '+') spec.sign = ' ';
      if (text[i] == '0') spec.zero = true;
      if (text[i] == '#') spec.alternate = true;
    }
    spec.width = read_count(text, i);
    if (i < text.size() && text[i] == '.') spec.precision = read_count(text, ++i);
    if (i == text.size()) throw Failure("a string ends within a %");
    spec.type = text[i++];
    done = i;
    if (spec.type == '%') {
      out.append("%");
      continue;
    }
    if (std::string_view("sracdiuxXoeEfFgG").find(spec.type) == std::string_view::npos) {
      throw Failure(fmt::format("a % of a string has the unknown type '{}'", spec.type));
    }
    if (!by_name) value = next_value();
    out.append(printf_value(machine, value, spec));
    machine.budget().need(out.memory());
    machine.budget().work_on(out.size());
  }
  out.append(format, done, text.size());
  if (is_tuple && used < values.list().items.size()) throw Failure("more values than the string has %");
  return out;
}

MarkedText format_text(Machine& machine, const MarkedText& format, const Arguments& arguments) {
  MarkedText out;
  const std::string_view text = format.view();
  std::int64_t automatic = 0;
  std::size_t done = 0;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] != '{' && text[i] != '}') {
      ++i;
      continue;
    }
    if (i + 1 < text.size() && text[i + 1] == text[i]) {
      out.append(format, done, i + 1);
      i += 2;
      done = i;
      continue;
    }
    if (text[i] == '}') throw Failure("a format has a '}' without a '{'");
    out.append(format, done, i);
    const std::size_t close = text.find_first_of("{}", i + 1);
    if (close == std::string_view::npos || text[close] == '{') throw Failure("a '{' of a format is not closed by '}'");
    std::string_view field = text.substr(i + 1, close - i - 1), spec;
    if (const std::size_t colon = field.find(':'); colon != std::string_view::npos) {
      spec = field.substr(colon + 1);
      field = field.substr(0, colon);
    }
    char conversion = '\0';
    if (const std::size_t mark = field.find('!'); mark != std::string_view::npos) {
      if (mark + 2 != field.size() || (field[mark + 1] != 's' && field[mark + 1] != 'r')) {
        throw Failure("a format has a conversion other than !s and !r");
      }
      conversion = field[mark + 1];
      field = field.substr(0, mark);
    }
    const std::size_t name_end = std::min(field.find_first_of(".["), field.size());
    const std::string_view name = field.substr(0, name_end);
    Value value;
    const bool is_index = std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (is_index) {
      std::size_t at = 0;
      if ((name.empty() && automatic < 0) || (!name.empty() && automatic > 0)) {
        throw Failure("a format mixes fields with and without numbers");
      }
      const std::int64_t index = name.empty() ? automatic++ : (automatic = -1, read_count(name, at));
      if (index >= static_cast<std::int64_t>(arguments.positional.size()))
        throw Failure("a format has more fields than values");
      value = arguments.positional[static_cast<std::size_t>(index)];
    } else {
      const auto found = std::find_if(arguments.named.begin(), arguments.named.end(),
                                      [name](const auto& one) { return one.first == name; });
      if (found == arguments.named.end())
        throw Failure(fmt::format("a format has the field '{}' without a value", name));
      value = found->second;
    }
    for (std::size_t k = name_end; k < field.size();) {
      const bool bracket = field[k] == '[';
      const std::size_t end = bracket ? field.find(']', k) : std::min(field.find_first_of(".[", k + 1), field.size());
      if (end == std::string_view::npos) throw Failure("a '[' of a format is not closed by ']'");
      const std::string key(field.substr(k + 1, end - k - 1));
      std::size_t at = 0;
      const bool number = bracket && !key.empty() && key.find_first_not_of("0123456789") == std::string::npos;
      value = !bracket ? machine.attribute(value, key)
              : number ? machine.item(value, Value(std::int64_t{read_count(key, at)}))
                       : machine.item(value, machine.string(key));
      require_defined(value);
      k = end + (bracket ? 1 : 0);
    }
    if (conversion == 'r') {
      MarkedText repr;
      append_repr(repr, value, machine.budget());
      value = machine.string(std::move(repr));
    } else if (conversion == 's') {
      value = machine.string(machine.text(value));
    }
    out.append(format_value(machine, value, spec));
    machine.budget().need(out.memory());
    machine.budget().work_on(out.size());
    i = done = close + 1;
  }
  out.append(format, done, text.size());
  return out;
}

}  // namespace switchyard::text::jinja
