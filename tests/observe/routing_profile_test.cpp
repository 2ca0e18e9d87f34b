#include "switchyard/observe/routing_profile.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "observe/events.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::observe {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Choice = std::vector<std::vector<std::int32_t>>;

std::vector<std::int32_t> ids_of(const std::vector<FavouriteToken>& tokens) {
  std::vector<std::int32_t> ids;
  for (const FavouriteToken& token : tokens) ids.push_back(token.id);
  return ids;
}

TEST(RoutingProfile, CountsLoadsByLayerAndDomain) {
  RoutingProfile profile({"code", "prose"});
  profile.set_domain(0);
  see(profile, 2, 4, {{0, 1}, {0, 2}}, {10, 11});
  profile.set_domain(1);
  see(profile, 2, 4, {{1, 0}}, {10});
  see(profile, 2, 4, {{1}, {1}, {}}, {12, 12, 13});
  see(profile, 5, 2, {{1}}, {10});
  ASSERT_EQ(profile.layers().size(), 2U);
  const LayerProfile& layer = profile.layers().at(2);
  EXPECT_THAT(layer.statistics.load_E, ElementsAre(3, 4, 1, 0));
  EXPECT_THAT(layer.load_by_domain_XE[0], ElementsAre(2, 1, 1, 0));
  EXPECT_THAT(layer.load_by_domain_XE[1], ElementsAre(1, 3, 0, 0));
  EXPECT_THAT(profile.layers().at(5).load_by_domain_XE[0], ElementsAre(0, 0));
  EXPECT_EQ(layer.token_count.at(10), 4);
  EXPECT_EQ(layer.token_count.at(12), 2);
  EXPECT_EQ(layer.token_count.count(13), 0U);
}

// The shares of expert 0: 2 of 4 and 1 of 4 assignments; their mean is 3/8.
TEST(RoutingProfile, PreferenceIsTheShareOverTheMeanShare) {
  RoutingProfile profile({"code", "prose"});
  see(profile, 0, 4, {{0, 1}, {0, 2}}, {1, 2});
  profile.set_domain(1);
  see(profile, 0, 4, {{1, 0}, {1}, {1}}, {1, 2, 3});
  EXPECT_DOUBLE_EQ(profile.preference(0, 0, 0), (2.0 / 4.0) / (3.0 / 8.0));
  EXPECT_DOUBLE_EQ(profile.preference(0, 0, 1), (1.0 / 4.0) / (3.0 / 8.0));
  EXPECT_DOUBLE_EQ(profile.preference(0, 1, 0), (1.0 / 4.0) / (2.0 / 4.0));
  EXPECT_DOUBLE_EQ(profile.preference(0, 2, 0), 2.0);
  EXPECT_DOUBLE_EQ(profile.preference(0, 2, 1), 0.0);
  EXPECT_DOUBLE_EQ(profile.preference(0, 3, 0), 0.0);  // a dead expert prefers nothing
  EXPECT_EQ(profile.preferred_domain(0, 0), 0U);
  EXPECT_EQ(profile.preferred_domain(0, 1), 1U);
  EXPECT_EQ(profile.preferred_domain(0, 2), 0U);
}

// A long domain must not win by its length.
TEST(RoutingProfile, PreferenceDoesNotDependOnTheLengthOfADomain) {
  RoutingProfile profile({"short", "long"});
  see(profile, 0, 2, {{0}, {1}}, {1, 2});
  profile.set_domain(1);
  for (int i = 0; i < 50; ++i) see(profile, 0, 2, {{0}, {1}}, {1, 2});
  EXPECT_DOUBLE_EQ(profile.preference(0, 0, 0), 1.0);
  EXPECT_DOUBLE_EQ(profile.preference(0, 0, 1), 1.0);
}

TEST(RoutingProfile, ADomainThatWasNeverSeenPrefersNothing) {
  RoutingProfile profile({"seen", "unseen"});
  see(profile, 0, 2, {{0}, {1}}, {1, 2});
  EXPECT_DOUBLE_EQ(profile.preference(0, 0, 1), 0.0);
  EXPECT_DOUBLE_EQ(profile.preference(0, 0, 0), 2.0);
}

