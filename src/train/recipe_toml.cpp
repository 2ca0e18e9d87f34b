// Recipes from and to TOML.

#include <algorithm>

#include "recipe_keys.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/moe/presets.hpp"
#include "toml_tables.hpp"

namespace switchyard::train {
namespace {

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

// The key that a message of Recipe::validate() is about. Such a message begins with "table.key = " ("layer[0].key = "
// for the first [[layer]]) or, where the config of a layer refused the value, with "model.layers[2].moe.table.key: ".
// Empty where it names none that a recipe has.
std::string blamed_key(std::string_view message) {
  std::string_view key = message.substr(0, message.find_first_of(" :"));
  if (const auto layer = key.find("].moe."); layer != std::string_view::npos) key.remove_prefix(layer + 6);
  if (const auto layer = key.find("].attention."); layer != std::string_view::npos)
    return "model." + std::string(key.substr(layer + 12));
  const bool plain = key.find_first_of("[]") == std::string_view::npos || key.starts_with("layer[");
  return plain ? std::string(key) : std::string();
}

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

// A preset comes first, so that the keys beside it override what it sets.
void start_from_preset(const toml::table& root, const Origin& origin, Recipe& recipe) {
  const toml::node* node = root.at_path("router.preset").node();
  const std::string name = node == nullptr ? std::string() : node->value_or(std::string());
  if (name.empty()) return;
  moe::MoeConfig config;
  try {
    moe::apply_preset(moe::find_preset(name), config);
  } catch (const Error& error) {
    fail(origin.kind("router.preset"), "{}: {}", origin.at(*node, "router.preset"), error.what());
  }
  static_cast<moe::RouterConfig&>(recipe.router) = config.router;
  recipe.capacity = config.capacity;
  static_cast<moe::BalanceConfig&>(recipe.balance) = config.balance;
}

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
  start_from_preset(root, origin, recipe);
  RecipeReader reader(root, origin);
  visit_tables(reader, recipe);
  reader.read_layers(recipe.layer);
  reader.finish();
  try {
    recipe.validate();
  } catch (const Error& error) {
    const std::string key = blamed_key(error.what());
    const toml::node* node = root.at_path(key).node();
    std::string note;
    if (node == nullptr) {  // a key that the table lacks
      const std::string table = key.substr(0, key.find('.'));
      node = root.at_path(table).node();
      if (!recipe.router.preset.empty() && (table == "router" || table == "capacity" || table == "balance"))
        note = fmt::format("; {} is what the preset \"{}\" makes it, unless set", key, recipe.router.preset);
    }
    const bool known = node != nullptr && !key.empty();
    throw Error(known ? origin.kind(key) : error.kind(),
                fmt::format("{}: {}{}", known ? origin.at(*node, key) : origin_name, error.what(), note));
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
