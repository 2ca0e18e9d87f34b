#include <fmt/format.h>

#include <algorithm>
#include <type_traits>

#include "gguf_format.hpp"
#include "quoted.hpp"

namespace switchyard::formats {
namespace {

template <class T>
constexpr bool kIsInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;
template <class T>
constexpr bool kIsNumber = kIsInteger<T> || std::is_floating_point_v<T>;

constexpr std::string_view kTypeNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                           "bool", "string", "array", "u64", "i64", "f64"};
static_assert(std::size(kTypeNames) == std::variant_size_v<GgufValue>);
static_assert(std::is_same_v<std::variant_alternative_t<static_cast<std::size_t>(GgufType::kF64), GgufValue>, double>);
static_assert(
    std::is_same_v<std::variant_alternative_t<static_cast<std::size_t>(GgufType::kArray), GgufValue>, GgufArray>);

std::string described(const GgufValue& value) {
  return std::visit(
      [&]<class T>(const T& held) -> std::string {
        const std::string_view type = gguf_type_name(gguf_type(value));
        if constexpr (std::is_same_v<T, GgufArray>) {
          return fmt::format("an array of {} {}", gguf_array_size(held), gguf_type_name(gguf_element_type(held)));
        } else if constexpr (std::is_same_v<T, std::string>) {
          return fmt::format("the string {}", in_quotes(held));
        } else if constexpr (kIsInteger<T>) {
          return fmt::format("the {} {}", type, +held);
        } else {
          return fmt::format("the {} {}", type, held);
        }
      },
      value);
}

// Nothing where the value is not of the kind, or an integer too large for Index.
std::optional<Index> as_integer(const GgufValue& value) {
  return std::visit(
      []<class T>(const T& held) -> std::optional<Index> {
        if constexpr (kIsInteger<T>) {
          if (std::in_range<Index>(held)) return static_cast<Index>(held);
        }
        return {};
      },
      value);
}

std::optional<double> as_number(const GgufValue& value) {
  return std::visit(
      []<class T>(const T& held) -> std::optional<double> {
        if constexpr (kIsNumber<T>) return static_cast<double>(held);
        return {};
      },
      value);
}

std::optional<bool> as_boolean(const GgufValue& value) {
  const bool* held = std::get_if<bool>(&value);
  return held == nullptr ? std::nullopt : std::optional(*held);
}

std::optional<std::vector<Index>> as_integers(const GgufValue& value) {
  const auto* array = std::get_if<GgufArray>(&value);
  if (array == nullptr) return {};
  return std::visit(
      []<class T>(const std::vector<T>& held) -> std::optional<std::vector<Index>> {
        if constexpr (kIsInteger<T>) {
          if (std::all_of(held.begin(), held.end(), [](T v) { return std::in_range<Index>(v); }))
            return std::vector<Index>(held.begin(), held.end());
        }
        return {};
      },
      *array);
}

std::optional<std::vector<double>> as_numbers(const GgufValue& value) {
  const auto* array = std::get_if<GgufArray>(&value);
  if (array == nullptr) return {};
  return std::visit(
      []<class T>(const std::vector<T>& held) -> std::optional<std::vector<double>> {
        std::vector<double> numbers;
        if constexpr (kIsNumber<T>) {
          numbers.reserve(held.size());
          for (const T v : held) numbers.push_back(static_cast<double>(v));
          return numbers;
        }
        return {};
      },
      *array);
}

constexpr std::string_view kInteger = "an integer below 2^63", kNumber = "a number", kBoolean = "a bool",
                           kString = "a string", kIntegers = "an array of integers below 2^63",
                           kNumbers = "an array of numbers", kStrings = "an array of strings";

// The value by `as`, which gives nothing where it is of another kind.
template <class As>
auto find_as(const GgufMetadata& metadata, std::string_view key, std::string_view expected, const As& as)
    -> decltype(as(std::declval<GgufValue>())) {
  const GgufValue* value = metadata.find(key);
  if (value == nullptr) return {};
  auto result = as(*value);
  if (!result) metadata.refuse(key, expected);
  return result;
}

// What a find_ function found; refuses where it found nothing.
template <class Found>
decltype(auto) needed(const GgufMetadata& metadata, std::string_view key, std::string_view expected, Found&& found) {
  if (!found) metadata.refuse(key, expected);
  return *std::forward<Found>(found);
}

}  // namespace

