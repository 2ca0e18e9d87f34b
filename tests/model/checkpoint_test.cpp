// Model folders as untrusted input, and the ways in which their weights may be stored.

#include "switchyard/model/checkpoint.hpp"

#include <gmock/gmock.h>

#include "model_folders.hpp"
#include "oracle/compare.hpp"

namespace switchyard::model {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kBase = "mixtral/base";
constexpr const char* kNorm = "model.layers.1.input_layernorm.weight";
constexpr const char* kExpert = "model.layers.1.block_sparse_moe.experts.4.w3.weight";

void expect_refused(const std::filesystem::path& folder, ErrorKind kind, const testing::Matcher<std::string>& message) {
  try {
    load_model(folder);
    ADD_FAILURE() << "the folder was loaded";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_THAT(std::string(error.what()), message);
  }
}

void expect_config_refused(const std::string& from, const std::string& to, ErrorKind kind,
                           const testing::Matcher<std::string>& message) {
  const TemporaryFolder folder(golden(kBase));
  replace_in(folder.path() / "config.json", from, to);
  expect_refused(folder.path(), kind, AllOf(HasSubstr(folder.path().string()), message));
}

void expect_tensors_refused(const std::function<void(Tensors&)>& change, ErrorKind kind,
                            const testing::Matcher<std::string>& message) {
  const TemporaryFolder folder(golden(kBase));
  change_tensors(folder.path(), change);
  expect_refused(folder.path(), kind, AllOf(HasSubstr("model.safetensors"), message));
}

TEST(CheckpointTest, MissingTensorIsNamed) {
  for (const std::string name : {kNorm, kExpert, "model.layers.0.block_sparse_moe.experts.0.w1.weight",
                                 "model.layers.0.block_sparse_moe.gate.weight", "lm_head.weight"})
    expect_tensors_refused([&](Tensors& tensors) { tensors.erase(name); }, ErrorKind::kBadInput,
                           AllOf(HasSubstr(name), HasSubstr("missing")));
}

TEST(CheckpointTest, UnknownTensorIsNamed) {
  for (const std::string name :
       {"model.layers.2.input_layernorm.weight", "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.block_sparse_moe.experts.5.w1.weight", "model.layers.0.mlp.experts.down_proj"})
    expect_tensors_refused([&](Tensors& tensors) { tensors.emplace(name, Tensor::zeros(DType::kF32, {24})); },
                           ErrorKind::kBadInput, AllOf(HasSubstr(name), HasSubstr("unknown")));
}

TEST(CheckpointTest, StoredRopeFrequenciesAreSkipped) {
  const TemporaryFolder folder(golden(kBase));
  change_tensors(folder.path(), [](Tensors& tensors) {
    tensors.emplace("model.layers.0.self_attn.rotary_emb.inv_freq", Tensor::zeros(DType::kF32, {4}));
  });
  EXPECT_EQ(load_model(folder.path()).family, "mixtral");
}

TEST(CheckpointTest, WrongShapeNamesFoundAndExpected) {
  expect_tensors_refused([](Tensors& tensors) { tensors[kNorm] = Tensor::zeros(DType::kF32, {23}); },
                         ErrorKind::kBadInput, AllOf(HasSubstr(kNorm), HasSubstr("[23]"), HasSubstr("[24]")));
  expect_tensors_refused(
      [](Tensors& tensors) {
        tensors[kExpert] = Tensor::zeros(DType::kF32, {24, 20});
      },
      ErrorKind::kBadInput, AllOf(HasSubstr(kExpert), HasSubstr("[24, 20]"), HasSubstr("[20, 24]")));
  // As many elements, another rank.
  expect_tensors_refused(
      [](Tensors& tensors) {
        tensors[kNorm] = Tensor::zeros(DType::kF32, {1, 24});
      },
      ErrorKind::kBadInput, AllOf(HasSubstr(kNorm), HasSubstr("[1, 24]")));
}

TEST(CheckpointTest, WrongTypeIsNamed) {
  expect_tensors_refused([](Tensors& tensors) { tensors[kNorm] = Tensor::zeros(DType::kI32, {24}); },
                         ErrorKind::kBadInput, AllOf(HasSubstr(kNorm), HasSubstr("I32"), HasSubstr("F32")));
  expect_tensors_refused([](Tensors& tensors) { tensors[kNorm] = Tensor::zeros(DType::kF8E8M0, {24}); },
                         ErrorKind::kUnsupported, AllOf(HasSubstr(kNorm), HasSubstr("F8_E8M0")));
}

TEST(CheckpointTest, MissingConfigKeyIsNamed) {
  for (const std::string key : {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                                "vocab_size", "intermediate_size", "num_local_experts", "num_experts_per_tok",
                                "max_position_embeddings", "rms_norm_eps", "model_type"})
    expect_config_refused("\"" + key + "\"", "\"x\"", ErrorKind::kBadInput, HasSubstr(key));
}

TEST(CheckpointTest, ConfigThatContradictsTheTensorsIsRefusedBeforeMemoryIsTaken) {
  const auto refused = [](const char* from, const char* to, const std::string& part) {
    reset_tensor_memory_peak();
    const Index before = tensor_memory().peak_bytes;
    expect_config_refused(from, to, ErrorKind::kBadInput, HasSubstr(part));
    EXPECT_EQ(tensor_memory().peak_bytes, before) << to;
  };
  refused("\"vocab_size\": 61", "\"vocab_size\": 2000000000", "embed_tokens");
  refused("\"hidden_size\": 24", "\"hidden_size\": 32", "[61, 32]");
  refused("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", "model.layers.1.");
  refused("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 60000", "model.layers.2.");
  refused("\"num_local_experts\": 5", "\"num_local_experts\": 4", "[4, 24]");
  refused("\"num_local_experts\": 5", "\"num_local_experts\": 65536", "[65536, 24]");
  refused("\"intermediate_size\": 20", "\"intermediate_size\": 2147483647", "[2147483647, 24]");
  refused("\"head_dim\": 8", "\"head_dim\": 6", "[24, 24]");
  refused("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true", "lm_head.weight");
}

TEST(CheckpointTest, NumbersOutOfRangeAreRefused) {
  for (const char* value : {"0", "-1", "2147483648", "1.5", "\"24\"", "null"})
    expect_config_refused("\"hidden_size\": 24", std::string("\"hidden_size\": ") + value, ErrorKind::kBadInput,
                          HasSubstr("hidden_size"));
  expect_config_refused("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 2000000000", ErrorKind::kBadInput,
                        HasSubstr("num_hidden_layers"));
  expect_config_refused("\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 6", ErrorKind::kBadInput,
                        HasSubstr("top_k"));
  expect_config_refused("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", ErrorKind::kBadInput,
                        HasSubstr("kv_heads"));
}

TEST(CheckpointTest, UnknownModelTypeListsTheKnownOnes) {
  expect_config_refused("\"mixtral\"", "\"gpt2\"", ErrorKind::kUnsupported,
                        AllOf(HasSubstr("model_type"), HasSubstr("gpt2"), HasSubstr("mixtral"), HasSubstr("qwen2_moe"),
                              HasSubstr("qwen3_moe"), HasSubstr("glm4_moe"), HasSubstr("deepseek"), HasSubstr("llama"),
                              HasSubstr("switchyard")));
}

TEST(CheckpointTest, DamagedAndMissingFilesAreRefused) {
  const TemporaryFolder folder(golden(kBase));
  const auto weights = folder.path() / "model.safetensors";
  const auto size = std::filesystem::file_size(weights);
  for (const auto keep : {size - 1, size / 2, std::uintmax_t{100}, std::uintmax_t{3}, std::uintmax_t{0}}) {
    std::filesystem::resize_file(weights, keep);
    expect_refused(folder.path(), ErrorKind::kBadInput, HasSubstr("model.safetensors"));
  }
  std::filesystem::remove(weights);
  expect_refused(folder.path(), ErrorKind::kNotFound, HasSubstr("model.safetensors"));
  write_text(folder.path() / "config.json", "{\"model_type\": \"mixtral\"");
  expect_refused(folder.path(), ErrorKind::kBadInput, HasSubstr("config.json"));
  std::filesystem::remove(folder.path() / "config.json");
  expect_refused(folder.path(), ErrorKind::kNotFound, HasSubstr("config.json"));
}

TEST(CheckpointTest, OwnDialectRefusesWhatItDoesNotKnow) {
  const LoadedModel model = load_model(golden(kBase));
  ModelConfig config = model.transformer.config();
  config.layers[0].moe->router.scale = 0.5F;
  const auto refused = [&](const std::string& from, const std::string& to, ErrorKind kind,
                           const testing::Matcher<std::string>& message) {
    const TemporaryFolder folder;
    ASSERT_EQ(save_model(folder.path(), Transformer(config), nullptr), "switchyard");
    replace_in(folder.path() / "config.json", from, to);
    expect_refused(folder.path(), kind, message);
  };
  refused("\"scale\": 0.5", "\"scale\": 0.5, \"wobble\": 0.1", ErrorKind::kUnsupported,
          AllOf(HasSubstr("rows.row-0.moe.router.wobble"), HasSubstr("logits_bias")));
  refused("\"swiglu\"", "\"tanh\"", ErrorKind::kBadInput,
          AllOf(HasSubstr("rows.row-0.moe.expert.activation"), HasSubstr("tanh"), HasSubstr("swiglu")));
  refused("\"half-split\"", "\"half\"", ErrorKind::kBadInput,
          AllOf(HasSubstr("rows.row-0.attention.rope_pairing"), HasSubstr("interleaved")));
  refused("\"softmax\"", "\"hardmax\"", ErrorKind::kBadInput, AllOf(HasSubstr("config.json"), HasSubstr("hardmax")));
  refused("\"row-1\"", "\"row-7\"", ErrorKind::kBadInput, HasSubstr("row-"));
}

TEST(CheckpointTest, OtherFloatTypesAreConverted) {
  const LoadedModel model = load_model(golden(kBase));
  const auto stored_as = [](Tensor& tensor, DType dtype) {
    Tensor other = Tensor::uninitialized(dtype, tensor.shape());
    for (std::size_t i = 0; i < tensor.f32().size(); ++i) {
      const float value = tensor.f32()[i];
      if (dtype == DType::kBF16) other.mutable_values<BFloat16>()[i] = to_bfloat16(value);
      if (dtype == DType::kF16) other.mutable_values<Float16>()[i] = to_float16(value);
      if (dtype == DType::kF64) other.mutable_values<double>()[i] = value;
    }
    tensor = std::move(other);
  };
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF64}) {
    const TemporaryFolder folder(golden(kBase));
    change_tensors(folder.path(), [&](Tensors& tensors) {
      for (auto& [name, tensor] : tensors) stored_as(tensor, dtype);
    });
    const LoadedModel loaded = load_model(folder.path());
    for (std::size_t i = 0; i < model.transformer.parameters().size(); ++i) {
      const auto expected = model.transformer.parameters()[i]->value.f32();
      const auto actual = loaded.transformer.parameters()[i]->value.f32();
      for (std::size_t j = 0; j < expected.size(); ++j) {
        const float rounded = dtype == DType::kBF16  ? to_float(to_bfloat16(expected[j]))
                              : dtype == DType::kF16 ? to_float(to_float16(expected[j]))
                                                     : expected[j];
        ASSERT_EQ(actual[j], rounded) << model.transformer.parameters()[i]->name;
      }
    }
  }
}

