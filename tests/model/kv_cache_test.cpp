#include "switchyard/model/kv_cache.hpp"

#include <gmock/gmock.h>

#include "model/small_models.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

ModelConfig config_of_two_layers() { return model_of(12, 8, {dense_layer(4, 2, 6, 9), dense_layer(4, 1, 2, 9)}); }

TEST(KvCache, GrowsAndKeepsWhatItHolds) {
  KvCache cache(config_of_two_layers(), 1000);
  EXPECT_EQ(cache.length(), 0);
  EXPECT_EQ(cache.bytes(), 0);
  EXPECT_EQ(cache.capacity(), 1000);
  Index growths = 0;
  const float* memory = nullptr;
  for (Index t = 0; t < 1000; ++t) {
    cache.reserve(1);
    ASSERT_GT(cache.keys(0).shape()[0], t);
    ASSERT_EQ(cache.keys(0).shape()[1], 12);
    ASSERT_EQ(cache.values(1).shape()[1], 2);
    if (std::as_const(cache.keys(0)).f32().data() != memory) ++growths;
    memory = std::as_const(cache.keys(0)).f32().data();
    cache.keys(0).matrix()(t, 11) = static_cast<float>(t);
    cache.values(1).matrix()(t, 0) = static_cast<float>(-t);
    cache.advance(1);
  }
  for (Index t = 0; t < 1000; ++t) {
    EXPECT_EQ(cache.keys(0).matrix()(t, 11), static_cast<float>(t));
    EXPECT_EQ(cache.values(1).matrix()(t, 0), static_cast<float>(-t));
  }
  EXPECT_LE(growths, 6) << "64, 128, 256, 512, 1000";
  EXPECT_EQ(cache.bytes(), 1000 * 2 * (12 + 2) * 4);
}

TEST(KvCache, RefusesMoreThanItsCapacity) {
  KvCache cache(config_of_two_layers(), 5);
  cache.reserve(5);
  cache.advance(3);
  EXPECT_NO_THROW(cache.reserve(2));
  try {
    cache.reserve(3);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    EXPECT_THAT(error.what(), testing::HasSubstr("5 positions"));
  }
  EXPECT_EQ(cache.keys(0).shape()[0], 5);
  EXPECT_THROW(KvCache(config_of_two_layers(), 0), Error);
}

TEST(KvCache, TruncatedItContinuesFromThere) {
  const ModelConfig config = config_of_two_layers();
  Transformer transformer(config);
  randomize(transformer, 100);
  const auto last_row = [&](KvCache& cache, const std::vector<std::int32_t>& ids) {
    ForwardCall call;
    call.sequence = static_cast<Index>(ids.size());
    call.cache = &cache;
    const ForwardResult result = transformer.forward(ids, call);
    const auto row = result.hidden_TD.matrix().row_span(call.sequence - 1);
    return std::vector<float>(row.begin(), row.end());
  };
  KvCache straight(config, 8), turned(config, 8);
  const std::vector<std::int32_t> prefix{1, 2, 3}, wrong{4, 5}, right{6, 7};
  last_row(straight, prefix);
  last_row(turned, prefix);
  last_row(turned, wrong);
  turned.truncate(3);
  EXPECT_EQ(turned.length(), 3);
  EXPECT_EQ(last_row(turned, right), last_row(straight, right));
  EXPECT_THROW(turned.truncate(6), Error);
  EXPECT_THROW(turned.truncate(-1), Error);
}

}  // namespace
}  // namespace switchyard::model
