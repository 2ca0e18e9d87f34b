// Methods of list, tuple and dict.

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "machine.hpp"

namespace switchyard::text::jinja {
namespace {

using Kind = List::Kind;

Value index_method(Machine& machine, const Value& self, Arguments& arguments) {
  const auto given = bind(arguments, "index", {"value"}, 1);
  const auto& items = self.list().items;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (equal(items[i], *given[0], machine.budget())) return Value(static_cast<std::int64_t>(i));
  }
  throw Failure("index: the value is not in the list");
}

Value count_method(Machine& machine, const Value& self, Arguments& arguments) {
  const auto given = bind(arguments, "count", {"value"}, 1);
  const auto& items = self.list().items;
  return Value(std::int64_t{std::count_if(
      items.begin(), items.end(), [&](const Value& item) { return equal(item, *given[0], machine.budget()); })});
}

Value copy_method(Machine& machine, const Value& self, Arguments& arguments) {
  bind(arguments, "copy", {});
  return machine.list(self.list().items);
}

// transformers forbids these; other programs do not, and a few published templates rely on them. A list that the
// template made itself may change; what was handed to it may not.
List& changeable(Machine& machine, const Value& self, std::string_view name) {
  List& list = self.list();
  if (!list.made_by_template()) {
    throw Failure(fmt::format("{}: the list was handed to the template and cannot be changed", name));
  }
  machine.budget().step(1 + list.items.size() / 8);
  return list;
}

void put(Machine& machine, const Value& self, const Value& value) {
  if (value.nesting() > 0) machine.keep(self.list_pointer());
  self.list().append(value);
}

Value append_method(Machine& machine, const Value& self, Arguments& arguments) {
  const auto given = bind(arguments, "append", {"object"}, 1);
  changeable(machine, self, "append");
  put(machine, self, *given[0]);
  return Value(None{});
}

Value extend_method(Machine& machine, const Value& self, Arguments& arguments) {
  const auto given = bind(arguments, "extend", {"iterable"}, 1);
  changeable(machine, self, "extend");
  const std::vector<Value> more = machine.iterate(*given[0])->items;
  for (const Value& value : more) put(machine, self, value);
  return Value(None{});
}

Value insert_method(Machine& machine, const Value& self, Arguments& arguments) {
  const auto given = bind(arguments, "insert", {"index", "object"}, 2);
  List& list = changeable(machine, self, "insert");
  const auto length = static_cast<std::int64_t>(list.items.size());
  std::int64_t index = to_integer(*given[0], "the index");
  if (index < 0) index = std::max<std::int64_t>(0, index < -length ? 0 : index + length);
  put(machine, self, *given[1]);
  std::rotate(list.items.begin() + std::min(index, length), list.items.end() - 1, list.items.end());
  return Value(None{});
}

Value pop_method(Machine& machine, const Value& self, Arguments& arguments) {
  const auto given = bind(arguments, "pop", {"index"});
  List& list = changeable(machine, self, "pop");
  const auto length = static_cast<std::int64_t>(list.items.size());
  std::int64_t index = integer_or(given[0], -1, "the index");
  if (index < 0) index += length;
  if (index < 0 || index >= length)
    throw Failure(length == 0 ? "pop from an empty list" : "pop: there is no such item");
  const auto at = list.items.begin() + index;
  Value value = std::move(*at);
  list.items.erase(at);
  return value;
}

Value view_of(Machine& machine, const Value& self, Kind kind) {
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict().items) {
    items.push_back(kind == Kind::kKeys     ? key
                    : kind == Kind::kValues ? value
                                            : machine.list({key, value}, Kind::kTuple));
  }
  return machine.list(std::move(items), kind);
}
Value items_method(Machine& machine, const Value& self, Arguments& arguments) {
  bind(arguments, "items", {});
  return view_of(machine, self, Kind::kItems);
}
Value keys_method(Machine& machine, const Value& self, Arguments& arguments) {
  bind(arguments, "keys", {});
  return view_of(machine, self, Kind::kKeys);
}
Value values_method(Machine& machine, const Value& self, Arguments& arguments) {
  bind(arguments, "values", {});
  return view_of(machine, self, Kind::kValues);
}

Value get_method(Machine&, const Value& self, Arguments& arguments) {
  const auto given = bind(arguments, "get", {"key", "default"}, 1);
  if (const Value* found = self.dict().find(*given[0])) return *found;
  return given[1] == nullptr ? Value(None{}) : *given[1];
}

Value dict_copy_method(Machine& machine, const Value& self, Arguments& arguments) {
  bind(arguments, "copy", {});
  const auto copy = machine.dict();
  machine.budget().step(self.dict().items.size());
  for (const auto& [key, value] : self.dict().items) copy->set(key, value);
  return Value(std::shared_ptr<const Dict>(copy));
}

Value unsafe_method(Machine&, const Value&, Arguments&) { throw Failure("a template may not change a dict"); }

constexpr std::array kListMethods = {
    NamedFilter{"append", append_method}, NamedFilter{"copy", copy_method},   NamedFilter{"count", count_method},
    NamedFilter{"extend", extend_method}, NamedFilter{"index", index_method}, NamedFilter{"insert", insert_method},
    NamedFilter{"pop", pop_method},
};
constexpr std::array kTupleMethods = {NamedFilter{"count", count_method}, NamedFilter{"index", index_method}};
constexpr std::array kDictMethods = {
    NamedFilter{"clear", unsafe_method},   NamedFilter{"copy", dict_copy_method},
    NamedFilter{"get", get_method},        NamedFilter{"items", items_method},
    NamedFilter{"keys", keys_method},      NamedFilter{"pop", unsafe_method},
    NamedFilter{"popitem", unsafe_method}, NamedFilter{"setdefault", unsafe_method},
    NamedFilter{"update", unsafe_method},  NamedFilter{"values", values_method},
};

}  // namespace

Filter find_method(const Value& object, std::string_view name) {
  if (object.is_string()) return find_string_method(name);
  if (object.is_dict()) return find_named(kDictMethods, name);
  if (!object.is_list()) return nullptr;
  const Kind kind = object.list().kind;
  if (kind == Kind::kList) return find_named(kListMethods, name);
  return kind == Kind::kTuple || kind == Kind::kRange ? find_named(kTupleMethods, name) : nullptr;
}

}  // namespace switchyard::text::jinja