TEST(CheckpointTest, ShardsAreReadAsOneFile) {
  const TemporaryFolder folder(golden(kBase));
  const Tensors tensors = read_tensors(folder.path());
  std::filesystem::remove(folder.path() / "model.safetensors");
  formats::write_safetensors_sharded(folder.path(), named(tensors), {}, 20000);
  ASSERT_TRUE(std::filesystem::exists(folder.path() / "model.safetensors.index.json"));
  const LoadedModel whole = load_model(golden(kBase));
  const LoadedModel sharded = load_model(folder.path());
  for (std::size_t i = 0; i < whole.transformer.parameters().size(); ++i)
    EXPECT_TRUE(oracle::same_bits(whole.transformer.parameters()[i]->value.f32(),
                                  sharded.transformer.parameters()[i]->value.f32()));
}

TEST(CheckpointTest, LoadingHoldsTheModelOnce) {
  reset_tensor_memory_peak();
  const Index before = tensor_memory().current_bytes;
  const LoadedModel model = load_model(golden("mixtral/stacked-tied"));
  const Index held = tensor_memory().current_bytes - before;
  EXPECT_LE(tensor_memory().peak_bytes - before, held);
  const TemporaryFolder folder;
  reset_tensor_memory_peak();
  save_model(folder.path(), model.transformer, nullptr);
  EXPECT_EQ(tensor_memory().peak_bytes, before + held);
}

TEST(CheckpointTest, TokenizerTravelsWithTheModel) {
  ModelConfig config = load_model_config(golden(kBase));
  config.vocab = 256;
  const TemporaryFolder folder;
  save_model(folder.path(), Transformer(config), text::make_byte_tokenizer().get());
  const LoadedModel loaded = load_model(folder.path());
  ASSERT_NE(loaded.tokenizer, nullptr);
  EXPECT_EQ(loaded.tokenizer->kind(), "byte");
  EXPECT_EQ(load_model(golden(kBase)).tokenizer, nullptr);
}

TEST(CheckpointTest, TokenizerLargerThanTheVocabularyIsRefused) {
  const LoadedModel model = load_model(golden(kBase));
  const TemporaryFolder folder;
  save_model(folder.path(), model.transformer, text::make_byte_tokenizer().get());
  expect_refused(folder.path(), ErrorKind::kBadInput, AllOf(HasSubstr("256"), HasSubstr("61")));
}

}  // namespace
}  // namespace switchyard::model
