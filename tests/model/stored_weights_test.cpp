// Weights that stay as their file holds them: every layout and type decodes to the numbers that were written, the
// same numbers become float32, and files that contradict themselves are refused.

#include <gmock/gmock.h>

#include <cmath>

#include "support/error_of.hpp"
#include "weight_folder.hpp"

namespace switchyard::model {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr Index kVocab = 37, kHidden = 11, kExperts = 3, kHeads = 5, kKvHeads = 1, kHeadDim = 6;

std::string mixtral_config(Index width) {
  return fmt::format(R"({{"model_type": "mixtral", "vocab_size": {}, "hidden_size": {}, "intermediate_size": {},
    "num_hidden_layers": 1, "num_attention_heads": {}, "num_key_value_heads": {}, "head_dim": {},
    "max_position_embeddings": 32, "rms_norm_eps": 1e-5, "num_local_experts": {}, "num_experts_per_tok": 2,
    "tie_word_embeddings": false}})",
                     kVocab, width, kHidden, kHeads, kKvHeads, kHeadDim, kExperts);
}

// Everything of a Mixtral of one layer but the experts, as BF16.
Expected put_all_but_experts(Folder& folder, Index width, DType dtype = DType::kBF16) {
  Expected expected;
  const std::string layer = "model.layers.0.";
  const auto put = [&](const std::string& native, const std::string& name, Index rows, Index cols) {
    expected[native] = {folder.matrix(name, dtype, rows, cols)};
  };
  put("embedding", "model.embed_tokens.weight", kVocab, width);
  put("layers.0.attention.q", layer + "self_attn.q_proj.weight", kHeads * kHeadDim, width);
  put("layers.0.attention.k", layer + "self_attn.k_proj.weight", kKvHeads * kHeadDim, width);
  put("layers.0.attention.v", layer + "self_attn.v_proj.weight", kKvHeads * kHeadDim, width);
  put("layers.0.attention.o", layer + "self_attn.o_proj.weight", width, kHeads * kHeadDim);
  put("output", "lm_head.weight", kVocab, width);
  for (const auto& [native, name] : {std::pair("layers.0.attention_norm", layer + "input_layernorm.weight"),
                                     std::pair("layers.0.ffn_norm", layer + "post_attention_layernorm.weight"),
                                     std::pair("final_norm", std::string("model.norm.weight"))}) {
    put(native, name, 1, width);
    folder.at(name).reshape({width});
  }
  return expected;
}

void put_router(Folder& folder, Expected& expected, const std::string& name, Index width) {
  expected["layers.0.moe.router"] = {folder.matrix(name, DType::kBF16, kExperts, width)};
}

const std::string kBlock = "model.layers.0.block_sparse_moe.";
const std::string kMlp = "model.layers.0.mlp.";

// One tensor an expert and matrix, of these types in turn.
void put_experts_one_by_one(Folder& folder, Expected& expected, Index width, const std::vector<DType>& types) {
  put_router(folder, expected, kBlock + "gate.weight", width);
  std::size_t turn = 0;
  for (Index e = 0; e < kExperts; ++e) {
    const std::string expert = fmt::format("{}experts.{}.", kBlock, e);
    const auto put = [&](const char* native, const char* name, Index rows, Index cols) {
      expected[fmt::format("layers.0.moe.experts.{}", native)].push_back(
          folder.matrix(expert + name, types[turn++ % types.size()], rows, cols));
    };
    put("gate", "w1.weight", kHidden, width);
    put("up", "w3.weight", kHidden, width);
    put("down", "w2.weight", width, kHidden);
  }
}

TEST(StoredWeightsTest, OneTensorAnExpertAndMatrixMixedTypes) {
  Folder folder(mixtral_config(13));
  Expected expected = put_all_but_experts(folder, 13);
  put_experts_one_by_one(folder, expected, 13, {DType::kBF16, DType::kF8E4M3, DType::kF32, DType::kBF16});
  folder.write();
  expect_loads(folder, expected);
}

