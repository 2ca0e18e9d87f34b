#include "switchyard/formats/json_config.hpp"

#include <fmt/ranges.h>

#include <limits>

#include "quoted.hpp"
#include "strict_json.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::formats {

using nlohmann::json;

struct JsonConfig::Object {
  std::string origin;
  std::string prefix;                 // "rope_scaling." in a nested object
  std::shared_ptr<const json> value;  // a part of the document, all of which it keeps alive

  std::string where(std::string_view key) const { return fmt::format("{}: {}{}", origin, prefix, printable(key)); }

  // Null where the key is absent or null.
  const json* find(std::string_view key) const {
    const auto found = value->find(key);
    return found == value->end() || found->is_null() ? nullptr : &*found;
  }

  const json& at(std::string_view key, std::string_view expected) const {
    const json* found = find(key);
    if (found == nullptr) fail(ErrorKind::kBadInput, "{}: missing, expected {}", where(key), expected);
    return *found;
  }

  [[noreturn]] void wrong(std::string_view key, const json& found, std::string_view expected) const {
    fail(ErrorKind::kBadInput, "{}: found {}, expected {}", where(key), describe(found), expected);
  }

  template <class Convert>
  auto list(std::string_view key, std::string_view expected, Convert convert) const {
    const json& found = at(key, expected);
    std::vector<decltype(convert(found))> result;
    if (!found.is_array()) {
      result.push_back(convert(found));
      return result;
    }
    for (const json& element : found) result.push_back(convert(element));
    return result;
  }

  Index to_int(std::string_view key, const json& found) const {
    if (!found.is_number_integer()) wrong(key, found, "an integer");
    if (found.is_number_unsigned() &&
        found.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<Index>::max())) {
      wrong(key, found, "an integer of at most 2^63 - 1");
    }
    return found.get<Index>();
  }
  double to_float(std::string_view key, const json& found) const {
    if (!found.is_number()) wrong(key, found, "a number");
    return found.get<double>();
  }
  std::string to_string(std::string_view key, const json& found) const {
    if (!found.is_string()) wrong(key, found, "a string");
    return found.get<std::string>();
  }
};

namespace {

constexpr std::size_t kMaxConfigBytes = 64U << 20;

}  // namespace

JsonConfig JsonConfig::load(const std::filesystem::path& path) {
  return parse(read_file(path, kMaxConfigBytes), path.string());
}

JsonConfig JsonConfig::parse(std::string_view text, std::string origin) {
  auto root = std::make_shared<const json>(parse_strict_json(text, origin));
  if (!root->is_object()) fail(ErrorKind::kBadInput, "{}: found {}, expected an object", origin, describe(*root));
  return JsonConfig(std::make_shared<const Object>(Object{std::move(origin), "", std::move(root)}));
}

const std::string& JsonConfig::origin() const { return object_->origin; }
std::string JsonConfig::where(std::string_view key) const { return object_->where(key); }
bool JsonConfig::has(std::string_view key) const { return object_->find(key) != nullptr; }

bool JsonConfig::is_null(std::string_view key) const {
  return object_->find(key) == nullptr && object_->value->contains(key);
}

bool JsonConfig::is_object(std::string_view key) const {
  const json* found = object_->find(key);
  return found != nullptr && found->is_object();
}

bool JsonConfig::is_string(std::string_view key) const {
  const json* found = object_->find(key);
  return found != nullptr && found->is_string();
}

std::vector<std::string> JsonConfig::keys() const {
  std::vector<std::string> result;
  for (const auto& [key, value] : object_->value->items()) {
    if (!value.is_null()) result.push_back(key);
  }
  return result;
}

Index JsonConfig::get_int(std::string_view key) const { return object_->to_int(key, object_->at(key, "an integer")); }

double JsonConfig::get_float(std::string_view key) const {
  return object_->to_float(key, object_->at(key, "a number"));
}

bool JsonConfig::get_bool(std::string_view key) const {
  const json& found = object_->at(key, "true or false");
  if (!found.is_boolean()) object_->wrong(key, found, "true or false");
  return found.get<bool>();
}

std::string JsonConfig::get_string(std::string_view key) const {
  return object_->to_string(key, object_->at(key, "a string"));
}

std::vector<Index> JsonConfig::get_ints(std::string_view key) const {
  return object_->list(key, "an array of integers", [&](const json& found) { return object_->to_int(key, found); });
}

std::vector<double> JsonConfig::get_floats(std::string_view key) const {
  return object_->list(key, "an array of numbers", [&](const json& found) { return object_->to_float(key, found); });
}

std::vector<std::string> JsonConfig::get_strings(std::string_view key) const {
  return object_->list(key, "an array of strings", [&](const json& found) { return object_->to_string(key, found); });
}

JsonConfig JsonConfig::object(std::string_view key) const {
  const json& found = object_->at(key, "an object");
  if (!found.is_object()) object_->wrong(key, found, "an object");
  return JsonConfig(std::make_shared<const Object>(
      Object{object_->origin, object_->prefix + printable(key) + ".", {object_->value, &found}}));
}

Index JsonConfig::get_int_or(std::string_view key, Index otherwise) const {
  return has(key) ? get_int(key) : otherwise;
}

double JsonConfig::get_float_or(std::string_view key, double otherwise) const {
  return has(key) ? get_float(key) : otherwise;
}

bool JsonConfig::get_bool_or(std::string_view key, bool otherwise) const {
  return has(key) ? get_bool(key) : otherwise;
}

std::string JsonConfig::get_string_or(std::string_view key, std::string otherwise) const {
  return has(key) ? get_string(key) : std::move(otherwise);
}

std::optional<std::string> JsonConfig::find_first_of(std::initializer_list<std::string_view> keys) const {
  std::optional<std::string> first;
  for (const std::string_view key : keys) {
    const json* found = object_->find(key);
    if (found == nullptr) continue;
    if (!first) {
      first = key;
    } else if (const json& before = *object_->find(*first); before != *found) {
      fail(ErrorKind::kBadInput, "{} is {}, but {}, another name of the same setting, is {}", where(*first),
           describe(before), key, describe(*found));
    }
  }
  return first;
}

std::string JsonConfig::first_of(std::initializer_list<std::string_view> keys) const {
  if (auto found = find_first_of(keys)) return *std::move(found);
  fail(ErrorKind::kBadInput, "{}: {}none of the keys {} is there", object_->origin,
       object_->prefix.empty() ? "" : "in " + object_->prefix.substr(0, object_->prefix.size() - 1) + ": ",
       fmt::join(keys, ", "));
}

}  // namespace switchyard::formats
