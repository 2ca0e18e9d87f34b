// What a preset routes, against the published formula of its library written out here once more, in double: from the
// same logits the same experts with the same weights.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <set>

#include "preset_routing.hpp"

namespace switchyard::moe {
namespace {

// Experts and weights that the layer's own stages give outside training.
std::vector<Chosen> routed(const MoeConfig& config, const std::vector<float>& logits, const std::vector<float>& bias) {
  const Assignments list = assignments_of(config, logits, bias);
  std::vector<Chosen> rows(static_cast<std::size_t>(list.tokens));
  for (const oracle::MoeChoice& c : choices_of(list)) rows[static_cast<std::size_t>(c.token)][c.expert] = c.weight;
  return rows;
}

// transformers' MixtralSparseMoeBlock and Qwen3MoeSparseMoeBlock with norm_topk_prob; without it OLMoE, Qwen2-MoE,
// DeepSeekMoE (whose factor is 1) and grok-1's router.
Chosen softmax_then_top_k(const Row& logits, Index k, bool normalise, double factor = 1.0) {
  const Row p = softmax(logits);
  Chosen chosen;
  double sum = 0.0;
  for (const Index e : best(p, k)) sum += chosen[e] = at(p, e);
  for (auto& [e, w] : chosen) w = factor * (normalise ? w / sum : w);
  return chosen;
}

// GptOssTopKRouter, JetMoe's and Megatron's post-softmax: softmax over the k largest logits.
Chosen top_k_then_softmax(const Row& logits, Index k) {
  Chosen chosen;
  double sum = 0.0;
  for (const Index e : best(logits, k)) sum += chosen[e] = std::exp(at(logits, e));
  for (auto& [e, w] : chosen) w /= sum;
  return chosen;
}

// MoEGate of DeepSeek-V3's inference code (route by groups only where there are several).
Chosen deepseek_v3(const Row& logits, const Row& bias, Index groups, Index kept, Index k, double factor) {
  const Row s = sigmoid(logits);
  Row key = s;
  for (std::size_t e = 0; e < key.size(); ++e) key[e] += bias[e];
  const Index size = static_cast<Index>(key.size()) / groups;
  if (groups > 1) {
    Row group_score;
    for (Index g = 0; g < groups; ++g) {
      Row members(key.begin() + g * size, key.begin() + (g + 1) * size);
      std::sort(members.rbegin(), members.rend());
      group_score.push_back(members[0] + members[1]);
    }
    const std::vector<Index> keep = best(group_score, kept);
    for (Index e = 0; e < static_cast<Index>(key.size()); ++e)
      if (std::find(keep.begin(), keep.end(), e / size) == keep.end())
        key[static_cast<std::size_t>(e)] = -std::numeric_limits<double>::infinity();
  }
  Chosen chosen;
  double sum = 0.0;
  for (const Index e : best(key, k)) sum += chosen[e] = at(s, e);
  for (auto& [e, w] : chosen) w = factor * w / sum;
  return chosen;
}

// MoEGate of DeepSeek-V2's modeling_deepseek.py, topk_method group_limited_greedy, norm_topk_prob false.
Chosen deepseek_v2(const Row& logits, Index groups, Index kept, Index k, double factor) {
  Row p = softmax(logits);
  const Index size = static_cast<Index>(p.size()) / groups;
  Row group_score;
  for (Index g = 0; g < groups; ++g)
    group_score.push_back(*std::max_element(p.begin() + g * size, p.begin() + (g + 1) * size));
  const std::vector<Index> keep = best(group_score, kept);
  Row masked = p;
  for (Index e = 0; e < static_cast<Index>(p.size()); ++e)
    if (std::find(keep.begin(), keep.end(), e / size) == keep.end()) masked[static_cast<std::size_t>(e)] = 0.0;
  Chosen chosen;
  for (const Index e : best(masked, k)) chosen[e] = factor * at(p, e);
  return chosen;
}

// PhiMoE's sparsemixer outside training: the largest, with its share among those nearly as large; then the same of the
// others, whose nearness is measured against all.
Chosen sparse_mixer(const Row& logits, double jitter) {
  Chosen chosen;
  for (int round = 0; round < 2; ++round) {
    Index top = -1;
    for (Index e = 0; e < static_cast<Index>(logits.size()); ++e)
      if (!chosen.contains(e) && (top < 0 || at(logits, e) > at(logits, top))) top = e;
    const double most = at(logits, top);
    double sum = 0.0;
    for (Index e = 0; e < static_cast<Index>(logits.size()); ++e) {
      const double gap = (most - at(logits, e)) / std::max(std::abs(at(logits, e)), most);
      if (!chosen.contains(e) && gap <= 2.0 * jitter) sum += std::exp(at(logits, e) - most);
    }
    chosen[top] = 1.0 / sum;
  }
  return chosen;
}

struct Published {
  const char* name;
  Index experts;
  std::function<Chosen(const Row& logits, const Row& bias)> formula;
};

TEST(Presets, RouteAsTheirLibrariesDo) {
  const std::vector<Published> published = {
      {"mixtral", 8, [](const Row& r, const Row&) { return softmax_then_top_k(r, 2, true); }},
      {"qwen3-moe", 128, [](const Row& r, const Row&) { return softmax_then_top_k(r, 8, true); }},
      {"tutel", 16, [](const Row& r, const Row&) { return softmax_then_top_k(r, 2, true); }},
      {"deepspeed-topk", 16, [](const Row& r, const Row&) { return softmax_then_top_k(r, 2, true); }},
      {"olmoe", 64, [](const Row& r, const Row&) { return softmax_then_top_k(r, 8, false); }},
      {"qwen2-moe", 60, [](const Row& r, const Row&) { return softmax_then_top_k(r, 4, false); }},
      {"deepseek-moe", 64, [](const Row& r, const Row&) { return softmax_then_top_k(r, 6, false); }},
      {"grok-1", 8, [](const Row& r, const Row&) { return softmax_then_top_k(r, 2, false); }},
      {"switch", 8, [](const Row& r, const Row&) { return softmax_then_top_k(r, 1, false); }},
      {"deepspeed-top1", 8, [](const Row& r, const Row&) { return softmax_then_top_k(r, 1, false); }},
      {"megablocks-dmoe", 8, [](const Row& r, const Row&) { return softmax_then_top_k(r, 1, false); }},
      {"dbrx", 16, [](const Row& r, const Row&) { return softmax_then_top_k(r, 4, true); }},  // the 1-norm
      {"glam", 64, [](const Row& r, const Row&) { return softmax_then_top_k(r, 2, true); }},
      {"gpt-oss", 32, [](const Row& r, const Row&) { return top_k_then_softmax(r, 4); }},
      {"jetmoe", 8, [](const Row& r, const Row&) { return top_k_then_softmax(r, 2); }},
      {"megatron", 8, [](const Row& r, const Row&) { return top_k_then_softmax(r, 2); }},
      {"shazeer-2017", 32, [](const Row& r, const Row&) { return top_k_then_softmax(r, 4); }},
      {"deepseek-v2", 160, [](const Row& r, const Row&) { return deepseek_v2(r, 8, 3, 6, 16.0); }},
      {"deepseek-v3", 256, [](const Row& r, const Row& b) { return deepseek_v3(r, b, 8, 4, 8, 2.5); }},
      {"kimi-k2", 384, [](const Row& r, const Row& b) { return deepseek_v3(r, b, 1, 1, 8, 2.827); }},
      {"moonlight", 64, [](const Row& r, const Row& b) { return deepseek_v3(r, b, 1, 1, 6, 2.446); }},
      {"base-layers", 8,
       [](const Row& r, const Row&) {
         const Index e = best(r, 1)[0];
         return Chosen{{e, at(sigmoid(r), e)}};
       }},
      {"dynamic-top-p", 16,
       [](const Row& r, const Row&) {
         const Row p = softmax(r);
         Chosen chosen;
         double sum = 0.0;
         for (const Index e : best(p, 16)) {
           if (sum > 0.4) break;
           sum += chosen[e] = at(p, e);
         }
         return chosen;
       }},
      {"moe++", 8, [](const Row& r, const Row&) { return softmax_then_top_k(r, 2, true); }},  // of 8 and 4 special ones
      {"phi-3.5-moe", 16, [](const Row& r, const Row&) { return sparse_mixer(r, 0.01); }},
      {"longcat", 512,
       [](const Row& r, const Row& b) {
         const Row p = softmax(r);
         Row key = p;
         for (std::size_t e = 0; e < key.size(); ++e) key[e] += b[e];
         Chosen chosen;
         for (const Index e : best(key, 12)) chosen[e] = 6.0 * at(p, e);
         return chosen;
       }},
  };
  constexpr Index kTokens = 50;
  for (const Published& p : published) {
    SCOPED_TRACE(p.name);
    const MoeConfig config = config_of(p.name, p.experts);
    const Index experts = config.router.choices();
    const std::vector<float> logits = oracle::random_values(kTokens * experts, 11, 1.5F);
    std::vector<float> bias;
    // Small enough next to a softmax over hundreds of experts, large enough to change choices.
    if (config.router.selection_bias)
      bias = oracle::random_values(experts, 12, config.router.score == "softmax" ? 1e-3F : 0.2F);
    const std::vector<Chosen> rows = routed(config, logits, bias);
    for (Index t = 0; t < kTokens; ++t) {
      const Row r(logits.begin() + t * experts, logits.begin() + (t + 1) * experts);
      const Chosen expected = p.formula(r, {bias.begin(), bias.end()});
      const Chosen& found = rows[static_cast<std::size_t>(t)];
      ASSERT_EQ(found.size(), expected.size()) << "token " << t;
      for (const auto& [e, w] : expected) {
        ASSERT_TRUE(found.contains(e)) << "token " << t << " expert " << e;
        EXPECT_NEAR(found.at(e), w, 4.0 * oracle::sum_tolerance(experts) * std::abs(w)) << "token " << t;
      }
    }
  }
}

TEST(Presets, EveryOneIsValidForItsPublishedSizeAndNamesItsSource) {
  std::set<std::string_view> names;
  for (const Preset& preset : presets()) {
    SCOPED_TRACE(preset.name);
    EXPECT_TRUE(names.insert(preset.name).second) << "twice";
    EXPECT_FALSE(preset.source.empty());
    MoeConfig config;
    config.router.experts = preset.experts > 0 ? preset.experts : 16;
    config.expert.hidden = 4;
    apply_preset(preset, config);
    EXPECT_EQ(config.router.experts, preset.experts > 0 ? preset.experts : 16);
    EXPECT_NO_THROW(config.validate("preset"));
  }
}

TEST(Presets, NothingOfAnEarlierConfigRemains) {
  MoeConfig config;
  config.router.scale = 9.0F;
  config.capacity.factor = 3.0F;
  config.balance.z_loss = 7.0F;
  apply_preset(find_preset("grok-1"), config);
  EXPECT_EQ(config.router.scale, 1.0F);
  EXPECT_EQ(config.capacity.factor, 0.0F);
  EXPECT_EQ(config.balance.z_loss, 0.0F);
}

TEST(Presets, UnknownNameListsTheKnown) {
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [] { find_preset("mistral"); }),
              testing::StartsWith("unknown router preset 'mistral', expected one of shazeer-2017, gshard"));
}

}  // namespace
}  // namespace switchyard::moe
