// Filters on lists and dicts.

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "machine.hpp"
#include "unicode_text.hpp"

namespace switchyard::text::jinja {
namespace {

using Kind = List::Kind;

Value length_filter(Machine& machine, const Value& input, Arguments& arguments) {
  bind(arguments, "length", {});
  if (input.is_string()) {
    machine.budget().work_on(input.text().size());
    return Value(static_cast<std::int64_t>(input.string().length()));
  }
  if (input.is_dict()) return Value(static_cast<std::int64_t>(input.dict().items.size()));
  if (input.is_undefined()) return Value(std::int64_t{0});
  if (!input.is_list() || input.list().kind == Kind::kGenerator) {
    throw Failure(fmt::format("a {} has no length", type_name(input)));
  }
  return Value(static_cast<std::int64_t>(input.list().items.size()));
}

Value default_filter(Machine& machine, const Value& input, Arguments& arguments) {
  const auto given = bind(arguments, "default", {"default_value", "boolean"});
  if (!input.is_undefined() && !(truth_or(given[1], false) && !truth(input))) return input;
  return given[0] == nullptr ? machine.string(std::string()) : *given[0];
}

Value first_filter(Machine& machine, const Value& input, Arguments& arguments) {
  bind(arguments, "first", {});
  const auto items = machine.iterate(input);
  return items->items.empty() ? Machine::undefined("there is no first item, the sequence is empty")
                              : items->items.front();
}

Value last_filter(Machine& machine, const Value& input, Arguments& arguments) {
  bind(arguments, "last", {});
  const auto items = machine.iterate(input);
  return items->items.empty() ? Machine::undefined("there is no last item, the sequence is empty")
                              : items->items.back();
}

Value list_filter(Machine& machine, const Value& input, Arguments& arguments) {
  bind(arguments, "list", {});
  return machine.list(machine.iterate(input)->items);
}

Value items_of(Machine& machine, const Value& dict, Kind kind) {
  std::vector<Value> items;
  for (const auto& [key, value] : dict.dict().items) items.push_back(machine.list({key, value}, Kind::kTuple));
  return machine.list(std::move(items), kind);
}

Value items_filter(Machine& machine, const Value& input, Arguments& arguments) {
  bind(arguments, "items", {});
  if (input.is_undefined()) return machine.list({}, Kind::kGenerator);
  if (!input.is_dict()) throw Failure(fmt::format("items of a {}, expected a dict", type_name(input)));
  return items_of(machine, input, Kind::kGenerator);
}

Value join_filter(Machine& machine, const Value& input, Arguments& arguments) {
  const auto given = bind(arguments, "join", {"d", "attribute"});
  std::vector<Value> items = machine.iterate(input)->items;
  if (given[1] != nullptr && !given[1]->is_none()) {
    for (Value& item : items) item = attribute_path(machine, item, *given[1]);
  }
  return machine.string(joined(machine, items, given[0] == nullptr ? MarkedText() : machine.text(*given[0])));
}

// map and its like take anything that is false, none too, for no items.
std::shared_ptr<List> items_if_any(Machine& machine, const Value& input) {
  return truth(input) ? machine.iterate(input) : machine.iterate(Value());
}

Value map_filter(Machine& machine, const Value& input, Arguments& arguments) {
  std::vector<Value> results;
  const bool by_attribute = arguments.positional.empty();
  if (by_attribute) {
    const auto given = bind(arguments, "map", {"attribute", "default"}, 1);
    const auto source = items_if_any(machine, input);
    for (const Value& item : source->items) {
      results.push_back(attribute_path(machine, item, *given[0], given[1]));
    }
  } else {
    const std::string name = to_string(arguments.positional[0], "the name of the filter").bytes();
    Arguments rest;
    rest.positional.assign(arguments.positional.begin() + 1, arguments.positional.end());
    rest.named = arguments.named;
    const auto source = items_if_any(machine, input);
    for (const Value& item : source->items) results.push_back(machine.filter(name, item, rest));
  }
  return machine.list(std::move(results), Kind::kGenerator);
}

// select, reject, selectattr, rejectattr.
Value chosen(Machine& machine, const Value& input, const Arguments& arguments, bool by_attribute, bool wanted) {
  std::size_t used = by_attribute ? 1 : 0;
  if (arguments.positional.size() < used) throw Failure("the name of an attribute is missing");
  std::string test;
  if (arguments.positional.size() > used)
    test = to_string(arguments.positional[used++], "the name of the test").bytes();
  Arguments rest;
  rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(used), arguments.positional.end());
  rest.named = arguments.named;
  std::vector<Value> results;
  const auto source = items_if_any(machine, input);
  for (const Value& item : source->items) {
    machine.budget().step();
    const Value tested = by_attribute ? attribute_path(machine, item, arguments.positional[0]) : item;
    const bool holds = test.empty() ? truth(tested) : machine.test(test, tested, rest);
    if (holds == wanted) results.push_back(item);
  }
  return machine.list(std::move(results), Kind::kGenerator);
}
Value select_filter(Machine& machine, const Value& input, Arguments& arguments) {
  return chosen(machine, input, arguments, false, true);
}
Value reject_filter(Machine& machine, const Value& input, Arguments& arguments) {
  return chosen(machine, input, arguments, false, false);
}
Value selectattr_filter(Machine& machine, const Value& input, Arguments& arguments) {
  return chosen(machine, input, arguments, true, true);
}
Value rejectattr_filter(Machine& machine, const Value& input, Arguments& arguments) {
  return chosen(machine, input, arguments, true, false);
}

// What is compared in place of the value where case does not count.
Value comparable(Machine& machine, const Value& value, bool case_sensitive) {
  return !case_sensitive && value.is_string() ? machine.string(lower(value.view())) : value;
}

Value sort_filter(Machine& machine, const Value& input, Arguments& arguments) {
  const auto given = bind(arguments, "sort", {"reverse", "case_sensitive", "attribute"});
  const Value* path = given[2] != nullptr && !given[2]->is_none() ? given[2] : nullptr;
  return machine.list(
      sorted(machine, machine.iterate(input)->items, truth_or(given[0], false), truth_or(given[1], false), path));
}

Value dictsort_filter(Machine& machine, const Value& input, Arguments& arguments) {
  const auto given = bind(arguments, "dictsort", {"case_sensitive", "by", "reverse"});
  require_defined(input);
  if (!input.is_dict()) throw Failure(fmt::format("dictsort of a {}, expected a dict", type_name(input)));
  const std::string by = given[1] == nullptr ? "key" : to_string(*given[1], "by").bytes();
  if (by != "key" && by != "value") throw Failure("dictsort: expected by to be \"key\" or \"value\"");
  const Value path(std::int64_t{by == "key" ? 0 : 1});
  const Value items = items_of(machine, input, Kind::kList);
  return machine.list(sorted(machine, items.list().items, truth_or(given[2], false), truth_or(given[0], false), &path));
}

Value unique_filter(Machine& machine, const Value& input, Arguments& arguments) {
  const auto given = bind(arguments, "unique", {"case_sensitive", "attribute"});
  std::vector<Value> results;
  const auto seen = machine.dict();
  const auto source = machine.iterate(input);
  for (const Value& item : source->items) {
    const Value found = given[1] == nullptr || given[1]->is_none() ? item : attribute_path(machine, item, *given[1]);
    const Value key = comparable(machine, found, truth_or(given[0], false));
    if (seen->find(key) != nullptr) continue;
    seen->set(key, Value(true));
    results.push_back(item);
  }
  return machine.list(std::move(results), Kind::kGenerator);
}

Value reverse_filter(Machine& machine, const Value& input, Arguments& arguments) {
  bind(arguments, "reverse", {});
  if (input.is_string()) {
    const Value none{None{}};
    return machine.slice(input, none, none, Value(std::int64_t{-1}));
  }
  std::vector<Value> items = machine.iterate(input)->items;
  std::reverse(items.begin(), items.end());
  return machine.list(std::move(items), Kind::kGenerator);
}

Value sum_filter(Machine& machine, const Value& input, Arguments& arguments) {
  const auto given = bind(arguments, "sum", {"attribute", "start"});
  Value total = given[1] == nullptr ? Value(std::int64_t{0}) : *given[1];
  const auto source = machine.iterate(input);
  for (const Value& item : source->items) {
    machine.budget().step();
    const bool whole = given[0] == nullptr || given[0]->is_none();
    total = machine.arithmetic("+", total, whole ? item : attribute_path(machine, item, *given[0]));
  }
  return total;
}

Value extreme(Machine& machine, const Value& input, Arguments& arguments, bool largest) {
  const auto given = bind(arguments, largest ? "max" : "min", {"case_sensitive", "attribute"});
  const auto items = machine.iterate(input);
  if (items->items.empty()) return Machine::undefined("there is no such item, the sequence is empty");
  const Value* best = nullptr;
  Value best_key;
  for (const Value& item : items->items) {
    const Value found = given[1] == nullptr || given[1]->is_none() ? item : attribute_path(machine, item, *given[1]);
    const Value key = comparable(machine, found, truth_or(given[0], false));
    if (best == nullptr || (largest ? less(best_key, key, machine.budget()) : less(key, best_key, machine.budget()))) {
      best = &item;
      best_key = key;
    }
  }
  return *best;
}
Value min_filter(Machine& machine, const Value& input, Arguments& arguments) {
  return extreme(machine, input, arguments, false);
}
Value max_filter(Machine& machine, const Value& input, Arguments& arguments) {
  return extreme(machine, input, arguments, true);
}

Value batch_filter(Machine& machine, const Value& input, Arguments& arguments) {
  const auto given = bind(arguments, "batch", {"linecount", "fill_with"}, 1);
  const std::int64_t count = to_integer(*given[0], "linecount");
  if (count < 1) throw Failure("batch: expected at least 1 item a line");
  const auto size = static_cast<std::size_t>(count);
  std::vector<Value> lines, line;
  const auto source = machine.iterate(input);
  for (const Value& item : source->items) {
    if (line.size() == size) lines.push_back(machine.list(std::exchange(line, {})));
    line.push_back(item);
  }
  if (!line.empty()) {
    if (given[1] != nullptr && !given[1]->is_none()) {
      machine.budget().need((size - line.size()) * sizeof(Value));
      machine.budget().step(size - line.size());
      line.resize(size, *given[1]);
    }
    lines.push_back(machine.list(std::move(line)));
  }
  return machine.list(std::move(lines), Kind::kGenerator);
}

Value slice_filter(Machine& machine, const Value& input, Arguments& arguments) {
  const auto given = bind(arguments, "slice", {"slices", "fill_with"}, 1);
  const std::int64_t slices = to_integer(*given[0], "slices");
  if (slices < 1) throw Failure("slice: expected at least 1 slice");
  const auto source = machine.iterate(input);
  const auto count = static_cast<std::int64_t>(source->items.size());
  const std::int64_t each = count / slices, longer = count % slices;
  std::vector<Value> results;
  std::size_t at = 0;
  for (std::int64_t i = 0; i < slices; ++i) {
    const auto length = static_cast<std::size_t>(each + (i < longer ? 1 : 0));
    std::vector<Value> part(source->items.begin() + static_cast<std::ptrdiff_t>(at),
                            source->items.begin() + static_cast<std::ptrdiff_t>(at + length));
    at += length;
    if (given[1] != nullptr && !given[1]->is_none() && i >= longer) part.push_back(*given[1]);
    results.push_back(machine.list(std::move(part)));
  }
  return machine.list(std::move(results), Kind::kGenerator);
}

Value groupby_filter(Machine& machine, const Value& input, Arguments& arguments) {
  const auto given = bind(arguments, "groupby", {"attribute", "default", "case_sensitive"}, 1);
  const bool case_sensitive = truth_or(given[2], false);
  // Sorted by the key: pairs of (key, item).
  std::vector<Value> pairs;
  const auto source = machine.iterate(input);
  for (const Value& item : source->items) {
    const Value key = attribute_path(machine, item, *given[0], given[1]);
    pairs.push_back(machine.list({key, item}, Kind::kTuple));
  }
  const Value path(std::int64_t{0});
  pairs = sorted(machine, std::move(pairs), false, case_sensitive, &path);
  std::vector<Value> groups;
  for (std::size_t begin = 0; begin < pairs.size();) {
    const Value key = comparable(machine, pairs[begin].list().items[0], case_sensitive);
    std::vector<Value> members;
    std::size_t end = begin;
    while (end < pairs.size() &&
           equal(comparable(machine, pairs[end].list().items[0], case_sensitive), key, machine.budget())) {
      members.push_back(pairs[end++].list().items[1]);
    }
    groups.push_back(machine.list({pairs[begin].list().items[0], machine.list(std::move(members))}, Kind::kTuple));
    begin = end;
  }
  return machine.list(std::move(groups));
}

Value attr_filter(Machine& machine, const Value& input, Arguments& arguments) {
  const auto given = bind(arguments, "attr", {"name"}, 1);
  const std::string& name = to_string(*given[0], "the name of an attribute").bytes();
  if (!input.is_dict()) return machine.attribute(input, name);
  if (find_method(input, name) != nullptr) return machine.attribute(input, name);
  return Machine::undefined(fmt::format("'dict object' has no attribute '{}'", name));
}

constexpr std::array kFilters = {
    NamedFilter{"attr", attr_filter},
    NamedFilter{"batch", batch_filter},
    NamedFilter{"count", length_filter},
    NamedFilter{"d", default_filter},
    NamedFilter{"default", default_filter},
    NamedFilter{"dictsort", dictsort_filter},
    NamedFilter{"first", first_filter},
    NamedFilter{"groupby", groupby_filter},
    NamedFilter{"items", items_filter},
    NamedFilter{"join", join_filter},
    NamedFilter{"last", last_filter},
    NamedFilter{"length", length_filter},
    NamedFilter{"list", list_filter},
    NamedFilter{"map", map_filter},
    NamedFilter{"max", max_filter},
    NamedFilter{"min", min_filter},
    NamedFilter{"reject", reject_filter},
    NamedFilter{"rejectattr", rejectattr_filter},
    NamedFilter{"reverse", reverse_filter},
    NamedFilter{"select", select_filter},
    NamedFilter{"selectattr", selectattr_filter},
    NamedFilter{"slice", slice_filter},
    NamedFilter{"sort", sort_filter},
    NamedFilter{"sum", sum_filter},
    NamedFilter{"unique", unique_filter},
};

}  // namespace

