#include "value.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "unicode_text.hpp"

namespace switchyard::text::jinja {
namespace {

constexpr std::string_view kPlain =
    " !\"#$%&()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~";

std::string quoted(std::string_view text) {
  const bool single = text.find('\'') != std::string_view::npos, twice = text.find('"') != std::string_view::npos;
  const char quote = single && !twice ? '"' : '\'';
  std::string result(1, quote);
  for (std::size_t byte = 0; byte < text.size();) {
    const char ascii = text[byte];
    const std::size_t end = next_character(text, byte);
    if (kPlain.find(ascii) != std::string_view::npos && ascii != quote) {
      result += ascii;
    } else if (ascii == quote || ascii == '\\') {
      result += '\\';
      result += ascii;
    } else if (ascii == '\n') {
      result += "\\n";
    } else if (ascii == '\r') {
      result += "\\r";
    } else if (ascii == '\t') {
      result += "\\t";
    } else {
      const char32_t c = character_at(text, byte);
      const auto number = static_cast<std::uint32_t>(c);
      if (is_printable(c)) {
        result += text.substr(byte, end - byte);
      } else if (number < 0x100) {
        result += fmt::format("\\x{:02x}", number);
      } else {
        result += number < 0x10000 ? fmt::format("\\u{:04x}", number) : fmt::format("\\U{:08x}", number);
      }
    }
    byte = end;
  }
  return result + quote;
}

bool is_sequence(const List& list) { return list.kind == List::Kind::kList || list.kind == List::Kind::kTuple; }

void append_items(MarkedText& out, const std::vector<Value>& items, Budget& budget) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out.append(", ");
    append_repr(out, items[i], budget);
  }
}

void append_list(MarkedText& out, const List& list, Budget& budget) {
  using Kind = List::Kind;
  switch (list.kind) {
    case Kind::kGenerator:
      out.append("<generator object>");
      return;
    case Kind::kRange: {
      const std::size_t count = list.items.size();
      const std::int64_t first = count == 0 ? 0 : list.items[0].integer();
      const std::int64_t step = count < 2 ? 1 : list.items[1].integer() - first;
      const std::int64_t end = count == 0 ? 0 : list.items.back().integer() + (step > 0 ? 1 : -1);
      out.append(step == 1 ? fmt::format("range({}, {})", first, end)
                           : fmt::format("range({}, {}, {})", first, end, step));
      return;
    }
    case Kind::kTuple:
      out.append("(");
      append_items(out, list.items, budget);
      out.append(list.items.size() == 1 ? ",)" : ")");
      return;
    case Kind::kList:
      out.append("[");
      append_items(out, list.items, budget);
      out.append("]");
      return;
    default:
      out.append(
          fmt::format("{}([", type_name(Value(std::make_shared<List>(std::vector<Value>{}, list.kind, nullptr)))));
      append_items(out, list.items, budget);
      out.append("])");
  }
}

int nesting_of(const std::vector<Value>& items) {
  int deepest = 0;
  for (const Value& item : items) deepest = std::max(deepest, item.nesting());
  return deepest + 1;
}

void check_nesting(int nesting) {
  if (nesting > kDeepestNesting) {
    throw Failure(fmt::format("values lie more than {} deep in one another", kDeepestNesting));
  }
}

}  // namespace

void Budget::too_long() const {
  throw Failure(fmt::format("takes too long: more than {} million steps", limits_.steps / 1'000'000));
}
void Budget::too_much() const {
  throw Failure(fmt::format("takes too much memory: more than {} MiB", limits_.bytes >> 20));
}
void Budget::too_deep() const { throw Failure("calls itself too often, or is nested too deep"); }

Value Value::undefined(std::string reason) {
  Value value;
  value.payload_ = std::make_shared<const String>(MarkedText(std::move(reason)), false, nullptr);
  return value;
}

const std::string& Value::reason() const {
  static const std::string kNone;
  return payload_ ? string().text.bytes() : kNone;
}

int Value::nesting() const {
  switch (type()) {
    case Type::kList:
      return list().nesting;
    case Type::kDict:
      return dict().nesting;
    case Type::kObject:
      return object().nesting();
    default:
      return 0;
  }
}

std::size_t String::length() const {
  if (length_ == kUnknown) length_ = count_characters(text.view());
  return length_;
}

