#include "json.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "machine.hpp"
#include "unicode_text.hpp"

namespace switchyard::text::jinja {
namespace {

using Json = nlohmann::ordered_json;

// The roles of every family. Templates spell tokens with them, '<|' + role + '|>', so a role is the template's own
// text.
bool is_known_role(const Json& value) {
  constexpr std::array kRoles = {"system", "developer", "user", "assistant", "tool"};
  return std::find(kRoles.begin(), kRoles.end(), value) != kRoles.end();
}

Value convert(const Json& json, Origin origin) {
  switch (json.type()) {
    case Json::value_t::null:
      return Value(None{});
    case Json::value_t::boolean:
      return Value(json.get<bool>());
    case Json::value_t::number_integer:
      return Value(json.get<std::int64_t>());
    case Json::value_t::number_unsigned: {
      const auto number = json.get<std::uint64_t>();
      return number > INT64_MAX ? Value(static_cast<double>(number)) : Value(static_cast<std::int64_t>(number));
    }
    case Json::value_t::number_float:
      return Value(json.get<double>());
    case Json::value_t::array: {
      std::vector<Value> items;
      for (const Json& item : json) items.push_back(convert(item, origin));
      return Value(std::make_shared<List>(std::move(items), List::Kind::kList, nullptr));
    }
    case Json::value_t::object: {
      const auto dict = std::make_shared<Dict>(nullptr);
      // What the model wrote is marked as such.
      const auto role = json.find("role");
      const bool generated = origin == Origin::kUser && role != json.end() && *role == "assistant";
      for (const auto& [key, value] : json.items()) {
        const Value name(std::make_shared<const String>(MarkedText(key, origin), false, nullptr));
        const bool own = key == "role" && is_known_role(value);
        dict->set(name, convert(value, own ? Origin::kTemplate : generated ? Origin::kGenerated : origin));
      }
      return Value(std::shared_ptr<const Dict>(dict));
    }
    default:
      return Value(std::make_shared<const String>(MarkedText(json.get<std::string>(), origin), false, nullptr));
  }
}

struct Style {
  bool ascii = false, sort = false;
  std::string item = ", ", key = ": ";
  bool lines = false;
  MarkedText indent;
};

std::string quoted(std::string_view text, bool ascii) {
  std::string out = "\"";
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t end = next_character(text, i);
    const auto code = static_cast<std::uint32_t>(character_at(text, i));
    switch (code) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (code < 0x20 || (ascii && code >= 0x7F && code < 0x10000)) {
          out += fmt::format("\\u{:04x}", code);
        } else if (ascii && code >= 0x10000) {
          out +=
              fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((code - 0x10000) >> 10), 0xDC00 + ((code - 0x10000) & 0x3FF));
        } else {
          out += text.substr(i, end - i);
        }
    }
    i = end;
  }
  return out + '"';
}

class Writer {
 public:
  Writer(Machine& machine, const Style& style) : machine_(machine), style_(style) {}

  void write(MarkedText& out, const Value& value, std::size_t depth) {
    const Level level(machine_.budget());
    machine_.budget().step();
    switch (value.type()) {
      case Value::Type::kNone:
        out.append("null");
        break;
      case Value::Type::kBool:
        out.append(value.boolean() ? "true" : "false");
        break;
      case Value::Type::kInt:
        out.append(std::to_string(value.integer()));
        break;
      case Value::Type::kFloat:
        out.append(number(value.number()));
        break;
      case Value::Type::kString:
        machine_.budget().work_on(value.text().size() * 8);
        out.append(quoted(value.view(), style_.ascii), value.text().origin());
        break;
      case Value::Type::kDict:
        write_dict(out, value.dict(), depth);
        break;
      case Value::Type::kList:
        if (value.list().kind == List::Kind::kList || value.list().kind == List::Kind::kTuple) {
          write_list(out, value.list(), depth);
          break;
        }
        [[fallthrough]];
      default:
        throw Failure(fmt::format("a {} cannot be written as JSON", type_name(value)));
    }
    machine_.budget().need(out.memory());
  }

