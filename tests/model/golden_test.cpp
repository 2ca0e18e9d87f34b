// Models that independent implementations made and ran (tools/golden/README.md): every folder of tests/golden that
// holds ids.npy. The logits are theirs, and so are the chosen experts, whether a text is read at once, token by token
// or in chunks, with weights converted to float32 or read from the file as they are stored.

#include <gmock/gmock.h>

#include <algorithm>

#include "model_folders.hpp"
#include "oracle/compare.hpp"
#include "switchyard/formats/npy.hpp"

namespace switchyard::model {
namespace {

namespace fs = std::filesystem;

// max |difference| / max |logit| that the documentation promises.
constexpr double kAgreement = 2e-5;

// Chosen experts of every MoE layer: [layer][token], ascending.
class Choices : public moe::RoutingObserver {
 public:
  void on_routing(const moe::RoutingEvent& event) override {
    auto& tokens = of_layer_[event.layer];
    const moe::Assignments& a = event.assignments;
    for (Index t = 0; t < a.tokens; ++t) {
      const auto at = static_cast<std::size_t>(t);
      std::vector<std::int32_t> experts(a.expert_A.begin() + a.offset_T1[at], a.expert_A.begin() + a.offset_T1[at + 1]);
      std::sort(experts.begin(), experts.end());
      tokens.push_back(std::move(experts));
    }
  }
  std::vector<std::int32_t> flat() const {
    std::vector<std::int32_t> all;
    for (const auto& [layer, tokens] : of_layer_)
      for (const auto& experts : tokens) all.insert(all.end(), experts.begin(), experts.end());
    return all;
  }

 private:
  std::map<Index, std::vector<std::vector<std::int32_t>>> of_layer_;
};

struct Ran {
  std::vector<float> logits;
  std::vector<std::int32_t> experts;
};

// chunk 0: at once and without a cache.
Ran run(Transformer& transformer, const std::vector<std::int32_t>& ids, Index chunk) {
  Choices choices;
  Ran ran;
  const auto length = static_cast<Index>(ids.size());
  KvCache cache(transformer.config(), length);
  const Index step = chunk == 0 ? length : chunk;
  for (Index begin = 0; begin < length; begin += step) {
    ForwardCall call;
    call.sequence = std::min(step, length - begin);
    call.cache = chunk == 0 ? nullptr : &cache;
    call.text_length = length;
    call.observer = &choices;
    const auto part = std::span(ids).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(call.sequence));
    const Tensor logits = transformer.logits(transformer.forward(part, call).hidden_TD.matrix());
    ran.logits.insert(ran.logits.end(), logits.f32().begin(), logits.f32().end());
  }
  ran.experts = choices.flat();
  return ran;
}

class GoldenModelTest : public testing::TestWithParam<std::string> {
 protected:
  std::vector<std::int32_t> ids() const { return golden_ids(GetParam()); }

  // Whether the model routes at all is told by its config, so that a fixture that lacks its choices is found.
  void expect_golden(const Ran& ran) const {
    const Tensor logits = formats::read_npy(golden(GetParam()) / "logits.npy");
    EXPECT_TRUE(oracle::close(ran.logits, oracle::to_double(logits.f32()), kAgreement));
    const fs::path experts = golden(GetParam()) / "experts.npy";
    if (!load_model_config(golden(GetParam())).has_moe()) return;
    const Tensor chosen = formats::read_npy(experts);
    const auto expected = chosen.values<std::int32_t>();
    EXPECT_TRUE(std::equal(ran.experts.begin(), ran.experts.end(), expected.begin(), expected.end()));
  }
};

TEST_P(GoldenModelTest, AtOnce) {
  LoadedModel model = load_model(golden(GetParam()), {.stored = false});
  expect_golden(run(model.transformer, ids(), 0));
}

TEST_P(GoldenModelTest, TokenByTokenAndInChunksWithACache) {
  LoadedModel model = load_model(golden(GetParam()), {.stored = false});
  expect_golden(run(model.transformer, ids(), 1));
  expect_golden(run(model.transformer, ids(), 5));
  expect_golden(run(model.transformer, ids(), static_cast<Index>(ids().size())));
}

TEST_P(GoldenModelTest, TheSameBitsFromWeightsAsTheyAreStored) {
  LoadedModel converted = load_model(golden(GetParam()), {.stored = false});
  LoadedModel stored = load_model(golden(GetParam()), {.stored = true});
  for (const Index chunk : {0, 1, 5}) {
    const Ran expected = run(converted.transformer, ids(), chunk);
    const Ran found = run(stored.transformer, ids(), chunk);
    EXPECT_TRUE(oracle::same_bits(found.logits, expected.logits)) << "chunk " << chunk;
    EXPECT_EQ(found.experts, expected.experts);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenModelTest, testing::ValuesIn(golden_models()), golden_test_name);

}  // namespace
}  // namespace switchyard::model