List::List(std::vector<Value> values, Kind what, Budget* budget)
    : Charged(budget), items(std::move(values)), kind(what), nesting(nesting_of(items)) {
  check_nesting(nesting);
  charge(sizeof(List) + items.size() * sizeof(Value));
}

void List::append(Value value) {
  check_nesting(value.nesting() + 1);
  charge(sizeof(Value));
  nesting = std::max(nesting, value.nesting() + 1);
  items.push_back(std::move(value));
}

std::size_t Dict::position(const Value& key) const {
  if (key.is_string()) {
    const auto found = strings_.find(key.view());
    return found == strings_.end() ? kNowhere : found->second;
  }
  if (key.is_number()) {
    const auto found = numbers_.find(key.number());
    return found == numbers_.end() ? kNowhere : found->second;
  }
  return key.is_none() ? none_ : kNowhere;
}

const Value* Dict::find(const Value& key) const {
  const std::size_t found = position(key);
  return found == kNowhere ? nullptr : &items[found].second;
}

const Value* Dict::find(std::string_view key) const {
  const auto found = strings_.find(key);
  return found == strings_.end() ? nullptr : &items[found->second].second;
}

void Dict::set(const Value& key, Value value) {
  check_nesting(value.nesting() + 1);
  nesting = std::max(nesting, value.nesting() + 1);
  const std::size_t found = position(key);
  if (found != kNowhere) {
    items[found].second = std::move(value);
    return;
  }
  constexpr std::size_t kIndexEntry = 48;
  charge(sizeof(items[0]) + kIndexEntry);
  const std::size_t at = items.size();
  items.emplace_back(key, std::move(value));
  if (key.is_string()) {
    strings_.emplace(items.back().first.view(), at);
  } else if (key.is_number()) {
    numbers_.emplace(key.number(), at);
  } else if (key.is_none()) {
    none_ = at;
  } else {
    throw Failure(fmt::format("a key of a dict is a {}, expected a string or a number", type_name(key)));
  }
}

std::string type_name(const Value& value) {
  switch (value.type()) {
    case Value::Type::kUndefined:
      return "Undefined";
    case Value::Type::kNone:
      return "NoneType";
    case Value::Type::kBool:
      return "bool";
    case Value::Type::kInt:
      return "int";
    case Value::Type::kFloat:
      return "float";
    case Value::Type::kString:
      return value.string().markup ? "Markup" : "str";
    case Value::Type::kDict:
      return "dict";
    case Value::Type::kObject:
      return value.object().type_name();
    case Value::Type::kList:
      break;
  }
  switch (value.list().kind) {
    case List::Kind::kList:
      return "list";
    case List::Kind::kTuple:
      return "tuple";
    case List::Kind::kGenerator:
      return "generator";
    case List::Kind::kRange:
      return "range";
    case List::Kind::kKeys:
      return "dict_keys";
    case List::Kind::kValues:
      return "dict_values";
    case List::Kind::kItems:
      return "dict_items";
  }
  return {};
}

std::string described(const Value& value) { return value.is_none() ? "None" : type_name(value) + " object"; }

void require_defined(const Value& value) {
  if (!value.is_undefined()) return;
  throw Failure(value.reason().empty() ? "the value is undefined" : value.reason());
}

bool truth(const Value& value) {
  switch (value.type()) {
    case Value::Type::kUndefined:
    case Value::Type::kNone:
      return false;
    case Value::Type::kBool:
      return value.boolean();
    case Value::Type::kInt:
      return value.integer() != 0;
    case Value::Type::kFloat:
      return value.number() != 0.0;
    case Value::Type::kString:
      return !value.text().empty();
    case Value::Type::kList:
      return value.list().kind == List::Kind::kGenerator || !value.list().items.empty();
    case Value::Type::kDict:
      return !value.dict().items.empty();
    case Value::Type::kObject:
      return true;
  }
  return false;
}

