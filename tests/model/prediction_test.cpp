// The layer for multi-token prediction, against an independent implementation (tools/golden/make_prediction.py), and
// how it is found in files.

#include <gmock/gmock.h>

#include <algorithm>

#include "model_folders.hpp"
#include "oracle/compare.hpp"
#include "small_models.hpp"
#include "support/error_of.hpp"
#include "switchyard/model/config_file.hpp"
#include "switchyard/model/convert.hpp"
#include "switchyard/model/examine.hpp"

namespace switchyard::model {
namespace {

namespace fs = std::filesystem;
using autograd::Value;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr double kAgreement = 2e-5;  // as for the logits of a model
constexpr std::size_t kChained = 2;  // rows of prediction.npy that go on from the layer's own output

Value rows_of(const Value& states, Index first, Index count) {
  Tensor rows = Tensor::uninitialized(DType::kF32, {count, states.matrix().cols});
  for (Index t = 0; t < count; ++t)
    std::copy_n(states.matrix().row(first + t), states.matrix().cols, rows.matrix().row(t));
  return Value(std::move(rows));
}

std::int32_t likeliest(std::span<const float> logits) {
  return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// The logits of the layer over a text, `chunk` tokens a pass, and then on its own.
std::vector<float> predictions(Transformer& transformer, const std::vector<std::int32_t>& ids, Index chunk) {
  ForwardCall call;
  call.sequence = static_cast<Index>(ids.size());
  const Value hidden = transformer.forward(ids, call).hidden_TD;
  KvCache cache = transformer.prediction_cache(call.sequence + 1);
  std::vector<float> all;
  Value state;
  const auto add = [&](const Value& from, std::span<const std::int32_t> next) {
    state = transformer.predict(from, next, cache);
    const Tensor logits = transformer.prediction_logits(state.matrix());
    all.insert(all.end(), logits.f32().begin(), logits.f32().end());
  };
  for (Index begin = 0; begin + 1 < call.sequence; begin += chunk) {
    const Index count = std::min(chunk, call.sequence - 1 - begin);
    add(rows_of(hidden, begin, count),
        std::span(ids).subspan(static_cast<std::size_t>(begin + 1), static_cast<std::size_t>(count)));
  }
  for (std::size_t i = 0; i < kChained; ++i) {
    const std::int32_t next = likeliest(std::span(all).last(static_cast<std::size_t>(transformer.config().vocab)));
    add(rows_of(state, state.matrix().rows - 1, 1), std::span(&next, 1));
  }
  return all;
}

std::vector<float> predictions(const fs::path& folder, const std::vector<std::int32_t>& ids) {
  LoadedModel model = load_model(folder, {.stored = true, .prediction = true});
  return predictions(model.transformer, ids, 64);
}

class GoldenPrediction : public testing::TestWithParam<std::string> {};

TEST_P(GoldenPrediction, AtOnceAndInChunksStoredAndConverted) {
  const std::vector<std::int32_t> ids = golden_ids(GetParam());
  const Tensor golden_logits = formats::read_npy(golden(GetParam()) / "prediction.npy");
  LoadedModel converted = load_model(golden(GetParam()), {.prediction = true});
  LoadedModel stored = load_model(golden(GetParam()), {.stored = true, .prediction = true});
  for (const Index chunk : {64, 1, 5}) {
    const std::vector<float> found = predictions(converted.transformer, ids, chunk);
    EXPECT_TRUE(oracle::close(found, oracle::to_double(golden_logits.f32()), kAgreement)) << chunk << " at a time";
    EXPECT_TRUE(oracle::same_bits(predictions(stored.transformer, ids, chunk), found));
  }
  // The model beside it is the same.
  LoadedModel without = load_model(golden(GetParam()), {.stored = true});
  EXPECT_FALSE(without.transformer.config().prediction.has_value());
  EXPECT_TRUE(oracle::same_bits(logits_of(stored.transformer, ids).f32(), logits_of(without.transformer, ids).f32()));
  const std::string layer = fmt::format("layers.{}.", without.transformer.config().layers.size());
  for (const autograd::Parameter* parameter : std::as_const(without.transformer).parameters())
    EXPECT_FALSE(parameter->name.starts_with(layer)) << parameter->name;
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenPrediction, testing::Values("deepseek_v3/base", "glm4_moe/prediction"),
                         golden_test_name);

class PredictionFolder : public testing::Test {
 protected:
  fs::path copy_of(const std::string& name) const {
    fs::copy(golden(name), folder_ / "model", fs::copy_options::recursive | fs::copy_options::overwrite_existing);
    return folder_ / "model";
  }
  static std::string refusal(ErrorKind kind, const fs::path& path) {
    return error_of(kind, [&] { load_model(path, {.stored = true, .prediction = true}); });
  }
  TemporaryFolder folder_;
};

// DeepSeek-V3's files repeat the model's tables, those of GLM's fixture are other ones.
TEST_F(PredictionFolder, TablesOfItsOwnOrTheModels) {
  const auto without_tables = [](const std::string& layer) {
    return [layer](Tensors& tensors) {
      tensors.erase(layer + "embed_tokens.weight");
      tensors.erase(layer + "shared_head.head.weight");
    };
  };
  const std::vector<std::int32_t> ids = golden_ids("deepseek_v3/base");
  change_tensors(copy_of("deepseek_v3/base"), without_tables("model.layers.3."));
  EXPECT_TRUE(oracle::same_bits(predictions(folder_ / "model", ids), predictions(golden("deepseek_v3/base"), ids)));
  const LoadedModel shared = load_model(folder_ / "model", {.prediction = true});
  EXPECT_FALSE(shared.transformer.config().prediction->embedding);
  EXPECT_FALSE(shared.transformer.config().prediction->output);

  const std::vector<std::int32_t> others = golden_ids("glm4_moe/prediction");
  change_tensors(copy_of("glm4_moe/prediction"), without_tables("model.layers.2."));
  EXPECT_FALSE(
      oracle::same_bits(predictions(folder_ / "model", others), predictions(golden("glm4_moe/prediction"), others)));
}

TEST_F(PredictionFolder, WhatIsMissingIsNamed) {
  EXPECT_THAT(refusal(ErrorKind::kUnsupported, golden("mixtral/base")),
              AllOf(HasSubstr("model_type mixtral"), HasSubstr("multi-token"), HasSubstr("glm4_moe")));
  EXPECT_THAT(refusal(ErrorKind::kUnsupported, golden("kimi_k2/base")),
              AllOf(HasSubstr("config.json: key num_nextn_predict_layers"), HasSubstr("found 0")));
  const fs::path model = copy_of("deepseek_v3/base");
  change_tensors(model, [](Tensors& tensors) { tensors.erase("model.layers.3.hnorm.weight"); });
  EXPECT_THAT(refusal(ErrorKind::kBadInput, model), HasSubstr("model.layers.3.hnorm.weight is missing"));
  copy_of("deepseek_v3/base");
  change_tensors(model, [](Tensors& tensors) {
    tensors.insert_or_assign("model.layers.3.eh_proj.weight", Tensor::zeros(DType::kF32, {24, 24}));
  });
  EXPECT_THAT(refusal(ErrorKind::kBadInput, model), AllOf(HasSubstr("eh_proj"), HasSubstr("[24, 48]")));
  EXPECT_NO_THROW(load_model(model));
  // As many converters leave it.
  change_tensors(model, [](Tensors& tensors) {
    std::erase_if(tensors, [](const auto& one) { return one.first.starts_with("model.layers.3."); });
  });
  EXPECT_THAT(refusal(ErrorKind::kUnsupported, model),
              AllOf(HasSubstr("model.layers.3.eh_proj.weight is missing"), HasSubstr("num_nextn_predict_layers")));
}

// Where the layer is there, no key has to say so.
TEST_F(PredictionFolder, TheFilesDecide) {
  const fs::path model = copy_of("deepseek_v3/base");
  replace_in(model / "config.json", "\"num_nextn_predict_layers\": 1", "\"num_nextn_predict_layers\": 0");
  const std::vector<std::int32_t> ids = golden_ids("deepseek_v3/base");
  EXPECT_TRUE(oracle::same_bits(predictions(model, ids), predictions(golden("deepseek_v3/base"), ids)));
}

// Folder -> GGUF -> folder, and the guesses are the same.
TEST_F(PredictionFolder, GoesAlongWhereTheFormatHasNamesForIt) {
  const std::vector<std::int32_t> ids = golden_ids("glm4_moe/prediction");
  const std::vector<float> expected = predictions(golden("glm4_moe/prediction"), ids);
  const fs::path file = folder_ / "glm.gguf", again = folder_ / "again";
  EXPECT_THAT(convert_to_gguf(golden("glm4_moe/prediction"), file).notes,
              testing::Not(testing::Contains(HasSubstr("multi-token"))));
  EXPECT_TRUE(oracle::same_bits(predictions(file, ids), expected));
  EXPECT_EQ(read_config_file(file).config.layers.size(), 2U);
  EXPECT_EQ(read_config_file(file).prediction_layers, 1);
  convert_to_folder(file, again);
  EXPECT_TRUE(oracle::same_bits(predictions(again, ids), expected));
  const Tensors original = read_tensors(golden("glm4_moe/prediction")), back = read_tensors(again);
  ASSERT_EQ(back.size(), original.size());
  for (const auto& [name, tensor] : original) {
    ASSERT_TRUE(back.contains(name)) << name;
    EXPECT_TRUE(oracle::same_bits(back.at(name).f32(), tensor.f32())) << name;
  }

  const std::vector<std::int32_t> others = golden_ids("deepseek_v3/base");
  const fs::path copy = folder_ / "copy", without = folder_ / "v3.gguf";
  EXPECT_THAT(convert_to_folder(golden("deepseek_v3/base"), copy).notes,
              testing::Not(testing::Contains(HasSubstr("multi-token"))));
  EXPECT_TRUE(oracle::same_bits(predictions(copy, others), predictions(golden("deepseek_v3/base"), others)));
  EXPECT_THAT(convert_to_gguf(golden("deepseek_v3/base"), without).notes,
              testing::Contains(HasSubstr("multi-token prediction are left out")));
  EXPECT_THAT(refusal(ErrorKind::kUnsupported, without), HasSubstr("v3.gguf"));
  ConvertOptions own;
  own.own_architecture = true;
  EXPECT_THAT(convert_to_gguf(golden("glm4_moe/prediction"), folder_ / "own.gguf", own).notes,
              testing::Contains(HasSubstr("left out")));
}

TEST_F(PredictionFolder, TheDoctorSaysWhetherItCanBeUsed) {
  const auto findings = [](const fs::path& path) {
    std::string text;
    for (const Finding& finding : examine(path).findings) {
      EXPECT_NE(finding.level, Level::kProblem) << finding.text;
      text += finding.text + "\n";
    }
    return text;
  };
  EXPECT_THAT(findings(golden("deepseek_v3/base")), HasSubstr("parameters that only --draft reads"));
  EXPECT_THAT(findings(golden("kimi_k2/base")), testing::Not(HasSubstr("--draft")));
  const fs::path model = copy_of("deepseek_v3/base");
  change_tensors(model, [](Tensors& tensors) { tensors.erase("model.layers.3.hnorm.weight"); });
  EXPECT_THAT(findings(model), AllOf(HasSubstr("no --draft: "), HasSubstr("model.layers.3.hnorm.weight is missing")));
  change_tensors(model, [](Tensors& tensors) { tensors.erase("model.layers.3.eh_proj.weight"); });
  EXPECT_THAT(findings(model), HasSubstr("is said to be there and cannot be used: no --draft"));
}

TEST(PredictionConfig, IsValidatedAndCounted) {
  ModelConfig config = model_of(11, 8, {dense_layer(2, 1, 4, 6), moe_layer(2, 2, 4, 3, 2, 5)});
  const Index without = count_parameters(config).total;
  config.prediction = PredictionConfig{config.layers.back()};
  const Index layer = 8 + 4 * 8 * 8 + 8 + 3 * 8 + 3 * 3 * 5 * 8;
  EXPECT_EQ(count_parameters(config).total, without + layer + 3 * 8 + 2 * 8 * 8);
  config.prediction->embedding = config.prediction->output = true;
  EXPECT_EQ(count_parameters(config).total, without + layer + 3 * 8 + 2 * 8 * 8 + 2 * 11 * 8);
  config.prediction->layer.attention.heads = 0;
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { config.validate(); }),
              HasSubstr("model.prediction.layer.attention.heads"));
}

// Attention sums in an order that depends on the number of queries and keys, and latent attention has two forms.
void expect_one_by_one(Transformer& transformer, const std::vector<std::int32_t>& ids) {
  const auto pass = [&](KvCache& cache, std::size_t begin, std::size_t count, bool one_by_one) {
    ForwardCall call;
    call.sequence = static_cast<Index>(count);
    call.cache = &cache;
    call.text_length = static_cast<Index>(ids.size());
    call.one_by_one = one_by_one;
    const Value hidden = transformer.forward(std::span(ids).subspan(begin, count), call).hidden_TD;
    return std::vector<float>(hidden.tensor().f32().begin(), hidden.tensor().f32().end());
  };
  for (const std::size_t before : {std::size_t{0}, std::size_t{1}, ids.size() - 9}) {
    for (const std::size_t count : {1U, 2U, 9U}) {
      KvCache together(transformer.config(), static_cast<Index>(ids.size()));
      KvCache apart(transformer.config(), static_cast<Index>(ids.size()));
      if (before > 0) {
        pass(together, 0, before, false);
        pass(apart, 0, before, false);
      }
      std::vector<float> expected;
      for (std::size_t i = 0; i < count; ++i) {
        const std::vector<float> one = pass(apart, before + i, 1, false);
        expected.insert(expected.end(), one.begin(), one.end());
      }
      EXPECT_TRUE(oracle::same_bits(pass(together, before, count, true), expected)) << count << " after " << before;
    }
  }
}

class OneByOne : public testing::TestWithParam<std::string> {};

TEST_P(OneByOne, HasTheBitsOfSingleTokens) {
  LoadedModel model = load_model(golden(GetParam()), {.stored = true});
  expect_one_by_one(model.transformer, golden_ids(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Models, OneByOne, testing::ValuesIn(golden_models()), golden_test_name);

// Many heads on one head of keys, and more keys than one task of decoding has.
TEST(OneByOneLong, HasTheBitsOfSingleTokens) {
  for (const Index window : {0, 300}) {
    ModelConfig config = model_of(17, 12, {dense_layer(12, 1, 4, 10), dense_layer(6, 2, 4, 10)});
    config.max_positions = 1000;
    for (LayerConfig& layer : config.layers) layer.attention.window = window;
    Transformer transformer(config);
    randomize(transformer, 5);
    expect_one_by_one(transformer, random_ids(700, config.vocab, 3));
  }
}

}  // namespace
}  // namespace switchyard::model
