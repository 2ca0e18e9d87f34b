#pragma once
// What each expert works on: its load, the domains it prefers and the tokens it gets more often than chance.

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "switchyard/moe/statistics.hpp"

namespace switchyard::observe {

struct LayerProfile {
  moe::RoutingStatistics statistics;
  std::vector<std::vector<Index>> load_by_domain_XE;            // X = domains
  std::unordered_map<std::uint64_t, Index> token_expert_count;  // key: token id << 32 | expert
  std::unordered_map<std::int32_t, Index> token_count;          // assignments of a token id, to any expert
};

// A token that an expert gets: how often, and which share of all assignments of that token.
struct FavouriteToken {
  std::int32_t id = 0;
  Index count = 0;
  double share = 0.0;
};

// An observer that profiles all that passes. Give it to a forward pass; call domain() before the text of each.
class RoutingProfile final : public moe::RoutingObserver {
 public:
  explicit RoutingProfile(std::vector<std::string> domains = {"text"});

  void set_domain(std::size_t index) { domain_ = index; }
  void on_routing(const moe::RoutingEvent& event) override;

  const std::vector<std::string>& domains() const { return domains_; }
  const std::map<Index, LayerProfile>& layers() const { return layers_; }

  // The share of a domain's assignments that an expert gets, divided by the mean of that share over all domains: 1 is
  // no preference, 2 is twice the mean. 0 where the expert got nothing.
  double preference(Index layer, Index expert, std::size_t domain) const;
  // The domain with the highest preference.
  std::size_t preferred_domain(Index layer, Index expert) const;
  // Tokens that an expert gets more often than its load explains, the strongest first: ordered by
  // count * log(share / share of all assignments that the expert has).
  std::vector<FavouriteToken> favourites(Index layer, Index expert, std::size_t most) const;

 private:
  double share(const LayerProfile& layer, Index expert, std::size_t domain) const;
  std::vector<std::string> domains_;
  std::map<Index, LayerProfile> layers_;
  std::size_t domain_ = 0;
};

}  // namespace switchyard::observe