bool equal(const Value& a, const Value& b, Budget& budget) {
  const Level level(budget);
  budget.step();
  using Type = Value::Type;
  if (a.is_integer() && b.is_integer()) return a.integer() == b.integer();
  if (a.is_number() && b.is_number()) return a.number() == b.number();
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Type::kUndefined:
    case Type::kNone:
      return true;
    case Type::kString:
      budget.work_on(a.text().size());
      return a.view() == b.view();
    case Type::kObject:
      return a.object_pointer() == b.object_pointer();
    case Type::kDict: {
      if (a.dict().items.size() != b.dict().items.size()) return false;
      for (const auto& [key, value] : a.dict().items) {
        const Value* other = b.dict().find(key);
        if (other == nullptr || !equal(value, *other, budget)) return false;
      }
      return true;
    }
    case Type::kList: {
      const List &left = a.list(), &right = b.list();
      if (&left == &right) return true;
      if (left.kind != right.kind || left.kind == List::Kind::kGenerator || left.items.size() != right.items.size()) {
        return false;
      }
      for (std::size_t i = 0; i < left.items.size(); ++i) {
        if (!equal(left.items[i], right.items[i], budget)) return false;
      }
      return true;
    }
    default:
      return false;
  }
}

bool less(const Value& a, const Value& b, Budget& budget) {
  const Level level(budget);
  budget.step();
  require_defined(a);
  require_defined(b);
  if (a.is_integer() && b.is_integer()) return a.integer() < b.integer();
  if (a.is_number() && b.is_number()) return a.number() < b.number();
  if (a.is_string() && b.is_string()) {
    budget.work_on(std::min(a.text().size(), b.text().size()));
    return a.view() < b.view();  // the order of the bytes is that of the characters
  }
  if (a.is_list() && b.is_list() && is_sequence(a.list()) && a.list().kind == b.list().kind) {
    const auto &left = a.list().items, &right = b.list().items;
    for (std::size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
      if (!equal(left[i], right[i], budget)) return less(left[i], right[i], budget);
    }
    return left.size() < right.size();
  }
  throw Failure(fmt::format("'<' is not defined between a {} and a {}", type_name(a), type_name(b)));
}

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  // The shortest digits that name the number, then laid out as Python's repr does.
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t e = text.find('e');
  int exponent = 0;
  const std::size_t digits_of_exponent = text[e + 1] == '+' ? e + 2 : e + 1;
  std::from_chars(buffer + digits_of_exponent, end, exponent);
  const std::string sign = text[0] == '-' ? "-" : "";
  std::string digits;
  for (const char c : text.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    std::string mantissa = digits.substr(0, 1);
    if (count > 1) mantissa.append(1, '.').append(digits, 1);
    return fmt::format("{}{}e{}{:02}", sign, mantissa, exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0)
    return fmt::format("{}0.{}{}", sign, std::string(static_cast<std::size_t>(-exponent - 1), '0'), digits);
  if (count <= exponent + 1)
    return sign + digits + std::string(static_cast<std::size_t>(exponent + 1 - count), '0') + ".0";
  const auto whole = static_cast<std::size_t>(exponent + 1);
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

MarkedText to_text(const Value& value, Budget& budget) {
  if (value.is_undefined()) return {};
  if (value.is_string()) return value.text();
  MarkedText out;
  append_repr(out, value, budget);
  return out;
}

void append_repr(MarkedText& out, const Value& value, Budget& budget) {
  const Level level(budget);
  budget.step();
  switch (value.type()) {
    case Value::Type::kUndefined:
      out.append("Undefined");
      break;
    case Value::Type::kNone:
      out.append("None");
      break;
    case Value::Type::kBool:
      out.append(value.boolean() ? "True" : "False");
      break;
    case Value::Type::kInt:
      out.append(std::to_string(value.integer()));
      break;
    case Value::Type::kFloat:
      out.append(float_text(value.number()));
      break;
    case Value::Type::kString:
      budget.work_on(value.text().size() * 8);
      out.append(quoted(value.view()), value.text().origin());
      break;
    case Value::Type::kList:
      append_list(out, value.list(), budget);
      break;
    case Value::Type::kDict: {
      out.append("{");
      bool first = true;
      for (const auto& [key, item] : value.dict().items) {
        if (!first) out.append(", ");
        first = false;
        append_repr(out, key, budget);
        out.append(": ");
        append_repr(out, item, budget);
      }
      out.append("}");
      break;
    }
    case Value::Type::kObject:
      out.append(fmt::format("<{} object>", value.object().type_name()));
      break;
  }
  budget.need(out.memory());
}

}  // namespace switchyard::text::jinja
