#include "routing_text.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

namespace switchyard::cli {
namespace {

// Beyond this an expert is called overloaded: twice the mean.
constexpr double kOverloaded = 2.0;
constexpr double kPrefers = 1.25;
constexpr std::size_t kBarsPerLine = 64;
constexpr std::size_t kNamed = 4;

double load_ratio(const moe::RoutingStatistics& s, std::size_t expert) {
  const double mean = s.mean_load();
  return mean == 0.0 ? 0.0 : static_cast<double>(s.load_E[expert]) / mean;
}

// One character an expert; the tallest bar is twice the mean load or more.
std::string bars(const moe::RoutingStatistics& s) {
  constexpr std::array kBars = {"·", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  // Where there are more experts than fit a line, a bar stands for several and shows the busiest of them.
  const std::size_t experts = s.load_E.size(), group = (experts + kBarsPerLine - 1) / kBarsPerLine;
  std::string text;
  for (std::size_t begin = 0; begin < experts; begin += group) {
    double highest = 0.0;
    for (std::size_t e = begin; e < std::min(experts, begin + group); ++e)
      highest = std::max(highest, load_ratio(s, e));
    const auto step = highest == 0.0 ? 0 : static_cast<std::size_t>(std::clamp(std::lround(highest * 4.0), 1L, 8L));
    text += kBars[step];
  }
  return text;
}

std::size_t bar_width(const moe::RoutingStatistics& s) {
  const std::size_t group = (s.load_E.size() + kBarsPerLine - 1) / kBarsPerLine;
  return (s.load_E.size() + group - 1) / group;
}

}  // namespace

std::string load_table(const observe::RoutingProfile& profile) {
  std::size_t width = 7;
  for (const auto& [index, layer] : profile.layers()) width = std::max(width, bar_width(layer.statistics));
  std::string text = fmt::format("layer  {:<{}}  MaxVio  entropy  dropped  busiest          dead\n", "experts", width);
  std::string troubles;
  for (const auto& [index, layer] : profile.layers()) {
    const moe::RoutingStatistics& s = layer.statistics;
    const auto busiest =
        static_cast<std::size_t>(std::max_element(s.load_E.begin(), s.load_E.end()) - s.load_E.begin());
    const auto dead = s.dead_experts();
    const double most = std::log(static_cast<double>(s.load_E.size()));
    text += fmt::format("{:>5}  {}{:{}}  {:>6.2f}  {:>6.0f}%  {:>6.1f}%  {:<15}  {}\n", index, bars(s), "",
                        width - bar_width(s), s.max_violation(), most == 0.0 ? 100.0 : 100.0 * s.mean_entropy() / most,
                        100.0 * s.drop_rate(), fmt::format("{} ({:.1f}x mean)", busiest, load_ratio(s, busiest)),
                        dead.empty() ? "none" : fmt::format("{} of {}", dead.size(), s.load_E.size()));
    if (!dead.empty()) {
      troubles +=
          fmt::format("  layer {}: dead expert{} {}\n", index, dead.size() == 1 ? "" : "s", fmt::join(dead, ", "));
    }
    if (s.rerouted > 0)
      troubles += fmt::format("  layer {}: {:.1f}% re-routed over capacity\n", index, 100.0 * s.reroute_rate());
    std::vector<std::string> hot;
    for (std::size_t e = 0; e < s.load_E.size(); ++e) {
      if (load_ratio(s, e) > kOverloaded) hot.push_back(fmt::format("{} ({:.1f}x)", e, load_ratio(s, e)));
    }
    if (!hot.empty())
      troubles += fmt::format("  layer {}: more than twice the mean load: {}\n", index, fmt::join(hot, ", "));
  }
  text += troubles.empty() ? "No dead expert, none above twice the mean load.\n" : "To look at:\n" + troubles;
  return text;
}

std::string answer_table(const observe::RoutingProfile& profile) {
  if (profile.layers().empty())
    return "There is no routing to show: no answer yet, one of a single token, or a dense model.\n";
  std::size_t width = 7;
  for (const auto& [index, layer] : profile.layers()) width = std::max(width, bar_width(layer.statistics));
  std::string text = fmt::format("{} tokens\nlayer  {:<{}}  entropy  experts by share of the work\n",
                                 profile.layers().begin()->second.statistics.tokens, "experts", width);
  for (const auto& [index, layer] : profile.layers()) {
    const moe::RoutingStatistics& s = layer.statistics;
    std::vector<std::pair<Index, std::size_t>> by_load;
    Index total = 0;
    for (std::size_t e = 0; e < s.load_E.size(); ++e) {
      by_load.emplace_back(-s.load_E[e], e);
      total += s.load_E[e];
    }
    std::sort(by_load.begin(), by_load.end());
    std::vector<std::string> names;
    for (std::size_t i = 0; i < std::min(kNamed, by_load.size()) && by_load[i].first < 0; ++i) {
      names.push_back(fmt::format("{} ({:.0f}%)", by_load[i].second,
                                  -100.0 * static_cast<double>(by_load[i].first) / static_cast<double>(total)));
    }
    const double most = std::log(static_cast<double>(s.load_E.size()));
    text += fmt::format("{:>5}  {}{:{}}  {:>6.0f}%  {}\n", index, bars(s), "", width - bar_width(s),
                        most == 0.0 ? 100.0 : 100.0 * s.mean_entropy() / most, fmt::join(names, ", "));
  }
  return text;
}

std::string domain_table(const observe::RoutingProfile& profile) {
  const auto& domains = profile.domains();
  if (domains.size() < 2) return {};
  std::size_t width = 6;
  for (const std::string& domain : domains) width = std::max(width, domain.size());
  std::string text = fmt::format("layer  {:<{}}  experts that prefer it (share of the domain over the mean of all)\n",
                                 "domain", width);
  for (const auto& [index, layer] : profile.layers()) {
    const auto experts = static_cast<Index>(layer.statistics.load_E.size());
    for (std::size_t x = 0; x < domains.size(); ++x) {
      std::vector<std::pair<double, Index>> found;
      for (Index e = 0; e < experts; ++e) {
        const double preference = profile.preference(index, e, x);
        if (profile.preferred_domain(index, e) == x && preference >= kPrefers) found.emplace_back(-preference, e);
      }
      std::sort(found.begin(), found.end());
      std::vector<std::string> names;
      for (std::size_t i = 0; i < std::min(kNamed, found.size()); ++i) {
        names.push_back(fmt::format("{} ({:.1f}x)", found[i].second, -found[i].first));
      }
      if (found.size() > kNamed) names.push_back(fmt::format("and {} more", found.size() - kNamed));
      text += fmt::format("{:>5}  {:<{}}  {}\n", x == 0 ? std::to_string(index) : "", domains[x], width,
                          names.empty() ? "none clearly" : fmt::format("{}", fmt::join(names, ", ")));
    }
  }
  return text;
}

std::string quoted_token(const text::Tokenizer& tokenizer, std::int32_t id) {
  // The tokenizer may have fewer ids than the model's padded vocabulary.
  if (id >= tokenizer.vocab_size()) return fmt::format("<{}>", id);
  return nlohmann::json(tokenizer.token_bytes(id)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string favourite_table(const observe::RoutingProfile& profile, Index layer, const text::Tokenizer& tokenizer) {
  constexpr std::size_t kTokens = 8;
  std::string text = fmt::format("layer {}: tokens that each expert gets more than its load explains\n", layer);
  const auto experts = static_cast<Index>(profile.layers().at(layer).statistics.load_E.size());
  for (Index e = 0; e < experts; ++e) {
    std::vector<std::string> tokens;
    for (const auto& favourite : profile.favourites(layer, e, kTokens))
      tokens.push_back(quoted_token(tokenizer, favourite.id));
    text += fmt::format("  {:>4}  {}\n", e, tokens.empty() ? "(none)" : fmt::format("{}", fmt::join(tokens, " ")));
  }
  return text;
}

nlohmann::ordered_json routing_json(const observe::RoutingProfile& profile, const text::Tokenizer* tokenizer) {
  constexpr std::size_t kTokens = 16;
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const auto& [index, layer] : profile.layers()) {
    const moe::RoutingStatistics& s = layer.statistics;
    nlohmann::ordered_json json;
    json["layer"] = index;
    json["tokens"] = s.tokens;
    json["assignments"] = s.assignments;
    json["dropped"] = s.dropped;
    json["rerouted"] = s.rerouted;
    json["max_violation"] = s.max_violation();
    json["entropy"] = s.mean_entropy();
    json["dead"] = s.dead_experts();
    json["load"] = s.load_E;
    json["importance"] = s.importance_E;
    for (std::size_t x = 0; profile.domains().size() > 1 && x < profile.domains().size(); ++x) {
      json["load_by_domain"][profile.domains()[x]] = layer.load_by_domain_XE[x];
    }
    if (tokenizer != nullptr) {
      json["favourite_tokens"] = nlohmann::ordered_json::array();
      for (Index e = 0; e < static_cast<Index>(s.load_E.size()); ++e) {
        nlohmann::ordered_json row = nlohmann::ordered_json::array();
        for (const auto& favourite : profile.favourites(index, e, kTokens)) {
          row.push_back({{"id", favourite.id},
                         {"token", quoted_token(*tokenizer, favourite.id)},
                         {"count", favourite.count},
                         {"share", favourite.share}});
        }
        json["favourite_tokens"].push_back(std::move(row));
      }
    }
    layers.push_back(std::move(json));
  }
  return layers;
}

}  // namespace switchyard::cli