TEST(StoredWeightsTest, Fp8WithFactorsOfBlocksInAnotherShard) {
  // 300 and 13 are no multiples of a block; the last row and column of blocks are narrower.
  for (const DType factors : {DType::kF32, DType::kBF16}) {
    Folder folder(mixtral_config(300));
    Expected expected = put_all_but_experts(folder, 300);
    put_experts_one_by_one(folder, expected, 300, {DType::kBF16});
    for (Index e = 0; e < kExperts; ++e) {
      const std::string name = fmt::format("{}experts.{}.", kBlock, e);
      const auto at = static_cast<std::size_t>(e);
      expected["layers.0.moe.experts.gate"][at] = folder.fp8(name + "w1.weight", kHidden, 300, 128, 128, factors);
      expected["layers.0.moe.experts.down"][at] = folder.fp8(name + "w2.weight", 300, kHidden, 128, 128, factors);
    }
    folder.write(4000);
    ASSERT_TRUE(std::filesystem::exists(folder.path() / "model.safetensors.index.json"));
    expect_loads(folder, expected);
  }
}

TEST(StoredWeightsTest, Fp8WithOneFactorForAllAndWithout) {
  Folder folder(mixtral_config(13));
  Expected expected = put_all_but_experts(folder, 13);
  put_experts_one_by_one(folder, expected, 13, {DType::kF8E4M3});
  const std::string name = kBlock + "experts.1.w1.weight";
  expected["layers.0.moe.experts.gate"][1] = folder.fp8(name, kHidden, 13, 128, 128);
  folder.at(name + "_scale_inv").reshape({});
  folder.write();
  expect_loads(folder, expected);
}

TEST(StoredWeightsTest, GateAndUpInOneTensor) {
  Folder folder(mixtral_config(13));
  Expected expected = put_all_but_experts(folder, 13);
  put_router(folder, expected, kMlp + "gate.weight", 13);
  folder.put(kMlp + "experts.gate_up_proj", random_tensor(DType::kBF16, {kExperts, 2 * kHidden, 13}, 91));
  folder.put(kMlp + "experts.down_proj", random_tensor(DType::kF32, {kExperts, 13, kHidden}, 92));
  for (Index e = 0; e < kExperts; ++e) {
    const Values both = Folder::values_of(folder.at(kMlp + "experts.gate_up_proj"), e, 2 * kHidden, 13);
    expected["layers.0.moe.experts.gate"].push_back(rows_of(both, 0, 1, kHidden));
    expected["layers.0.moe.experts.up"].push_back(rows_of(both, kHidden, 1, kHidden));
    expected["layers.0.moe.experts.down"].push_back(
        Folder::values_of(folder.at(kMlp + "experts.down_proj"), e, 13, kHidden));
  }
  folder.write();
  expect_loads(folder, expected);
}

TEST(StoredWeightsTest, Fp8OfGateAndUpInOneTensorKeepsItsFactors) {
  // Blocks of 4 x 5: the first row of up lies within a block that begins in gate.
  std::string config = mixtral_config(13);
  config.insert(config.size() - 1, R"(, "quantization_config": {"quant_method": "fp8", "weight_block_size": [4, 5]})");
  Folder folder(config);
  Expected expected = put_all_but_experts(folder, 13);
  put_router(folder, expected, kMlp + "gate.weight", 13);
  const Index grid_rows = (2 * kHidden + 3) / 4;
  folder.put(kMlp + "experts.gate_up_proj", random_tensor(DType::kF8E4M3, {kExperts, 2 * kHidden, 13}, 91));
  folder.put(kMlp + "experts.gate_up_proj_scale_inv", random_tensor(DType::kF32, {kExperts, grid_rows, 3}, 93));
  folder.put(kMlp + "experts.down_proj", random_tensor(DType::kBF16, {kExperts, 13, kHidden}, 92));
  for (Index e = 0; e < kExperts; ++e) {
    Values both = Folder::values_of(folder.at(kMlp + "experts.gate_up_proj"), e, 2 * kHidden, 13);
    const Values grid = Folder::values_of(folder.at(kMlp + "experts.gate_up_proj_scale_inv"), e, grid_rows, 3);
    for (Index r = 0; r < both.rows; ++r)
      for (Index c = 0; c < both.cols; ++c) both.of[static_cast<std::size_t>(r * 13 + c)] *= grid(r / 4, c / 5);
    expected["layers.0.moe.experts.gate"].push_back(rows_of(both, 0, 1, kHidden));
    expected["layers.0.moe.experts.up"].push_back(rows_of(both, kHidden, 1, kHidden));
    expected["layers.0.moe.experts.down"].push_back(
        Folder::values_of(folder.at(kMlp + "experts.down_proj"), e, 13, kHidden));
  }
  folder.write();
  expect_loads(folder, expected);
}

