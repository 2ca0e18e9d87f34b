#include "switchyard/model/config.hpp"

#include <gmock/gmock.h>

#include <functional>

#include "model/small_models.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

ModelConfig good() {
  return model_of(12, 8, {dense_layer(4, 2, 6, 9), dense_layer(4, 2, 6, 9), moe_layer(4, 2, 6, 5, 2, 3)});
}

TEST(ModelConfig, EverySmallModelIsValid) {
  EXPECT_NO_THROW(good().validate());
  for (const NamedModel& model : small_models()) EXPECT_NO_THROW(model.config.validate()) << model.name;
}

TEST(ModelConfig, HasMoe) {
  EXPECT_TRUE(good().has_moe());
  EXPECT_FALSE(model_of(12, 8, {dense_layer(4, 2, 6, 9)}).has_moe());
}

struct BadConfig {
  const char* message;  // how it starts
  std::function<void(ModelConfig&)> spoil;
};

TEST(ModelConfig, NamesThePathAndTheValue) {
  const std::vector<BadConfig> cases{
      {"model.vocab: 0, expected", [](ModelConfig& c) { c.vocab = 0; }},
      {"model.vocab: 2147483648, expected", [](ModelConfig& c) { c.vocab = Index{1} << 31; }},
      {"model.width: -8, expected", [](ModelConfig& c) { c.width = -8; }},
      {"model.max_positions: 0, expected", [](ModelConfig& c) { c.max_positions = 0; }},
      {"model.norm_eps: 0, expected", [](ModelConfig& c) { c.norm_eps = 0.0F; }},
      {"model.norm_eps: nan, expected", [](ModelConfig& c) { c.norm_eps = std::nanf(""); }},
      {"model.dropout: 1, expected", [](ModelConfig& c) { c.dropout = 1.0F; }},
      {"model.dropout: -0.5, expected", [](ModelConfig& c) { c.dropout = -0.5F; }},
      {"model.layers: none, expected", [](ModelConfig& c) { c.layers.clear(); }},
      {"model.layers[1].attention.heads: 0, expected", [](ModelConfig& c) { c.layers[1].attention.heads = 0; }},
      {"model.layers[1].attention.kv_heads: 3, expected a divisor of heads, which is 4",
       [](ModelConfig& c) { c.layers[1].attention.kv_heads = 3; }},
      {"model.layers[1].attention.kv_heads: 8, expected a divisor",
       [](ModelConfig& c) { c.layers[1].attention.kv_heads = 8; }},
      {"model.layers[0].attention.kv_heads: 0, expected", [](ModelConfig& c) { c.layers[0].attention.kv_heads = 0; }},
      {"model.layers[0].attention.head_dim: 5, expected an even number",
       [](ModelConfig& c) { c.layers[0].attention.head_dim = 5; }},
      {"model.layers[0].attention: 2147483646 heads of 6 elements",
       [](ModelConfig& c) { c.layers[0].attention.heads = 2147483646; }},
      {"model.layers[0].attention.rope_theta: 0, expected",
       [](ModelConfig& c) { c.layers[0].attention.rope_theta = 0.0; }},
      {"model.layers[0]: neither dense nor moe", [](ModelConfig& c) { c.layers[0].dense.reset(); }},
      {"model.layers[2]: both dense and moe",
       [](ModelConfig& c) {
         c.layers[2].dense = DenseFfnConfig{4, {}};
       }},
      {"model.layers[0].dense.hidden: 0, expected", [](ModelConfig& c) { c.layers[0].dense->hidden = 0; }},
      {"model.layers[2].moe.router.top_k: 6, expected", [](ModelConfig& c) { c.layers[2].moe->router.top_k = 6; }},
      {"model.layers[2].moe.expert.hidden: 0, expected", [](ModelConfig& c) { c.layers[2].moe->expert.hidden = 0; }},
  };
  for (const BadConfig& bad : cases) {
    ModelConfig config = good();
    bad.spoil(config);
    try {
      config.validate();
      ADD_FAILURE() << "accepted, expected \"" << bad.message << "\"";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
      EXPECT_THAT(error.what(), testing::StartsWith(bad.message));
    }
  }
}

TEST(ModelConfig, TheCallerNamesTheRoot) {
  ModelConfig config = good();
  config.vocab = 0;
  try {
    config.validate("config.json: model");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::StartsWith("config.json: model.vocab"));
  }
}

TEST(CountParameters, IsWhatTheModelHolds) {
  for (const NamedModel& model : small_models()) {
    const Transformer transformer(model.config);
    Index total = 0;
    for (const autograd::Parameter* parameter : transformer.parameters()) total += parameter->value.numel();
    EXPECT_EQ(count_parameters(model.config).total, total) << model.name;
  }
}

TEST(CountParameters, ByHand) {
  // One MoE layer: D 8, V 12, 2 heads of 4 with one key/value head, 5 experts of 6, 2 active, shared of 3 with a gate.
  ModelConfig config = model_of(12, 8, {moe_layer(2, 1, 4, 5, 2, 6)});
  config.layers[0].moe->shared.hidden = 3;
  config.layers[0].moe->shared.gated = true;
  const Index attention = 8 * 8 + 2 * 4 * 8 + 8 * 8, norms = 3 * 8, router = 5 * 8, expert = 3 * 6 * 8,
              shared = 3 * 3 * 8 + 8, table = 12 * 8;
  const ParameterCounts counts = count_parameters(config);
  EXPECT_EQ(counts.embedding, 2 * table);
  EXPECT_EQ(counts.total, 2 * table + attention + norms + router + 5 * expert + shared);
  EXPECT_EQ(counts.active, counts.total - 3 * expert);
  config.layers[0].moe->expert.bias = true;
  const Index biases = 2 * 6 + 8;  // of one expert; the shared one has none
  EXPECT_EQ(count_parameters(config).total, counts.total + 5 * biases);
  EXPECT_EQ(count_parameters(config).active, counts.active + 2 * biases);
  config.layers[0].moe->expert.activation = kernels::Activation::kGELU;
  const Index ungated = counts.total - 5 * 6 * 8 - 3 * 8;
  EXPECT_EQ(count_parameters(config).total, ungated + 5 * (6 + 8));
  config.layers[0].moe->expert = {6, kernels::Activation::kSwiGLU, false};
  config.tied_embeddings = true;
  EXPECT_EQ(count_parameters(config).embedding, table);
  EXPECT_EQ(count_parameters(config).total, counts.total - table);
}

TEST(CountParameters, OfAPublishedModel) {
  // Mixtral 8x7B: 46.7 G parameters, 12.9 G of them active (arXiv 2401.04088).
  ModelConfig config = model_of(32000, 4096, std::vector<LayerConfig>(32, moe_layer(32, 8, 128, 8, 2, 14336)));
  const ParameterCounts counts = count_parameters(config);
  EXPECT_EQ(counts.total, 46702792704);
  EXPECT_NEAR(static_cast<double>(counts.active), 12.9e9, 0.05e9);
}

}  // namespace
}  // namespace switchyard::model