TEST(RoutingProfile, DroppedAssignmentsDoNotCount) {
  RoutingProfile profile;
  see(profile, 0, 2, {{0}, {0}, {1}}, {7, 7, 8}, {1});
  EXPECT_THAT(profile.layers().at(0).load_by_domain_XE[0], ElementsAre(1, 1));
  EXPECT_THAT(profile.layers().at(0).statistics.load_E, ElementsAre(1, 1));
  EXPECT_EQ(profile.layers().at(0).token_count.at(7), 1);
}

TEST(RoutingProfile, FavouritesAreWhatLoadDoesNotExplain) {
  RoutingProfile profile;
  // Expert 0 gets 6 of 12 assignments: all 3 of token 5, 2 of 4 of token 6, 1 of 5 of token 7.
  const Choice choice = {{0}, {0}, {0}, {0}, {0}, {1}, {1}, {0}, {1}, {1}, {1}, {1}};
  see(profile, 0, 2, choice, {5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7, 7});
  const auto favourites = profile.favourites(0, 0, 10);
  ASSERT_THAT(ids_of(favourites), ElementsAre(5));  // token 6 is even, token 7 below its share
  EXPECT_EQ(favourites[0].count, 3);
  EXPECT_DOUBLE_EQ(favourites[0].share, 1.0);
  const auto others = profile.favourites(0, 1, 10);
  ASSERT_THAT(ids_of(others), ElementsAre(7));
  EXPECT_EQ(others[0].count, 4);
  EXPECT_DOUBLE_EQ(others[0].share, 0.8);
}

TEST(RoutingProfile, FavouritesComeStrongestFirstAndTiesByIdWhateverTheOrder) {
  // Expert 0 gets a quarter. Token 3: 4 of 4; tokens 1, 2 and 900: 2 of 2 each. Expert 1 gets the rest.
  std::vector<std::int32_t> ids = {900, 3, 1, 3, 2, 3, 900, 2, 1, 3};
  Choice choice(ids.size(), {0});
  for (int i = 0; i < 30; ++i) {
    ids.push_back(50 + i);
    choice.push_back({1});
  }
  RoutingProfile profile;
  see(profile, 0, 2, choice, ids);
  EXPECT_THAT(ids_of(profile.favourites(0, 0, 10)), ElementsAre(3, 1, 2, 900));
  EXPECT_THAT(ids_of(profile.favourites(0, 0, 2)), ElementsAre(3, 1));
  EXPECT_THAT(profile.favourites(0, 0, 0), IsEmpty());
  std::reverse(ids.begin(), ids.end());
  std::reverse(choice.begin(), choice.end());
  RoutingProfile backwards;
  see(backwards, 0, 2, choice, ids);
  EXPECT_EQ(ids_of(backwards.favourites(0, 0, 10)), ids_of(profile.favourites(0, 0, 10)));
  EXPECT_EQ(ids_of(backwards.favourites(0, 1, 99)), ids_of(profile.favourites(0, 1, 99)));
}

TEST(RoutingProfile, TokensMayBeUnknown) {
  RoutingProfile profile;
  see(profile, 0, 3, {{0}, {1}}, {});
  EXPECT_THAT(profile.layers().at(0).load_by_domain_XE[0], ElementsAre(1, 1, 0));
  EXPECT_THAT(profile.favourites(0, 0, 5), IsEmpty());
  EXPECT_THAT(profile.favourites(0, 2, 5), IsEmpty());
}

TEST(RoutingProfile, ADomainOutOfRangeIsABrokenPromise) {
  EXPECT_THROW(RoutingProfile(std::vector<std::string>{}), Error);
  RoutingProfile profile({"only"});
  profile.set_domain(1);
  EXPECT_THROW(see(profile, 0, 2, {{0}}, {1}), Error);
}

}  // namespace
}  // namespace switchyard::observe
