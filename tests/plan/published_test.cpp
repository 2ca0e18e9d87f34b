// Counts of published models, to the digit where an independent count exists and as publishers round them elsewhere.

#include "switchyard/plan/published.hpp"

#include <gmock/gmock.h>

#include <map>

namespace switchyard::plan {
namespace {

// Totals computed from the formulas of the models' papers by another program; active counts of it in billions, rounded.
struct Expected {
  Index total = 0;
  double active = 0.0, without_lookup = 0.0, in_layers = 0.0;
};
const std::map<std::string_view, Expected> kExpected = {
    {"Mixtral-8x7B", {46'702'792'704, 12.880, 12.749, 12.618}},
    {"Mixtral-8x22B", {140'620'634'112, 39.152, 38.955, 38.759}},
    {"Qwen1.5-MoE-A2.7B", {14'315'784'192, 2.689, 2.378, 2.067}},
    {"Qwen2-57B-A14B", {57'408'658'944, 14.249, 13.705, 13.160}},
    {"Qwen3-30B-A3B", {30'532'122'624, 3.353, 3.042, 2.731}},
    {"Qwen3-235B-A22B", {235'093'634'560, 22.191, 21.568, 20.946}},
    {"Qwen3-Coder-480B-A35B", {480'154'875'392, 35.475, 34.541, 33.608}},
    {"DeepSeekMoE-16B", {16'375'728'128, 2.829, 2.619, 2.409}},
    {"DeepSeek-V2-Lite", {15'706'484'224, 2.661, 2.451, 2.242}},
    {"DeepSeek-V2", {235'741'434'880, 21.376, 20.852, 20.327}},
    {"DeepSeek-V3", {671'026'419'200, 37.552, 36.626, 35.699}},
    {"Kimi-K2", {1'026'408'232'448, 32.862, 31.687, 30.513}},
    {"DBRX", {131'596'523'520, 36.470, 35.853, 35.237}},
    {"Grok-1", {315'684'820'992, 83.757, 83.757, 82.951}},
    {"OLMoE-1B-7B", {6'919'161'856, 1.282, 1.179, 1.076}},
    {"gpt-oss-20b", {20'914'757'184, 4.187, 3.608, 3.029}},
    {"gpt-oss-120b", {116'829'156'672, 5.712, 5.133, 4.554}},
    {"Phi-3.5-MoE", {41'873'153'344, 6.641, 6.510, 6.378}},
    {"Granite-3.0-3b-a800m", {3'298'793'472, 0.883, 0.883, 0.807}},
    {"Granite-3.0-1b-a400m", {1'334'628'352, 0.429, 0.429, 0.378}},
    {"GLM-4.5", {352'797'829'024, 33.632, 32.856, 32.080}},
    {"GLM-4.5-Air", {106'852'251'264, 13.424, 12.803, 12.183}},
    {"MiniMax-M2", {228'689'764'864, 11.031, 10.416, 9.801}},
    {"ERNIE-4.5-21B-A3B", {21'825'437'888, 3.352, 3.352, 3.087}},
    {"ERNIE-4.5-300B-A47B", {299'484'163'264, 47.927, 47.079, 46.232}},
};
constexpr double kRounding = 0.0005e9 + 1.0;

TEST(Published, CountsAreExact) {
  const std::vector<TableRow> rows = published_table({}, 0.0);
  ASSERT_EQ(rows.size(), kExpected.size());
  for (const TableRow& row : rows) {
    const Expected& expected = kExpected.at(row.model->name);
    EXPECT_EQ(row.counts.total, expected.total) << row.model->name;
    EXPECT_NEAR(static_cast<double>(row.counts.active), expected.active * 1e9, kRounding) << row.model->name;
    EXPECT_NEAR(static_cast<double>(row.counts.active_without_lookup), expected.without_lookup * 1e9, kRounding)
        << row.model->name;
    EXPECT_NEAR(static_cast<double>(row.counts.active_in_layers), expected.in_layers * 1e9, kRounding)
        << row.model->name;
    Index sum = 0;
    for (const Index part : row.counts.parts) sum += part;
    EXPECT_EQ(sum, row.counts.total) << row.model->name;
  }
}

model::ModelConfig config_of(std::string_view name) {
  for (const PublishedModel& model : published_models())
    if (model.name == name) return model::parse_config(model.config, std::string(name)).config;
  ADD_FAILURE() << name << " is not in the table";
  return {};
}

TEST(Published, CachesAreThoseOfThePapers) {
  EXPECT_EQ(cached_numbers(config_of("Mixtral-8x7B"), 1, false), 65'536);
  EXPECT_EQ(cached_numbers(config_of("Qwen3-235B-A22B"), 1, false), 96'256);
  EXPECT_EQ(cached_numbers(config_of("DBRX"), 1, false), 81'920);
  EXPECT_EQ(cached_numbers(config_of("Grok-1"), 1, false), 131'072);
  EXPECT_EQ(cached_numbers(config_of("gpt-oss-120b"), 1, false), 36'864);
  // The latent and the shared rotated key: 512 + 64 in each of 61 layers.
  EXPECT_EQ(cached_numbers(config_of("DeepSeek-V3"), 1, false), 35'136);
  // Half of the layers keep 128 positions.
  EXPECT_EQ(cached_numbers(config_of("gpt-oss-120b"), 1000, true), 18 * 1024 * (1000 + 128));
  EXPECT_EQ(cached_numbers(config_of("gpt-oss-120b"), 1000, false), 36'864 * 1000);
}

TEST(Published, TrainingCost) {
  const GpuAssumptions gpu{989.0, 0.5};
  for (const TableRow& row : published_table(gpu, 2e12)) {
    EXPECT_DOUBLE_EQ(row.flops, 6.0 * static_cast<double>(row.counts.active_without_lookup) * row.tokens);
    EXPECT_DOUBLE_EQ(row.gpu_hours * 3600.0 * 989e12 * 0.5, row.flops);
    EXPECT_TRUE(row.tokens_published || row.tokens == 2e12) << row.model->name;
    if (row.model->name == "DeepSeek-V3") {
      EXPECT_TRUE(row.tokens_published);
      // 6 x 36.63e9 x 14.8e12 / (2.788e6 x 3600 x 989e12)
      EXPECT_NEAR(row.implied_utilisation, 0.3277, 0.0001);
    }
    // Hours are published, tokens are not.
    if (row.model->name == "gpt-oss-120b") {
      EXPECT_EQ(row.implied_utilisation, 0.0);
    }
  }
}

TEST(Published, ModelsThatAreNotPublicAreNamed) {
  EXPECT_THAT(models_not_public(), testing::ElementsAre("GPT-4", "Gemini 1.5"));
}

}  // namespace
}  // namespace switchyard::plan
