// Published architectures: what is saved is what was loaded, and each ModelConfig is saved in the first dialect that
// expresses it. golden_test.cpp compares logits.

#include <gmock/gmock.h>

#include "model_folders.hpp"
#include "oracle/compare.hpp"

namespace switchyard::model {
namespace {

using testing::HasSubstr;

constexpr const char* kStacked = "mixtral/stacked-tied";
// Made by tools/golden/make_families.py.
constexpr const char* kGolden[] = {"mixtral/base",         kStacked,           "qwen2_moe/base",
                                   "qwen2_moe/dense-rows", "qwen3_moe/base",   "qwen3_moe/bias-dense-rows",
                                   "glm4_moe/base",        "glm4_moe/all-moe", "llama/base",
                                   "llama/bias-tied",      "minimax_m2/base",  "ernie4_5_moe/base"};
class SavedModelTest : public testing::TestWithParam<const char*> {};

TEST_P(SavedModelTest, IsSavedInTheSameDialectWithTheSameBits) {
  const LoadedModel model = load_model(golden(GetParam()));
  const TemporaryFolder folder;
  EXPECT_EQ(save_model(folder.path(), model.transformer, nullptr), model.family);
  const LoadedModel again = load_model(folder.path());
  const auto before = model.transformer.parameters();
  const auto after = again.transformer.parameters();
  ASSERT_EQ(before.size(), after.size());
  for (std::size_t i = 0; i < before.size(); ++i)
    EXPECT_TRUE(oracle::same_bits(before[i]->value.f32(), after[i]->value.f32())) << before[i]->name;
}

class PublishedNamesTest : public SavedModelTest {};

TEST_P(PublishedNamesTest, EveryTensorThatTransformersSavedIsWrittenAgain) {
  const LoadedModel model = load_model(golden(GetParam()));
  const TemporaryFolder folder;
  save_model(folder.path(), model.transformer, nullptr);
  const Tensors expected = read_tensors(golden(GetParam()));
  const Tensors actual = read_tensors(folder.path());
  ASSERT_EQ(actual.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    ASSERT_TRUE(actual.count(name)) << name;
    EXPECT_EQ(actual.at(name).shape(), tensor.shape()) << name;
    EXPECT_TRUE(oracle::same_bits(actual.at(name).f32(), tensor.f32())) << name;
  }
}

std::string test_name(const testing::TestParamInfo<const char*>& test) {
  std::string name = test.param;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
}

std::vector<const char*> golden_but_stacked() {
  std::vector<const char*> names(std::begin(kGolden), std::end(kGolden));
  std::erase(names, kStacked);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Families, SavedModelTest, testing::ValuesIn(kGolden), test_name);
INSTANTIATE_TEST_SUITE_P(Families, PublishedNamesTest, testing::ValuesIn(golden_but_stacked()), test_name);

TEST(FamiliesTest, StackedExpertsAreWrittenOneByOneUnderThePublishedNames) {
  const LoadedModel model = load_model(golden(kStacked));
  const TemporaryFolder folder;
  save_model(folder.path(), model.transformer, nullptr);
  const Tensors stacked = read_tensors(golden(kStacked));
  const Tensors single = read_tensors(folder.path());
  for (const int layer : {0, 1}) {
    const std::string from = fmt::format("model.layers.{}.mlp.", layer);
    const std::string to = fmt::format("model.layers.{}.block_sparse_moe.", layer);
    EXPECT_TRUE(oracle::same_bits(single.at(to + "gate.weight").f32(), stacked.at(from + "gate.weight").f32()));
    const Tensor& gate_up = stacked.at(from + "experts.gate_up_proj");
    const Tensor& down = stacked.at(from + "experts.down_proj");
    ASSERT_EQ(gate_up.shape(), (Shape{4, 32, 32}));
    for (std::size_t e = 0; e < 4; ++e) {
      const std::string expert = fmt::format("{}experts.{}.", to, e);
      constexpr std::size_t kCount = 16 * 32;
      const auto gate = gate_up.f32().subspan(2 * e * kCount, kCount);
      const auto up = gate_up.f32().subspan((2 * e + 1) * kCount, kCount);
      EXPECT_TRUE(oracle::same_bits(single.at(expert + "w1.weight").f32(), gate));
      EXPECT_TRUE(oracle::same_bits(single.at(expert + "w3.weight").f32(), up));
      EXPECT_TRUE(oracle::same_bits(single.at(expert + "w2.weight").f32(), down.f32().subspan(e * kCount, kCount)));
    }
  }
}

AttentionConfig attention(Index heads, Index kv_heads, Index head_dim) {
  AttentionConfig config;
  config.heads = heads;
  config.kv_heads = kv_heads;
  config.head_dim = head_dim;
  return config;
}

LayerConfig dense_row(Index hidden) {
  LayerConfig layer;
  layer.attention = attention(4, 2, 4);
  layer.dense = DenseFfnConfig{.hidden = hidden};
  return layer;
}

LayerConfig moe_row(Index experts, Index top_k, Index hidden, const std::string& normalise) {
  LayerConfig layer;
  layer.attention = attention(4, 2, 4);
  layer.moe.emplace();
  layer.moe->router.experts = experts;
  layer.moe->router.top_k = top_k;
  layer.moe->router.normalise = normalise;
  layer.moe->expert.hidden = hidden;
  return layer;
}

ModelConfig model_of(std::vector<LayerConfig> layers) {
  ModelConfig config;
  config.vocab = 19;
  config.width = 16;
  config.max_positions = 32;
  config.layers = std::move(layers);
  return config;
}

LayerConfig shared_row(bool gated, Index shared_hidden) {
  LayerConfig row = moe_row(4, 2, 6, "none");
  row.moe->shared = {.hidden = shared_hidden, .gated = gated};
  return row;
}

LayerConfig glm_row(Index shared_hidden) {
  LayerConfig row = shared_row(false, shared_hidden);
  row.moe->router.score = "sigmoid";
  row.moe->router.selection_bias = true;
  row.moe->router.normalise = "sum";
  row.moe->router.scale = 2.5F;
  return row;
}

LayerConfig changed(LayerConfig row, const std::function<void(LayerConfig&)>& change) {
  change(row);
  return row;
}

LayerConfig minimax_row(Index rotary_dim) {
  LayerConfig row = moe_row(4, 2, 6, "sum");
  row.attention.qk_norm_whole = true;
  row.attention.rotary_dim = rotary_dim;
  row.moe->router.score = "sigmoid";
  row.moe->router.selection_bias = true;
  return row;
}

LayerConfig interleaved(LayerConfig row) {
  row.attention.rope_pairing = kernels::RopePairing::kInterleaved;
  return row;
}

LayerConfig ernie_row(Index shared_hidden) {
  LayerConfig row = interleaved(moe_row(4, 2, 6, "sum"));
  row.moe->router.selection_bias = true;
  row.moe->shared = {.hidden = shared_hidden};
  return row;
}

struct Choice {
  const char* name;
  const char* family;
  ModelConfig config;
};
// GoogleTest would print the bytes, pointers included, into the test's name.
void PrintTo(const Choice& choice, std::ostream* out) { *out << choice.name; }

std::vector<Choice> choices() {
  const auto norm = [](LayerConfig& row) { row.attention.qk_norm = true; };
  const auto qkv_bias = [](LayerConfig& row) { row.attention.qkv_bias = true; };
  const auto wide_heads = [](LayerConfig& row) { row.attention.head_dim = 6; };
  const auto gelu = [](LayerConfig& row) {
    (row.dense ? row.dense->activation : row.moe->expert.activation) = kernels::Activation::kGELU;
  };
  ModelConfig tied = model_of({moe_row(4, 2, 6, "sum")});
  tied.tied_embeddings = true;
  const LayerConfig mixtral = moe_row(4, 2, 6, "sum");
  return {
      {"Mixtral", "mixtral", model_of({mixtral, mixtral})},
      {"MixtralTied", "mixtral", tied},
      {"MixtralCannotHaveExpertBiases", "switchyard",
       model_of({changed(mixtral, [](LayerConfig& row) { row.moe->expert.bias = true; })})},
      {"MixtralWideHeads", "mixtral", model_of({changed(mixtral, wide_heads)})},
      {"Qwen2Moe", "qwen2_moe", model_of({shared_row(true, 10)})},
      {"Qwen2MoeNormalisedBiasedDenseRow", "qwen2_moe",
       model_of({changed(dense_row(9), qkv_bias), changed(shared_row(true, 7),
                                                          [&](LayerConfig& row) {
                                                            qkv_bias(row);
                                                            row.moe->router.normalise = "sum";
                                                          })})},
      {"Qwen2MoeCannotHaveWideHeads", "switchyard", model_of({changed(shared_row(true, 10), wide_heads)})},
      {"Qwen3Moe", "qwen3_moe", model_of({changed(dense_row(9), norm), changed(moe_row(4, 2, 6, "none"), norm)})},
      {"Qwen3MoeWideHeads", "qwen3_moe",
       model_of({changed(mixtral,
                         [&](LayerConfig& row) {
                           norm(row);
                           wide_heads(row);
                         })})},
      {"Glm4Moe", "glm4_moe", model_of({dense_row(20), glm_row(6), glm_row(6)})},
      {"Glm4MoeTwoSharedNormed", "glm4_moe", model_of({changed(glm_row(12), norm)})},
      {"Glm4MoeCannotDoWithoutShared", "switchyard", model_of({glm_row(0)})},
      {"Glm4MoeSharedIsAMultiple", "switchyard", model_of({glm_row(9)})},
      {"Glm4MoeDenseRowsLead", "switchyard", model_of({glm_row(6), dense_row(20)})},
      {"DeepseekShared", "deepseek", model_of({dense_row(20), shared_row(false, 12)})},
      {"DeepseekWithoutShared", "deepseek", model_of({moe_row(4, 2, 6, "none")})},
      {"DeepseekTopOneIsNotNormalised", "switchyard", model_of({dense_row(20), moe_row(4, 1, 6, "sum")})},
      {"MinimaxM2", "minimax_m2", model_of({minimax_row(0), minimax_row(0)})},
      {"MinimaxM2PartlyRotated", "minimax_m2", model_of({minimax_row(2)})},
      {"ErnieMoe", "ernie4_5_moe", model_of({interleaved(dense_row(20)), ernie_row(12), ernie_row(12)})},
      {"ErnieMoeWithoutShared", "ernie4_5_moe", model_of({ernie_row(0)})},
      {"ErnieMoeEverySecond", "ernie4_5_moe",
       model_of({interleaved(dense_row(20)), ernie_row(12), interleaved(dense_row(20)), ernie_row(12)})},
      {"ErnieMoeEndsEarly", "ernie4_5_moe", model_of({ernie_row(12), interleaved(dense_row(20))})},
      {"ErnieMoeHasNoPattern", "switchyard",
       model_of({ernie_row(12), interleaved(dense_row(20)), ernie_row(12), ernie_row(12)})},
      {"Llama", "llama", model_of({dense_row(20), dense_row(20)})},
      {"LlamaBiased", "llama",
       model_of({changed(dense_row(20),
                         [&](LayerConfig& row) { row.attention.qkv_bias = row.attention.output_bias = true; })})},
      {"DenseGelu", "switchyard", model_of({changed(dense_row(20), gelu)})},
      {"DenseWidthsDiffer", "switchyard", model_of({dense_row(20), dense_row(24)})},
      {"ExpertCountsDiffer", "switchyard", model_of({moe_row(4, 2, 6, "sum"), moe_row(6, 3, 4, "sum")})},
      {"ExpertGelu", "switchyard", model_of({changed(mixtral, gelu)})},
      {"RouterBias", "switchyard",
       model_of({changed(mixtral, [](LayerConfig& row) { row.moe->router.logits_bias = true; })})},
      {"RouterScale", "switchyard",
       model_of({changed(mixtral, [](LayerConfig& row) { row.moe->router.scale = 0.1F; })})},
      {"SigmoidWithoutBias", "switchyard",
       model_of({changed(mixtral, [](LayerConfig& row) { row.moe->router.score = "sigmoid"; })})},
      {"InterleavedRope", "switchyard",
       model_of({changed(mixtral,
                         [](LayerConfig& row) { row.attention.rope_pairing = kernels::RopePairing::kInterleaved; })})},
      {"AttentionDiffersByLayer", "switchyard", model_of({mixtral, changed(mixtral, wide_heads)})},
  };
}

class ChoiceTest : public testing::TestWithParam<Choice> {};

TEST_P(ChoiceTest, IsSavedInTheFirstDialectThatExpressesIt) {
  Transformer transformer(GetParam().config);
  transformer.initialize(InitConfig{.std = 0.2F}, 7);
  for (autograd::Parameter* parameter : transformer.parameters()) {
    if (parameter->role == autograd::ParameterRole::kBias || parameter->role == autograd::ParameterRole::kBuffer) {
      const std::vector<float> values = oracle::random_values(parameter->value.numel(), 3, 0.2F);
      std::copy(values.begin(), values.end(), parameter->value.f32().begin());
    }
  }
  const TemporaryFolder folder, second;
  EXPECT_EQ(save_model(folder.path(), transformer, nullptr), GetParam().family);
  LoadedModel loaded = load_model(folder.path());
  EXPECT_EQ(loaded.family, GetParam().family);
  const std::vector<std::int32_t> ids = {3, 1, 4, 1, 5, 9, 2, 6};
  EXPECT_TRUE(oracle::same_bits(logits_of(loaded.transformer, ids).f32(), logits_of(transformer, ids).f32()));

  EXPECT_EQ(save_model(second.path(), loaded.transformer, nullptr), GetParam().family);
  for (const char* file : {"config.json", "model.safetensors"})
    EXPECT_EQ(read_file(folder.path() / file), read_file(second.path() / file)) << file;
}

INSTANTIATE_TEST_SUITE_P(Families, ChoiceTest, testing::ValuesIn(choices()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(FamiliesTest, WhatOnlyTrainingLooksAtSurvivesInEveryDialect) {
  LayerConfig first = moe_row(4, 2, 6, "sum");
  first.moe->capacity = {.factor = 1.25F, .minimum = 3, .drop = "position"};
  LayerConfig second = moe_row(4, 2, 6, "sum");
  second.moe->balance = {.load_balance = 0.01F, .z_loss = 0.001F, .bias_update_rate = 0.0F};
  for (const bool own : {false, true}) {
    ModelConfig config = model_of({first, second});
    if (own) config.layers.push_back(dense_row(10));
    config.dropout = 0.1F;
    const TemporaryFolder folder;
    EXPECT_EQ(save_model(folder.path(), Transformer(config), nullptr), own ? "switchyard" : "mixtral");
    const ModelConfig loaded = load_model_config(folder.path());
    EXPECT_EQ(loaded.dropout, 0.1F);
    const moe::MoeConfig& a = *loaded.layers[0].moe;
    EXPECT_EQ(a.capacity.factor, 1.25F);
    EXPECT_EQ(a.capacity.minimum, 3);
    EXPECT_EQ(a.capacity.drop, "position");
    EXPECT_EQ(a.balance.load_balance, 0.0F);
    const moe::MoeConfig& b = *loaded.layers[1].moe;
    EXPECT_EQ(b.capacity.factor, 0.0F);
    EXPECT_EQ(b.balance.load_balance, 0.01F);
    EXPECT_EQ(b.balance.z_loss, 0.001F);
  }
}

ModelConfig config_of(const std::string& json) {
  const TemporaryFolder folder;
  write_text(folder.path() / "config.json", json);
  return load_model_config(folder.path());
}

// The values of mistralai/Mixtral-8x7B-v0.1 and Qwen/Qwen3-30B-A3B, in the spelling of transformers 4, and the totals
// that their publishers state (46.7 and 30.5 billion) to the digit.
TEST(FamiliesTest, PublishedConfigsGiveThePublishedParameterCounts) {
  const ModelConfig mixtral = config_of(R"({"architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0,
    "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "model_type": "mixtral", "num_attention_heads": 32, "num_experts_per_tok": 2,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 8, "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02, "sliding_window": null, "tie_word_embeddings": false,
    "torch_dtype": "bfloat16", "vocab_size": 32000})");
  EXPECT_EQ(count_parameters(mixtral).total, 46'702'792'704);
  EXPECT_EQ(mixtral.layers[31].attention.rope_theta, 1e6);
  EXPECT_EQ(mixtral.layers[0].attention.head_dim, 128);
  EXPECT_EQ(mixtral.layers[0].moe->router.normalise, "sum");

  const ModelConfig qwen = config_of(R"({"architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false,
    "decoder_sparse_step": 1, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 6144,
    "max_position_embeddings": 40960, "max_window_layers": 48, "mlp_only_layers": [], "model_type": "qwen3_moe",
    "moe_intermediate_size": 768, "norm_topk_prob": true, "num_attention_heads": 32, "num_experts": 128,
    "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4, "rms_norm_eps": 1e-06,
    "rope_scaling": null, "rope_theta": 1000000.0, "sliding_window": null, "tie_word_embeddings": false,
    "use_sliding_window": false, "vocab_size": 151936})");
  EXPECT_EQ(count_parameters(qwen).total, 30'532'122'624);
  EXPECT_TRUE(qwen.layers[0].attention.qk_norm);

  // deepseek-ai/deepseek-moe-16b-base.
  const ModelConfig deepseek = config_of(R"({"model_type": "deepseek", "hidden_act": "silu", "hidden_size": 2048,
    "intermediate_size": 10944, "moe_intermediate_size": 1408, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 16, "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6,
    "first_k_dense_replace": 1, "moe_layer_freq": 1, "norm_topk_prob": false, "scoring_func": "softmax",
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-06, "rope_theta": 10000, "rope_scaling": null,
    "vocab_size": 102400})");
  EXPECT_EQ(count_parameters(deepseek).total, 16'375'728'128);
  EXPECT_TRUE(deepseek.layers[0].dense.has_value());
}

constexpr const char* kDeepseek = R"({"model_type": "deepseek", "hidden_size": 16, "intermediate_size": 20,
  "moe_intermediate_size": 6, "num_hidden_layers": 5, "num_attention_heads": 4, "n_routed_experts": 4,
  "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1, "moe_layer_freq": 2,
  "max_position_embeddings": 32, "rms_norm_eps": 1e-06, "vocab_size": 19%s})";

std::string deepseek_with(const std::string& more) {
  std::string json = kDeepseek;
  return json.replace(json.find("%s"), 2, more.empty() ? "" : ", " + more);
}

TEST(FamiliesTest, MoeLayersFollowFirstKAndFrequency) {
  const ModelConfig config = config_of(deepseek_with(""));
  std::vector<bool> is_moe;
  for (const LayerConfig& layer : config.layers) is_moe.push_back(layer.moe.has_value());
  EXPECT_EQ(is_moe, (std::vector<bool>{false, false, true, false, true}));
  EXPECT_EQ(config.layers[0].attention.kv_heads, 4);  // absent: as many as heads
}

TEST(FamiliesTest, RopeThetaIsReadInEverySpelling) {
  const auto theta = [](const std::string& more) {
    return config_of(deepseek_with(more)).layers[4].attention.rope_theta;
  };
  EXPECT_EQ(theta(""), 10000.0);
  EXPECT_EQ(theta(R"("rope_theta": 5000)"), 5000.0);
  EXPECT_EQ(theta(R"("rope_parameters": {"rope_theta": 2e6, "rope_type": "default"})"), 2e6);
  EXPECT_EQ(theta(R"("rope_scaling": {"type": "default"}, "rope_theta": 7000.5)"), 7000.5);
}

TEST(FamiliesTest, ValuesThatAskForMoreAreUnsupported) {
  struct Case {
    std::string more, key, found;
  };
  const Case cases[] = {
      {R"("rope_scaling": {"type": "dynamic", "factor": 40})", "rope_scaling.type", "dynamic"},
      {R"("rope_parameters": {"rope_type": "proportional"})", "rope_parameters.rope_type", "proportional"},
      {R"("rope_parameters": {"full_attention": {"rope_theta": 1e4}})", "rope_parameters.full_attention", "object"},
      {R"("partial_rotary_factor": 0.8)", "partial_rotary_factor", "3 elements"},
      {R"("layer_types": ["full_attention", "full_attention", "full_attention", "chunked_attention", "full_attention"])",
       "layer_types", "chunked_attention"},
      {R"("hidden_act": "gelu")", "hidden_act", "gelu"},
      {R"("n_group": 8)", "n_group", "8"},
      {R"("scoring_func": "sigmoid")", "scoring_func", "sigmoid"},
      {R"("routed_scaling_factor": 16.0)", "routed_scaling_factor", "16"},
      {R"("quantization_config": {"quant_method": "awq"})", "quantization_config.quant_method", "awq"},
  };
  for (const Case& c : cases) {
    try {
      config_of(deepseek_with(c.more));
      ADD_FAILURE() << c.more << " was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUnsupported) << error.what();
      EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("config.json"), HasSubstr(c.key), HasSubstr(c.found)));
    }
  }
  // What is said but changes nothing is fine.
  EXPECT_NO_THROW(config_of(deepseek_with(R"("sliding_window": 32, "attention_dropout": 0.1, "n_group": 1,
    "rope_scaling": null, "partial_rotary_factor": 1.0)")));
}

}  // namespace
}  // namespace switchyard::model