TEST(StoredWeightsTest, Mxfp4) {
  Folder folder(mixtral_config(96));
  Expected expected = put_all_but_experts(folder, 96);
  put_router(folder, expected, kMlp + "gate.weight", 96);
  for (const Values& both : put_mxfp4(folder, kMlp + "experts.gate_up_proj", kExperts, 2 * kHidden, 96)) {
    expected["layers.0.moe.experts.gate"].push_back(rows_of(both, 0, 1, kHidden));
    expected["layers.0.moe.experts.up"].push_back(rows_of(both, kHidden, 1, kHidden));
  }
  folder.put(kMlp + "experts.down_proj", random_tensor(DType::kBF16, {kExperts, 96, kHidden}, 92));
  for (Index e = 0; e < kExperts; ++e)
    expected["layers.0.moe.experts.down"].push_back(
        Folder::values_of(folder.at(kMlp + "experts.down_proj"), e, 96, kHidden));
  folder.write();
  expect_loads(folder, expected);
}

TEST(StoredWeightsTest, AStoredModelIsSavedAsFloat32) {
  Folder folder(mixtral_config(13));
  Expected expected = put_all_but_experts(folder, 13);
  put_experts_one_by_one(folder, expected, 13, {DType::kBF16, DType::kF8E4M3});
  folder.write();
  Folder saved("{}");
  EXPECT_EQ(save_model(saved.path(), load_model(folder.path(), {.stored = true}).transformer, nullptr), "mixtral");
  expect_loads(saved, expected);
  const auto files = formats::TensorFiles::open(saved.path());
  for (const std::string& name : files.names()) EXPECT_EQ(files.info(name).dtype, DType::kF32) << name;
}

TEST(StoredWeightsTest, LogitsAreThoseOfTheSameNumbersInFloat32) {
  Folder folder(mixtral_config(13));
  Expected expected = put_all_but_experts(folder, 13);
  put_experts_one_by_one(folder, expected, 13, {DType::kBF16, DType::kF8E4M3, DType::kF32});
  folder.write();
  constexpr std::int32_t kIds[] = {3, 36, 0, 5, 5, 17};
  const auto logits = [&](const LoadOptions& options) {
    LoadedModel model = load_model(folder.path(), options);
    return logits_of(model.transformer, kIds);
  };
  const Tensor plain = logits({});
  EXPECT_TRUE(oracle::same_bits(logits({.stored = true}).f32(), plain.f32()));
  EXPECT_TRUE(oracle::same_bits(logits({.stored = true, .mapped = false}).f32(), plain.f32()));
}

TEST(StoredWeightsTest, OutlivesTheFilesNames) {
  LoadedModel model = [] {
    Folder folder(mixtral_config(13));
    Expected expected = put_all_but_experts(folder, 13);
    put_experts_one_by_one(folder, expected, 13, {DType::kBF16});
    folder.write();
    return load_model(folder.path(), {.stored = true});
  }();
  EXPECT_TRUE(std::isfinite(element(model.transformer.find("output")->weight(), kVocab - 1, 12)));
}