std::string_view gguf_type_name(GgufType type) { return kTypeNames[static_cast<std::size_t>(type)]; }

GgufType gguf_element_type(const GgufArray& array) {
  // The alternatives are those of GgufValue without the array itself.
  const auto array_place = static_cast<std::size_t>(GgufType::kArray);
  return static_cast<GgufType>(array.index() + (array.index() >= array_place ? 1 : 0));
}

std::size_t gguf_array_size(const GgufArray& array) {
  return std::visit([](const auto& held) { return held.size(); }, array);
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto found = index_.find(std::string(key));
  return found == index_.end() ? nullptr : &items_[found->second].value;
}

void GgufMetadata::set(std::string_view key, GgufValue value) {
  const auto [place, is_new] = index_.emplace(key, items_.size());
  if (is_new) {
    items_.push_back({std::string(key), std::move(value)});
  } else {
    items_[place->second].value = std::move(value);
  }
}

void GgufMetadata::erase(std::string_view key) {
  const auto found = index_.find(std::string(key));
  if (found == index_.end()) return;
  const std::size_t place = found->second;
  index_.erase(found);
  items_.erase(items_.begin() + static_cast<std::ptrdiff_t>(place));
  for (auto& [name, at] : index_) {
    if (at > place) --at;
  }
}

void GgufMetadata::refuse(std::string_view key, std::string_view expected) const {
  const GgufValue* value = find(key);
  if (value == nullptr) {
    fail(ErrorKind::kBadInput, "{}: key {} is missing, expected {}", file_, in_quotes(key), expected);
  }
  fail(ErrorKind::kBadInput, "{}: key {}: found {}, expected {}", file_, in_quotes(key), described(*value), expected);
}

std::optional<Index> GgufMetadata::find_integer(std::string_view key) const {
  return find_as(*this, key, kInteger, as_integer);
}
std::optional<double> GgufMetadata::find_number(std::string_view key) const {
  return find_as(*this, key, kNumber, as_number);
}
std::optional<bool> GgufMetadata::find_boolean(std::string_view key) const {
  return find_as(*this, key, kBoolean, as_boolean);
}
const std::string* GgufMetadata::find_string(std::string_view key) const {
  return find_as(*this, key, kString, [](const GgufValue& value) { return std::get_if<std::string>(&value); });
}
std::optional<std::vector<Index>> GgufMetadata::find_integers(std::string_view key) const {
  return find_as(*this, key, kIntegers, as_integers);
}
std::optional<std::vector<double>> GgufMetadata::find_numbers(std::string_view key) const {
  return find_as(*this, key, kNumbers, as_numbers);
}
const std::vector<std::string>* GgufMetadata::find_strings(std::string_view key) const {
  return find_as(*this, key, kStrings, [](const GgufValue& value) -> const std::vector<std::string>* {
    const auto* array = std::get_if<GgufArray>(&value);
    return array == nullptr ? nullptr : std::get_if<std::vector<std::string>>(array);
  });
}

Index GgufMetadata::integer(std::string_view key) const { return needed(*this, key, kInteger, find_integer(key)); }
double GgufMetadata::number(std::string_view key) const { return needed(*this, key, kNumber, find_number(key)); }
bool GgufMetadata::boolean(std::string_view key) const { return needed(*this, key, kBoolean, find_boolean(key)); }
const std::string& GgufMetadata::string(std::string_view key) const {
  return needed(*this, key, kString, find_string(key));
}
std::vector<Index> GgufMetadata::integers(std::string_view key) const {
  return needed(*this, key, kIntegers, find_integers(key));
}
std::vector<double> GgufMetadata::numbers(std::string_view key) const {
  return needed(*this, key, kNumbers, find_numbers(key));
}
const std::vector<std::string>& GgufMetadata::strings(std::string_view key) const {
  return needed(*this, key, kStrings, find_strings(key));
}

}  // namespace switchyard::formats
