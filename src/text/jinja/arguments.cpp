// What filters, methods and functions are called with.

#include <fmt/format.h>

#include <algorithm>

#include "machine.hpp"

namespace switchyard::text::jinja {

std::vector<const Value*> bind(const Arguments& arguments, std::string_view function,
                               std::initializer_list<std::string_view> names, std::size_t required) {
  std::vector<const Value*> bound(names.size(), nullptr);
  if (arguments.positional.size() > names.size()) {
    throw Failure(
        fmt::format("{} got {} arguments, expected at most {}", function, arguments.positional.size(), names.size()));
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) bound[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) throw Failure(fmt::format("{} has no argument '{}'", function, name));
    const Value*& place = bound[static_cast<std::size_t>(found - names.begin())];
    if (place != nullptr) throw Failure(fmt::format("{} got '{}' twice", function, name));
    place = &value;
  }
  for (std::size_t i = 0; i < required; ++i) {
    if (bound[i] == nullptr) throw Failure(fmt::format("{} needs the argument '{}'", function, *(names.begin() + i)));
  }
  return bound;
}

std::int64_t to_integer(const Value& value, std::string_view what) {
  require_defined(value);
  if (!value.is_integer()) throw Failure(fmt::format("{} is a {}, expected a whole number", what, type_name(value)));
  return value.integer();
}

std::int64_t integer_or(const Value* value, std::int64_t otherwise, std::string_view what) {
  return value == nullptr || value->is_none() ? otherwise : to_integer(*value, what);
}

bool truth_or(const Value* value, bool otherwise) { return value == nullptr ? otherwise : truth(*value); }

const MarkedText& to_string(const Value& value, std::string_view what) {
  require_defined(value);
  if (!value.is_string()) throw Failure(fmt::format("{} is a {}, expected a string", what, type_name(value)));
  return value.text();
}

Value attribute_path(Machine& machine, const Value& object, const Value& path, const Value* otherwise) {
  const auto found_or = [otherwise](Value value) {
    return value.is_undefined() && otherwise != nullptr ? *otherwise : value;
  };
  if (path.is_integer()) return found_or(machine.item(object, path));
  const std::string_view names = to_string(path, "the name of an attribute").view();
  Value found = object;
  for (std::size_t begin = 0; begin <= names.size();) {
    const std::size_t end = std::min(names.find('.', begin), names.size());
    const std::string name(names.substr(begin, end - begin));
    const bool is_index = !name.empty() && name.size() < 18 &&
                          std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
    found = found_or(machine.item(found, is_index ? Value(std::int64_t{std::stoll(name)}) : machine.string(name)));
    begin = end + 1;
  }
  return found;
}

}  // namespace switchyard::text::jinja