TEST(StoredWeightsTest, StoredWeightsTakeNoMemoryAndCannotBeTrained) {
  Folder folder(mixtral_config(96));
  Expected expected = put_all_but_experts(folder, 96);
  put_experts_one_by_one(folder, expected, 96, {DType::kBF16});
  folder.write();
  reset_tensor_memory_peak();
  const Index before = tensor_memory().peak_bytes;
  LoadedModel model = load_model(folder.path(), {.stored = true});
  // Three norms and the router.
  EXPECT_LE(tensor_memory().peak_bytes - before, 8 * static_cast<Index>(sizeof(float)) * 96);
  autograd::Parameter& q = *model.transformer.find("layers.0.attention.q");
  EXPECT_THAT(error_of(ErrorKind::kInternal, [&] { q.ensure_grad(); }), HasSubstr("layers.0.attention.q"));
  EXPECT_THAT(error_of(ErrorKind::kInternal, [&] { model.transformer.find("layers.0.moe.experts.up")->weight(); }),
              HasSubstr("layers.0.moe.experts.up"));
}

// ---- refusals

class RefusedTest : public testing::Test {
 protected:
  RefusedTest() : folder_(mixtral_config(96)) {
    expected_ = put_all_but_experts(folder_, 96);
    put_experts_one_by_one(folder_, expected_, 96, {DType::kF8E4M3});
  }
  void refused(ErrorKind kind, const testing::Matcher<std::string>& message) {
    folder_.write();
    for (const bool stored : {false, true})
      EXPECT_THAT(error_of(kind, [&] { load_model(folder_.path(), {.stored = stored}); }),
                  AllOf(HasSubstr("model.safetensors"), message));
  }
  // Fused experts in MXFP4.
  void use_mxfp4() {
    for (Index e = 0; e < kExperts; ++e)
      for (const char* name : {"w1", "w2", "w3"}) folder_.erase(fmt::format("{}experts.{}.{}.weight", kBlock, e, name));
    put_mxfp4(folder_, kMlp + "experts.gate_up_proj", kExperts, 2 * kHidden, 96);
    folder_.put(kMlp + "experts.down_proj", random_tensor(DType::kBF16, {kExperts, 96, kHidden}, 92));
  }
  Folder folder_;
  Expected expected_;
  const std::string expert_ = kBlock + "experts.2.w3.weight";
};

TEST_F(RefusedTest, FactorsOfAnotherShape) {
  folder_.put(expert_ + "_scale_inv", Tensor::zeros(DType::kF32, {2, 1}));
  refused(ErrorKind::kBadInput, AllOf(HasSubstr(expert_ + "_scale_inv"), HasSubstr("[2, 1]"), HasSubstr("[1, 1]")));
}

TEST_F(RefusedTest, FactorsThatAreNoFloats) {
  folder_.put(expert_ + "_scale_inv", Tensor::zeros(DType::kI32, {1, 1}));
  refused(ErrorKind::kBadInput, AllOf(HasSubstr(expert_ + "_scale_inv"), HasSubstr("I32")));
}

TEST_F(RefusedTest, FactorsOfATensorThatNeedsNone) {
  folder_.put(expert_, random_tensor(DType::kBF16, {kHidden, 96}, 3));
  folder_.put(expert_ + "_scale_inv", Tensor::zeros(DType::kF32, {1, 1}));
  refused(ErrorKind::kBadInput, AllOf(HasSubstr(expert_ + "_scale_inv"), HasSubstr("unknown")));
}

TEST_F(RefusedTest, TypesThatAreNoWeights) {
  folder_.put(expert_, Tensor::zeros(DType::kI8, {kHidden, 96}));
  refused(ErrorKind::kBadInput, AllOf(HasSubstr(expert_), HasSubstr("I8"), HasSubstr("BF16")));
  folder_.put(expert_, Tensor::zeros(DType::kF8E8M0, {kHidden, 96}));
  refused(ErrorKind::kUnsupported, AllOf(HasSubstr(expert_), HasSubstr("F8_E8M0"), HasSubstr("BF16")));
}

TEST_F(RefusedTest, Mxfp4WithoutScales) {
  use_mxfp4();
  folder_.erase(kMlp + "experts.gate_up_proj_scales");
  refused(ErrorKind::kBadInput, AllOf(HasSubstr("gate_up_proj_scales"), HasSubstr("missing")));
}

