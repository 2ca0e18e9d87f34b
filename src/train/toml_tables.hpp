#pragma once
// Tables of TOML from and to structs whose keys a visit_keys() declares. For source files that read TOML only: toml++
// takes long to compile.

#define TOML_EXCEPTIONS 1
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "switchyard/base/error.hpp"
#include "switchyard/base/index.hpp"

namespace switchyard::train {

// Where a value came from, for messages: "recipes/x.toml:12" or "--set train.steps=abc".
struct Origin {
  std::string file;
  const std::vector<std::string>* overridden;  // dotted keys that --set gave
  std::vector<std::string> tables;             // that the file itself has

  std::string at(const toml::node& node, const std::string& key) const {
    if (const std::string* name = find_override(key)) return "--set " + *name;
    const auto line = node.source().begin.line;
    return line > 0 ? fmt::format("{}:{}", file, line) : file;
  }
  ErrorKind kind(const std::string& key) const {
    return find_override(key) != nullptr ? ErrorKind::kUsage : ErrorKind::kBadInput;
  }

 private:
  // `key` is "table.key", or "table" where a whole table is wrong that only --set can have made.
  const std::string* find_override(const std::string& key) const {
    for (const std::string& name : *overridden) {
      if (name == key || (key.find('.') == std::string::npos && made_table(name, key))) return &name;
    }
    return nullptr;
  }
  bool made_table(const std::string& name, const std::string& table) const {
    return name.starts_with(table + ".") && std::find(tables.begin(), tables.end(), table) == tables.end();
  }
};

inline std::string describe(const toml::node& node) {
  std::ostringstream text;
  node.visit([&](const auto& value) {
    if constexpr (toml::is_table<decltype(value)>) {
      text << "a table";
    } else if constexpr (toml::is_array<decltype(value)>) {
      text << "an array";
    } else {
      text << value;
    }
  });
  return text.str();
}

// The known key that is closest to a mistyped one, or none. Edit distance; at most a third of the letters may differ.
inline std::string closest(const std::string& wrong, const std::vector<std::string>& known) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(1, wrong.size() / 3) + 1;
  for (const std::string& candidate : known) {
    std::vector<std::size_t> row(candidate.size() + 1);
    for (std::size_t j = 0; j < row.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= wrong.size(); ++i) {
      std::size_t diagonal = row[0];
      row[0] = i;
      for (std::size_t j = 1; j < row.size(); ++j) {
        const std::size_t above = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (wrong[i - 1] == candidate[j - 1] ? 0U : 1U)});
        diagonal = above;
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

// Reads one table into one struct.
class TableReader {
 public:
  TableReader(const toml::table& table, std::string prefix, const Origin& origin)
      : table_(table), prefix_(std::move(prefix)), origin_(origin) {}

  template <class T>
  void operator()(const char* key, T& out) {
    known_.emplace_back(key);
    const toml::node* node = table_.get(key);
    if (node != nullptr) read(*node, path(key), out);
  }

  // Call after visiting: refuses keys that nobody asked for.
  void finish() const {
    for (const auto& [key, node] : table_) {
      const std::string name(key.str());
      if (std::find(known_.begin(), known_.end(), name) != known_.end()) continue;
      const std::string guess = closest(name, known_);
      fail(origin_.kind(path(name)), "{}: unknown key \"{}\"{}; known here: {}", origin_.at(node, path(name)),
           path(name), guess.empty() ? "" : fmt::format(", did you mean \"{}\"?", guess), fmt::join(known_, ", "));
    }
  }

 private:
  std::string path(const std::string& key) const { return prefix_.empty() ? key : prefix_ + "." + key; }

  [[noreturn]] void wrong(const toml::node& node, const std::string& key, std::string_view expected) const {
    fail(origin_.kind(key), "{}: {} = {}, expected {}", origin_.at(node, key), key, describe(node), expected);
  }

  void read(const toml::node& node, const std::string& key, bool& out) const {
    if (!node.is_boolean()) wrong(node, key, "true or false");
    out = node.as_boolean()->get();
  }
  void read(const toml::node& node, const std::string& key, std::string& out) const {
    if (!node.is_string()) wrong(node, key, "a string in quotes");
    out = node.as_string()->get();
  }
  void read(const toml::node& node, const std::string& key, double& out) const {
    if (!node.is_number()) wrong(node, key, "a number");
    out = *node.value<double>();
  }
  void read(const toml::node& node, const std::string& key, float& out) const {
    double wide = 0.0;
    read(node, key, wide);
    if (std::isfinite(wide) && std::abs(wide) > static_cast<double>(std::numeric_limits<float>::max())) {
      wrong(node, key, "a number that a float32 can hold");
    }
    out = static_cast<float>(wide);
  }
  void read(const toml::node& node, const std::string& key, Index& out) const {
    if (!node.is_integer()) wrong(node, key, "a whole number");
    out = node.as_integer()->get();
  }
  void read(const toml::node& node, const std::string& key, std::uint64_t& out) const {
    if (!node.is_integer() || node.as_integer()->get() < 0) wrong(node, key, "a whole number, 0 or more");
    out = static_cast<std::uint64_t>(node.as_integer()->get());
  }
  template <class T>
  void read(const toml::node& node, const std::string& key, std::vector<T>& out) const {
    const toml::array* array = node.as_array();
    if (array == nullptr) wrong(node, key, "an array, such as [...]");
    out.clear();
    for (const toml::node& element : *array) read(element, key, out.emplace_back());
  }

  const toml::table& table_;
  std::string prefix_;
  const Origin& origin_;
  std::vector<std::string> known_;
};

template <class T>
void read_table(const toml::table& table, const std::string& prefix, const Origin& origin, T& out) {
  TableReader reader(table, prefix, origin);
  visit_keys(reader, out);
  reader.finish();
}

// Writes values that are exact when read back.
class TableWriter {
 public:
  template <class T>
  void operator()(const char* key, const T& value) {
    text += fmt::format("{} = {}\n", key, format(value));
  }
  std::string text;

 private:
  static std::string format(bool value) { return value ? "true" : "false"; }
  static std::string format(Index value) { return std::to_string(value); }
  static std::string format(std::uint64_t value) { return std::to_string(value); }
  static std::string format(float value) { return format_real(value); }
  static std::string format(double value) { return format_real(value); }
  template <class Real>
  static std::string format_real(Real value) {
    const std::string shortest = fmt::format("{}", value);
    return shortest.find_first_of(".en") == std::string::npos ? shortest + ".0" : shortest;
  }
  static std::string format(const std::string& value) {
    std::ostringstream quoted;
    quoted << toml::value<std::string>(value);
    return quoted.str();
  }
  template <class T>
  static std::string format(const std::vector<T>& values) {
    std::vector<std::string> parts;
    parts.reserve(values.size());
    for (const T& value : values) parts.push_back(format(value));
    return fmt::format("[{}]", fmt::join(parts, ", "));
  }
};

}  // namespace switchyard::train