Filter find_sequence_filter(std::string_view name) { return find_named(kFilters, name); }

MarkedText joined(Machine& machine, const std::vector<Value>& items, const MarkedText& separator) {
  MarkedText text;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) text.append(separator);
    text.append(machine.text(items[i]));
    machine.budget().need(text.memory());
    machine.budget().work_on(separator.size());
  }
  return text;
}

std::vector<Value> sorted(Machine& machine, std::vector<Value> items, bool reverse, bool case_sensitive,
                          const Value* path) {
  struct Keyed {
    std::vector<Value> keys;
    Value item;
  };
  std::vector<Keyed> keyed;
  for (Value& item : items) {
    Keyed one;
    if (path == nullptr) {
      one.keys.push_back(comparable(machine, item, case_sensitive));
    } else if (path->is_string()) {
      // Several attributes with commas between them.
      const MarkedText& names = path->text();
      for (std::size_t begin = 0; begin <= names.size();) {
        const std::size_t end = std::min(names.view().find(',', begin), names.size());
        const Value name = machine.string(names.part(begin, end));
        one.keys.push_back(comparable(machine, attribute_path(machine, item, name), case_sensitive));
        begin = end + 1;
      }
    } else {
      one.keys.push_back(comparable(machine, attribute_path(machine, item, *path), case_sensitive));
    }
    one.item = std::move(item);
    keyed.push_back(std::move(one));
  }
  const auto before = [&](const Keyed& a, const Keyed& b) {
    for (std::size_t i = 0; i < a.keys.size(); ++i) {
      if (!equal(a.keys[i], b.keys[i], machine.budget())) return less(a.keys[i], b.keys[i], machine.budget());
    }
    return false;
  };
  // Stable both ways, as Python sorts.
  std::stable_sort(keyed.begin(), keyed.end(),
                   [&](const Keyed& a, const Keyed& b) { return reverse ? before(b, a) : before(a, b); });
  std::vector<Value> result;
  result.reserve(keyed.size());
  for (Keyed& one : keyed) result.push_back(std::move(one.item));
  return result;
}

}  // namespace switchyard::text::jinja