TEST_F(RefusedTest, Mxfp4OfAnotherShapeOrType) {
  use_mxfp4();
  const std::string blocks = kMlp + "experts.gate_up_proj_blocks", scales = kMlp + "experts.gate_up_proj_scales";
  folder_.put(scales, Tensor::zeros(DType::kU8, {kExperts, 2 * kHidden, 2}));
  refused(ErrorKind::kBadInput, AllOf(HasSubstr(scales), HasSubstr("[3, 22, 2]"), HasSubstr("[3, 22, 3]")));
  folder_.put(scales, Tensor::zeros(DType::kI8, {kExperts, 2 * kHidden, 3}));
  refused(ErrorKind::kBadInput, AllOf(HasSubstr(scales), HasSubstr("I8"), HasSubstr("U8")));
  folder_.put(blocks, Tensor::zeros(DType::kU8, {kExperts, 2 * kHidden, 3, 8}));
  refused(ErrorKind::kBadInput, AllOf(HasSubstr(blocks), HasSubstr("[3, 22, 3, 8]"), HasSubstr("[3, 22, 3, 16]")));
}

TEST(StoredWeightsTest, Mxfp4OfRowsThatAreNoWholeBlocksIsRefused) {
  Folder folder(mixtral_config(80));
  Expected expected = put_all_but_experts(folder, 80);
  put_router(folder, expected, kMlp + "gate.weight", 80);
  put_mxfp4(folder, kMlp + "experts.gate_up_proj", kExperts, 2 * kHidden, 96);
  folder.put(kMlp + "experts.down_proj", random_tensor(DType::kBF16, {kExperts, 80, kHidden}, 92));
  folder.write();
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { load_model(folder.path()); }),
              AllOf(HasSubstr("gate_up_proj_blocks"), HasSubstr("32"), HasSubstr("80")));
}

TEST_F(RefusedTest, BlockSizesThatAreNone) {
  for (const char* size : {"[128]", "[0, 128]", "[128, -1]", "[128, 128, 128]", "\"128\""}) {
    std::string config = mixtral_config(96);
    config.insert(config.size() - 1,
                  fmt::format(R"(, "quantization_config": {{"quant_method": "fp8", "weight_block_size": {}}})", size));
    write_text(folder_.path() / "config.json", config);
    folder_.write();
    EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { load_model(folder_.path()); }),
                AllOf(HasSubstr("config.json"), HasSubstr("weight_block_size")));
  }
}

// ---- tensors that are passed over

TEST_F(RefusedTest, LayersOfMultiTokenPredictionAreNoPartOfTheModel) {
  folder_.put("model.layers.1.eh_proj.weight", random_tensor(DType::kBF16, {96, 192}, 4));
  folder_.put("model.layers.1.input_layernorm.weight", random_tensor(DType::kBF16, {96}, 5));
  folder_.write();
  EXPECT_NO_THROW(load_model(folder_.path()));
  folder_.put("model.layers.2.input_layernorm.weight", random_tensor(DType::kBF16, {96}, 5));
  refused(ErrorKind::kBadInput, AllOf(HasSubstr("model.layers.2.input_layernorm.weight"), HasSubstr("unknown")));
  // Where the config says how many there are, no name has to.
  std::string config = mixtral_config(96);
  config.insert(config.size() - 1, R"(, "num_nextn_predict_layers": 2)");
  write_text(folder_.path() / "config.json", config);
  EXPECT_NO_THROW(load_model(folder_.path()));
}

TEST_F(RefusedTest, ATiedOutputMustBeTheEmbedding) {
  replace_in(folder_.path() / "config.json", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
  refused(ErrorKind::kBadInput, AllOf(HasSubstr("lm_head.weight"), HasSubstr("model.embed_tokens.weight")));
  folder_.put("lm_head.weight", folder_.at("model.embed_tokens.weight").clone());
  folder_.write();
  expected_.erase("output");
  expect_loads(folder_, expected_);
}

}  // namespace
}  // namespace switchyard::model