 private:
  static std::string number(double value) {
    const std::string text = float_text(value);
    return text == "nan" ? "NaN" : text == "inf" ? "Infinity" : text == "-inf" ? "-Infinity" : text;
  }

  void begin_line(MarkedText& out, std::size_t depth) {
    if (!style_.lines) return;
    out.append("\n");
    machine_.budget().work_on(style_.indent.size() * depth);
    for (std::size_t i = 0; i < depth; ++i) out.append(style_.indent);
  }

  void write_list(MarkedText& out, const List& list, std::size_t depth) {
    out.append("[");
    bool first = true;
    for (const Value& item : list.items) {
      if (!first) out.append(style_.item);
      first = false;
      begin_line(out, depth + 1);
      write(out, item, depth + 1);
    }
    if (!first) begin_line(out, depth);
    out.append("]");
  }

  void write_dict(MarkedText& out, const Dict& dict, std::size_t depth) {
    std::vector<const std::pair<Value, Value>*> items;
    for (const auto& item : dict.items) items.push_back(&item);
    if (style_.sort) {
      std::stable_sort(items.begin(), items.end(),
                       [this](const auto* a, const auto* b) { return less(a->first, b->first, machine_.budget()); });
    }
    out.append("{");
    bool first = true;
    for (const auto* item : items) {
      if (!first) out.append(style_.item);
      first = false;
      begin_line(out, depth + 1);
      const Value& key = item->first;
      if (key.is_string()) {
        write(out, key, depth);
      } else {
        MarkedText name;
        write(name, key, depth);
        out.append(fmt::format("\"{}\"", name.bytes()));
      }
      out.append(style_.key);
      write(out, item->second, depth + 1);
    }
    if (!first) begin_line(out, depth);
    out.append("}");
  }

  Machine& machine_;
  const Style& style_;
};

}  // namespace

Value from_json(std::string_view text, std::string_view what, Origin origin) {
  constexpr int kDeepest = kDeepestNesting - 10;  // the template may wrap it
  bool too_deep = false;
  const auto depth_check = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kDeepest;
    return !too_deep;
  };
  try {
    const Json json = Json::parse(text, depth_check);
    if (!too_deep) return convert(json, origin);
  } catch (const nlohmann::json::exception& error) {
    const std::string_view message = error.what();
    const std::size_t end = message.find("] ");
    throw Failure(
        fmt::format("{} are not JSON: {}", what, end == std::string_view::npos ? message : message.substr(end + 2)));
  }
  throw Failure(fmt::format("{} are nested more than {} deep", what, kDeepest));
}

// Source: json.dumps of Python, which transformers uses for the filter tojson, with ensure_ascii off.
MarkedText to_json(Machine& machine, const Value& value, Arguments& arguments) {
  const auto given = bind(arguments, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  Style style;
  style.ascii = truth_or(given[0], false);
  style.sort = truth_or(given[3], false);
  if (given[1] != nullptr && !given[1]->is_none()) {
    style.lines = true;
    style.item.assign(1, ',');
    if (given[1]->is_string()) {
      style.indent = given[1]->text();
    } else {
      const std::int64_t width = std::max<std::int64_t>(0, to_integer(*given[1], "indent"));
      if (width > 1000) throw Failure("tojson: an indent of more than 1000");
      style.indent = MarkedText(std::string(static_cast<std::size_t>(width), ' '));
    }
  }
  if (given[2] != nullptr && !given[2]->is_none()) {
    const auto pair = machine.iterate(*given[2]);
    if (pair->items.size() != 2) throw Failure("tojson: expected two separators");
    style.item = to_string(pair->items[0], "a separator").bytes();
    style.key = to_string(pair->items[1], "a separator").bytes();
  }
  MarkedText out;
  Writer(machine, style).write(out, value, 0);
  return out;
}

}  // namespace switchyard::text::jinja
