#include "switchyard/observe/routing_profile.hpp"

#include <algorithm>
#include <cmath>

#include "switchyard/base/error.hpp"

namespace switchyard::observe {
namespace {

std::uint64_t key_of(std::int32_t token, std::int32_t expert) {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(token)) << 32) | static_cast<std::uint32_t>(expert);
}

}  // namespace

RoutingProfile::RoutingProfile(std::vector<std::string> domains) : domains_(std::move(domains)) {
  require(!domains_.empty(), "a profile needs a domain");
}

void RoutingProfile::on_routing(const moe::RoutingEvent& event) {
  require(domain_ < domains_.size(), "domain {} of {}", domain_, domains_.size());
  LayerProfile& layer = layers_[event.layer];
  layer.statistics.add(event);
  const moe::Assignments& list = event.assignments;
  if (layer.load_by_domain_XE.empty()) {
    layer.load_by_domain_XE.assign(domains_.size(), std::vector<Index>(static_cast<std::size_t>(list.experts)));
  }
  std::vector<Index>& load_E = layer.load_by_domain_XE[domain_];
  for (std::size_t t = 0; t < static_cast<std::size_t>(list.tokens); ++t) {
    const auto begin = static_cast<std::size_t>(list.offset_T1[t]),
               end = static_cast<std::size_t>(list.offset_T1[t + 1]);
    for (std::size_t a = begin; a < end; ++a) {
      if (list.dropped_A[a] != 0) continue;
      ++load_E[static_cast<std::size_t>(list.expert_A[a])];
      if (event.token_id_T.empty()) continue;
      ++layer.token_expert_count[key_of(event.token_id_T[t], list.expert_A[a])];
      ++layer.token_count[event.token_id_T[t]];
    }
  }
}

double RoutingProfile::share(const LayerProfile& layer, Index expert, std::size_t domain) const {
  const std::vector<Index>& load_E = layer.load_by_domain_XE[domain];
  Index total = 0;
  for (const Index load : load_E) total += load;
  return total == 0 ? 0.0 : static_cast<double>(load_E[static_cast<std::size_t>(expert)]) / static_cast<double>(total);
}

double RoutingProfile::preference(Index layer, Index expert, std::size_t domain) const {
  const LayerProfile& profile = layers_.at(layer);
  double sum = 0.0;
  for (std::size_t x = 0; x < domains_.size(); ++x) sum += share(profile, expert, x);
  return sum == 0.0 ? 0.0 : share(profile, expert, domain) * static_cast<double>(domains_.size()) / sum;
}

std::size_t RoutingProfile::preferred_domain(Index layer, Index expert) const {
  std::size_t best = 0;
  for (std::size_t x = 1; x < domains_.size(); ++x) {
    if (preference(layer, expert, x) > preference(layer, expert, best)) best = x;
  }
  return best;
}

std::vector<FavouriteToken> RoutingProfile::favourites(Index layer, Index expert, std::size_t most) const {
  const LayerProfile& profile = layers_.at(layer);
  const moe::RoutingStatistics& s = profile.statistics;
  const auto kept = static_cast<double>(s.assignments - s.dropped);
  const double expected = static_cast<double>(s.load_E[static_cast<std::size_t>(expert)]) / std::max(1.0, kept);
  struct Scored {
    FavouriteToken token;
    double score;
  };
  std::vector<Scored> found;
  for (const auto& [key, count] : profile.token_expert_count) {
    if (static_cast<Index>(key & 0xFFFFFFFFU) != expert) continue;
    const auto id = static_cast<std::int32_t>(key >> 32);
    const double share = static_cast<double>(count) / static_cast<double>(profile.token_count.at(id));
    const double score = static_cast<double>(count) * std::log(share / expected);
    if (score > 0.0) found.push_back({{id, count, share}, score});
  }
  // The id decides between equals: the order of a hash table must not show.
  std::sort(found.begin(), found.end(), [](const Scored& a, const Scored& b) {
    return a.score > b.score || (a.score == b.score && a.token.id < b.token.id);
  });
  std::vector<FavouriteToken> result;
  for (std::size_t i = 0; i < std::min(most, found.size()); ++i) result.push_back(found[i].token);
  return result;
}

}  // namespace switchyard::observe
