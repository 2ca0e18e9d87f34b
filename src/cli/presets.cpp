#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "command.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/moe/config_keys.hpp"
#include "switchyard/moe/presets.hpp"

namespace switchyard::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string name;
  bool json = false;
};

// Keys and values of one table, as JSON. Scalars and arrays are written alike in TOML.
struct Collector {
  Json table = Json::object();
  // A float32 as the shortest number that reads back to it.
  void operator()(const char* key, float value) { table[key] = Json::parse(fmt::format("{}", value)); }
  template <class T>
  void operator()(const char* key, const T& value) {
    table[key] = value;
  }
};

Json config_json(const moe::MoeConfig& config) {
  Collector router, capacity, balance;
  moe::visit_router(router, config.router);
  moe::visit_capacity(capacity, config.capacity);
  moe::visit_balance(balance, config.balance);
  return {{"router", router.table}, {"capacity", capacity.table}, {"balance", balance.table}};
}

Json preset_json(const moe::Preset& preset, const Json& config) {
  return {{"name", preset.name},
          {"about", preset.about},
          {"source", preset.source},
          {"experts", preset.experts},
          {"config", config}};
}

moe::MoeConfig resolved(const moe::Preset& preset) {
  moe::MoeConfig config;
  moe::apply_preset(preset, config);
  return config;
}

// Every key, so that it can be pasted into a recipe; those that the preset sets are marked.
void print_preset(const moe::Preset& preset) {
  const Json found = config_json(resolved(preset)), plain = config_json(moe::MoeConfig{});
  fmt::print("# {}: {}\n# {}\n", preset.name, preset.about, preset.source);
  if (preset.experts > 0)
    fmt::print("# The published model has {} routed experts: experts.count = {}\n", preset.experts, preset.experts);
  for (const auto& [table, keys] : found.items()) {
    fmt::print("\n[{}]\n", table);
    for (const auto& [key, value] : keys.items()) {
      const std::string line = fmt::format("{} = {}", key, value.dump());
      fmt::print("{}\n", value == plain[table][key] ? line : fmt::format("{:<36}# set by the preset", line));
    }
  }
  fmt::print("\n# In a recipe: [router] preset = \"{}\"; keys beside it override what it sets.\n", preset.name);
}

void print_list() {
  std::size_t width = 0;
  for (const moe::Preset& preset : moe::presets()) width = std::max(width, preset.name.size());
  for (const moe::Preset& preset : moe::presets())
    fmt::print("{:<{}}  {}\n{:<{}}  {}\n", preset.name, width, preset.about, "", width, preset.source);
  fmt::print(
      "\n{} presets. `switchyard presets NAME` prints all of one's keys; [router] preset = \"NAME\" in a recipe uses "
      "it.\n",
      moe::presets().size());
}

const moe::Preset& chosen(const std::string& name) {
  try {
    return moe::find_preset(name);
  } catch (const Error& error) {
    fail(ErrorKind::kUsage, "{}", error.what());
  }
}

void run(const Options& options) {
  if (!options.name.empty()) {
    const moe::Preset& preset = chosen(options.name);
    if (options.json)
      fmt::print("{}\n", preset_json(preset, config_json(resolved(preset))).dump());
    else
      print_preset(preset);
    return;
  }
  if (!options.json) {
    print_list();
    return;
  }
  Json list = Json::array();
  for (const moe::Preset& preset : moe::presets()) list.push_back(preset_json(preset, config_json(resolved(preset))));
  fmt::print("{}\n", list.dump());
}

}  // namespace

void add_presets(CLI::App& program, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      program.add_subcommand("presets", "List the routers of published models and libraries, or show one's settings");
  command->add_option("name", options->name, "One preset: prints its full configuration, as a recipe's tables");
  add_json(*command, options->json);
  command->callback([options, &action] { action = [options] { run(*options); }; });
}

}  // namespace switchyard::cli
