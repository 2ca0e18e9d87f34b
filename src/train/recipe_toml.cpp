// Recipes from and to TOML.

#define TOML_EXCEPTIONS 1
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <toml++/toml.h>

#include <algorithm>
#include <sstream>
#include <type_traits>

#include "recipe_keys.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::train {
namespace {

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

std::string describe(const toml::node& node) {
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
std::string closest(const std::string& wrong, const std::vector<std::string>& known) {
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

// Reads the tables of a whole recipe.
class RecipeReader {
 public:
  RecipeReader(const toml::table& root, const Origin& origin) : root_(root), origin_(origin) {}

  template <class T>
  void operator()(const char* name, T& out) {
    known_.emplace_back(name);
    const toml::node* node = root_.get(name);
    if (node == nullptr) return;
    if (!node->is_table()) {
      fail(origin_.kind(name), "{}: {} = {}, expected a table [{}]", origin_.at(*node, name), name, describe(*node),
           name);
    }
    read_table(*node->as_table(), name, origin_, out);
  }

  void read_layers(std::vector<LayerRecipe>& out) {
    known_.emplace_back("layer");
    const toml::node* node = root_.get("layer");
    if (node == nullptr) return;
    const toml::array* array = node->as_array();
    if (array == nullptr || !array->is_array_of_tables()) {
      fail(origin_.kind("layer"), "{}: layer = {}, expected tables [[layer]]", origin_.at(*node, "layer"),
           describe(*node));
    }
    for (const toml::node& row : *array) read_table(*row.as_table(), "layer", origin_, out.emplace_back());
  }

  void finish() const {
    for (const auto& [key, node] : root_) {
      const std::string name(key.str());
      if (std::find(known_.begin(), known_.end(), name) != known_.end()) continue;
      const std::string guess = closest(name, known_);
      fail(origin_.kind(name), "{}: unknown table \"{}\"{}; known: {}", origin_.at(node, name), name,
           guess.empty() ? "" : fmt::format(", did you mean \"{}\"?", guess), fmt::join(known_, ", "));
    }
  }

 private:
  const toml::table& root_;
  const Origin& origin_;
  std::vector<std::string> known_;
};

// Applies "a.b=value". The value is TOML; what is not TOML is taken as a string, so that a shell user need not quote.
std::string apply_override(toml::table& root, const std::string& text) {
  const std::size_t equals = text.find('=');
  const std::size_t dot = text.find('.');
  if (equals == std::string::npos || dot == std::string::npos || dot > equals || dot == 0 || equals == dot + 1) {
    fail(ErrorKind::kUsage, "--set {}: expected table.key=value, such as train.steps=100", text);
  }
  const auto trimmed = [](const std::string& name) {
    const std::size_t begin = name.find_first_not_of(' ');
    return begin == std::string::npos ? std::string() : name.substr(begin, name.find_last_not_of(' ') + 1 - begin);
  };
  const std::string table_name = trimmed(text.substr(0, dot)), key = trimmed(text.substr(dot + 1, equals - dot - 1));
  const std::string value = text.substr(equals + 1);
  toml::table parsed;
  try {
    parsed = toml::parse("value = " + value);
  } catch (const toml::parse_error&) {
    parsed = toml::table{{"value", value}};
  }
  if (!root.contains(table_name)) root.insert(table_name, toml::table{});
  toml::table* table = root.get(table_name)->as_table();
  if (table == nullptr) fail(ErrorKind::kUsage, "--set {}: \"{}\" is not a table of plain keys", text, table_name);
  table->insert_or_assign(key, std::move(*parsed.get("value")));
  return table_name + "." + key;
}

// The key that a message of Recipe::validate() is about. Such a message begins with "table.key = " or, where the config
// of a layer refused the value, with "model.layers[2].moe.table.key: ". Empty where it names none that a recipe has.
std::string blamed_key(std::string_view message) {
  std::string_view key = message.substr(0, message.find_first_of(" :"));
  if (const auto layer = key.find("].moe."); layer != std::string_view::npos) key.remove_prefix(layer + 6);
  const bool plain = key.find_first_of("[]") == std::string_view::npos && !key.starts_with("layer.");
  return plain ? std::string(key) : std::string();
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
  static std::string format(double value) {
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
    for (const T& value : values) parts.push_back(format(value));
    return fmt::format("[{}]", fmt::join(parts, ", "));
  }
};

class RecipeWriter {
 public:
  template <class T>
  void operator()(const char* name, T& table) {
    TableWriter writer;
    visit_keys(writer, table);
    text += fmt::format("[{}]\n{}\n", name, writer.text);
  }
  std::string text;
};

}  // namespace

Recipe parse_recipe(const std::string& toml_text, const std::string& origin_name,
                    std::span<const std::string> overrides) {
  toml::table root;
  try {
    root = toml::parse(toml_text, origin_name);
  } catch (const toml::parse_error& error) {
    fail(ErrorKind::kBadInput, "{}:{}: not valid TOML: {}", origin_name, error.source().begin.line,
         error.description());
  }
  std::vector<std::string> overridden, tables;
  for (const auto& [key, node] : root) tables.emplace_back(key.str());
  for (const std::string& text : overrides) overridden.push_back(apply_override(root, text));
  const Origin origin{origin_name, &overridden, tables};
  Recipe recipe;
  RecipeReader reader(root, origin);
  visit_tables(reader, recipe);
  reader.read_layers(recipe.layer);
  reader.finish();
  try {
    recipe.validate();
  } catch (const Error& error) {
    const std::string key = blamed_key(error.what());
    const toml::node* node = root.at_path(key).node();
    const bool known = node != nullptr && !key.empty();
    throw Error(known ? origin.kind(key) : error.kind(),
                fmt::format("{}: {}", known ? origin.at(*node, key) : origin_name, error.what()));
  }
  return recipe;
}

Recipe load_recipe(const std::filesystem::path& path, std::span<const std::string> overrides) {
  return parse_recipe(read_file(path, std::size_t{1} << 20), path.string(), overrides);
}

std::string to_toml(const Recipe& recipe) {
  Recipe copy = recipe;  // visiting takes the recipe as mutable, because reading uses the same walk
  RecipeWriter writer;
  visit_tables(writer, copy);
  for (LayerRecipe& layer : copy.layer) {
    TableWriter row;
    visit_keys(row, layer);
    writer.text += fmt::format("[[layer]]\n{}\n", row.text);
  }
  return writer.text;
}

}  // namespace switchyard::train
