#include "router_reasons.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

using Json = nlohmann::json;

// Other values for a key, of the same type.
std::vector<Json> changes_of(const Json& value) {
  if (value.is_boolean()) return {!value.get<bool>()};
  if (value.is_number_integer()) {
    const auto number = value.get<std::int64_t>();
    if (number < 0 || number > (1 << 20)) return {1};
    return {number + 1, 2 * number, 1};
  }
  if (value.is_number()) return {2.0 * value.get<double>() + 1.0};
  if (value.is_string()) return {"another"};
  return {};
}

// Keys that name a scheme: another name is refused, which is a reason as well.
constexpr std::pair<std::string_view, std::string_view> kNamedSchemes[] = {
    {"scoring_func", "score"}, {"topk_method", "selection"}, {"model_type", ""}};

// Spellings of one setting, of which a config may have several: they are changed together, since two that disagree are
// refused.
constexpr std::string_view kSynonyms[][3] = {{"num_experts_per_tok", "experts_per_token", "num_selected_experts"},
                                             {"num_experts", "num_local_experts", "n_routed_experts"}};

void change_key(Json& object, const std::string& key, const Json& change) {
  object[key] = change;
  for (const auto& spellings : kSynonyms) {
    if (std::find(std::begin(spellings), std::end(spellings), key) == std::end(spellings)) continue;
    for (const std::string_view other : spellings)
      if (object.contains(other)) object[std::string(other)] = change;
  }
}

class Prober {
 public:
  Prober(const ReadRouter& read_router, const Json& config) : read_router_(read_router) {
    if (const auto router = read(config))
      for (RouterStep& step : describe_routing(*router)) reasons_.push_back({std::move(step), {}});
  }

  // Every key of the object at `at` within `whole`.
  void probe(const Json& whole, const Json::json_pointer& at, const std::string& prefix) {
    for (const auto& [key, value] : whole.at(at).items()) {
      const Json::json_pointer path = at / key;
      if (value.is_object()) {
        probe(whole, path, prefix + key + ".");
        continue;
      }
      for (const Json& change : changes_of(value)) {
        Json changed = whole;
        change_key(changed[at], key, change);
        compare(changed, prefix + key + " = " + value.dump(), key);
      }
    }
  }

  std::vector<RouterReason> take() { return std::move(reasons_); }

 private:
  std::optional<moe::RouterConfig> read(const Json& config) const {
    return read_router_(formats::JsonConfig::parse(config.dump(), "changed"));
  }

  void compare(const Json& changed, const std::string& reason, std::string_view key) {
    std::vector<RouterStep> steps;
    try {
      const auto router = read(changed);
      if (!router) return;
      steps = describe_routing(*router);
    } catch (const Error&) {
      for (const auto& [name, aspect] : kNamedSchemes)
        if (name == key) add(aspect, reason);
      return;
    }
    for (RouterReason& mine : reasons_) {
      const auto same = std::find_if(steps.begin(), steps.end(),
                                     [&](const RouterStep& step) { return step.aspect == mine.step.aspect; });
      if (same == steps.end() || same->text != mine.step.text) add(mine.step.aspect, reason);
    }
  }

  void add(std::string_view aspect, const std::string& reason) {
    for (RouterReason& mine : reasons_)
      if (mine.step.aspect == aspect && std::find(mine.keys.begin(), mine.keys.end(), reason) == mine.keys.end())
        mine.keys.push_back(reason);
  }

  const ReadRouter& read_router_;
  std::vector<RouterReason> reasons_;
};

}  // namespace

std::vector<RouterReason> router_reasons(const ReadRouter& read_router, std::string_view text) {
  const Json config = Json::parse(text);
  Prober prober(read_router, config);
  prober.probe(config, Json::json_pointer(), "");
  return prober.take();
}

}  // namespace switchyard::model
