// Models through GGUF files and back: every golden folder gives the same logits, bit for bit, and the same tensors.

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "model_folders.hpp"
#include "oracle/compare.hpp"
#include "small_models.hpp"
#include "support/error_of.hpp"
#include "switchyard/formats/gguf.hpp"
#include "switchyard/model/convert.hpp"
#include "switchyard/model/examine.hpp"
#include "switchyard/tensor/half.hpp"

namespace switchyard::model {
namespace {

namespace fs = std::filesystem;
using formats::DeferredTensor;
using formats::GgufMetadata;
using formats::GgufValue;
using formats::TensorFiles;
using ::testing::HasSubstr;

// What llama.cpp's keys cannot say: windows that it does not know, dense layers in between, biases, other routers.
const std::set<std::string> kOnlyOurs = {"dbrx/not-normalised",
                                         "deepseek_v2/normalised",
                                         "deepseek_v3/no-q-lora",
                                         "deepseek/every-second",
                                         "deepseek_v3/half-split",
                                         "ernie4_5_moe/interval",
                                         "gpt_oss/clamped-bfloat16",
                                         "mixtral/window",
                                         "olmoe/clip-gqa-norm",
                                         "phimoe/long",
                                         "phimoe/short",
                                         "phimoe/window",
                                         "qwen2/window",
                                         "qwen2_moe/dense-rows",
                                         "qwen2_moe/window",
                                         "qwen3/bias-window",
                                         "qwen3_moe/bias-dense-rows"};

bool only_ours(const std::string& name) { return kOnlyOurs.count(name) != 0; }

std::vector<float> logits_of(const fs::path& path, const std::vector<std::int32_t>& ids, bool stored) {
  LoadedModel model = load_model(path, {.stored = stored});
  ForwardCall call;
  call.sequence = static_cast<Index>(ids.size());
  const Tensor logits = model.transformer.logits(model.transformer.forward(ids, call).hidden_TD.matrix());
  return {logits.f32().begin(), logits.f32().end()};
}

ConvertOptions options_for(const std::string& name, std::optional<DType> type) {
  ConvertOptions options;
  options.type = type;
  options.own_architecture = only_ours(name);
  return options;
}

class GgufModelTest : public testing::TestWithParam<std::string> {};

TEST_P(GgufModelTest, GivesTheSameLogitsAndTheSameTensorsBack) {
  const TemporaryFolder folder;
  const fs::path file = folder / "model.gguf", back = folder / "back";
  const Converted made = convert_to_gguf(golden(GetParam()), file, options_for(GetParam(), DType::kF32));
  EXPECT_EQ(made.architecture == "switchyard", only_ours(GetParam()));
  const std::vector<std::int32_t> ids = golden_ids(GetParam());
  const std::vector<float> expected = logits_of(golden(GetParam()), ids, false);
  EXPECT_TRUE(oracle::same_bits(logits_of(file, ids, false), expected));
  EXPECT_TRUE(oracle::same_bits(logits_of(file, ids, true), expected));

  convert_to_folder(file, back, {});
  EXPECT_TRUE(oracle::same_bits(logits_of(back, ids, true), expected));
  expect_same_parameters(golden(GetParam()), back);
  EXPECT_EQ(load_model(back).family, load_model(golden(GetParam())).family);
}

TEST_P(GgufModelTest, KeepsTypesAsTheyAre) {
  const TemporaryFolder folder;
  const fs::path file = folder / "model.gguf", back = folder / "back";
  convert_to_gguf(golden(GetParam()), file, options_for(GetParam(), std::nullopt));
  convert_to_folder(file, back, {});
  if (GetParam() == "deepseek_v3/fp8") return;  // GGUF has no FP8
  const std::vector<std::int32_t> ids = golden_ids(GetParam());
  const std::vector<float> expected = logits_of(golden(GetParam()), ids, true);
  EXPECT_TRUE(oracle::same_bits(logits_of(file, ids, true), expected));
  EXPECT_TRUE(oracle::same_bits(logits_of(back, ids, true), expected));
}

INSTANTIATE_TEST_SUITE_P(Models, GgufModelTest, testing::ValuesIn(golden_models()), golden_test_name);

// A GGUF file again, with other metadata or tensors.
struct Contents {
  GgufMetadata metadata;
  Tensors tensors;
};

Contents read_contents(const fs::path& file) {
  Contents contents;
  const TensorFiles files = TensorFiles::open(file);
  contents.metadata = *files.gguf();
  contents.tensors = read_tensors(file);
  return contents;
}

void write_contents(const fs::path& file, const Contents& contents) {
  std::vector<DeferredTensor> list;
  for (const auto& [name, tensor] : contents.tensors)
    list.push_back({name, tensor.dtype(), tensor.shape(), [&tensor = tensor] { return tensor.clone(); }});
  formats::write_gguf(file, contents.metadata, list);
}

// As another program would have written it: without what only we read.
void strip(Contents& contents) {
  std::vector<std::string> keys;
  for (const auto& item : contents.metadata.items())
    if (item.key.starts_with("switchyard.")) keys.push_back(item.key);
  for (const std::string& key : keys) contents.metadata.erase(key);
}

class ForeignGgufTest : public testing::TestWithParam<std::string> {};

TEST_P(ForeignGgufTest, IsReadFromTheKeysThatAllProgramsKnow) {
  const TemporaryFolder folder;
  const fs::path file = folder / "model.gguf", stripped = folder / "stripped.gguf";
  convert_to_gguf(golden(GetParam()), file, options_for(GetParam(), DType::kF32));
  Contents contents = read_contents(file);
  strip(contents);
  write_contents(stripped, contents);
  const std::vector<std::int32_t> ids = golden_ids(GetParam());
  const std::vector<float> expected = logits_of(golden(GetParam()), ids, false);
  std::vector<double> exact(expected.begin(), expected.end());
  // Keys are float32, where config.json has doubles.
  EXPECT_TRUE(oracle::close(logits_of(stripped, ids, false), exact, 2e-5));
  convert_to_folder(stripped, folder / "back", {});
  EXPECT_TRUE(oracle::close(logits_of(folder / "back", ids, false), exact, 2e-5));
}

std::vector<std::string> expressible() {
  std::vector<std::string> names = golden_models();
  std::erase_if(names, only_ours);
  return names;
}
INSTANTIATE_TEST_SUITE_P(Models, ForeignGgufTest, testing::ValuesIn(expressible()), golden_test_name);

class GgufLayouts : public testing::Test {
 protected:
  // The golden model as GGUF, changed, gives the same logits.
  void expect_reads(const std::string& name, const std::function<void(Contents&)>& change) {
    const fs::path file = folder_ / "model.gguf", changed = folder_ / "changed.gguf";
    convert_to_gguf(golden(name), file, {.type = DType::kF32});
    Contents contents = read_contents(file);
    change(contents);
    write_contents(changed, contents);
    const std::vector<std::int32_t> ids = golden_ids(name);
    EXPECT_TRUE(oracle::same_bits(logits_of(changed, ids, true), logits_of(golden(name), ids, false)));
  }
  std::string message(ErrorKind kind, const std::string& name, const std::function<void(Contents&)>& change) {
    const fs::path file = folder_ / "model.gguf", changed = folder_ / "changed.gguf";
    convert_to_gguf(golden(name), file, {.type = DType::kF32});
    Contents contents = read_contents(file);
    change(contents);
    write_contents(changed, contents);
    std::string text = error_of(kind, [&] { load_model(changed); });
    EXPECT_THAT(text, HasSubstr("changed.gguf"));
    return text;
  }
  TemporaryFolder folder_;
};

// [E, R, C] below one another along the rows.
Tensor stacked(const Tensor& a, const Tensor& b) {
  const Index experts = a.shape()[0], rows_a = a.shape()[1], rows_b = b.shape()[1], cols = a.shape()[2];
  Tensor both = Tensor::uninitialized(DType::kF32, {experts, rows_a + rows_b, cols});
  auto to = both.f32().begin();
  for (Index e = 0; e < experts; ++e) {
    for (const auto& [part, rows] : {std::pair(&a, rows_a), std::pair(&b, rows_b)}) {
      const auto from =
          part->f32().subspan(static_cast<std::size_t>(e * rows * cols), static_cast<std::size_t>(rows * cols));
      to = std::copy(from.begin(), from.end(), to);
    }
  }
  return both;
}

TEST_F(GgufLayouts, GateAndUpInOneTensor) {
  for (const char* name : {"qwen3_moe/base", "mixtral/base", "deepseek_v3/base"}) {
    expect_reads(name, [](Contents& c) {
      for (int i = 0; i < 8; ++i) {
        const std::string gate = fmt::format("blk.{}.ffn_gate_exps.weight", i);
        const std::string up = fmt::format("blk.{}.ffn_up_exps.weight", i);
        if (c.tensors.count(gate) == 0) continue;
        c.tensors.insert_or_assign(fmt::format("blk.{}.ffn_gate_up_exps.weight", i),
                                   stacked(c.tensors.at(gate), c.tensors.at(up)));
        c.tensors.erase(gate);
        c.tensors.erase(up);
      }
    });
  }
}

TEST_F(GgufLayouts, OneTensorAnExpert) {
  expect_reads("mixtral/base", [](Contents& c) {
    for (const char* part : {"gate", "up", "down"}) {
      for (int i = 0; i < 2; ++i) {
        const std::string stack = fmt::format("blk.{}.ffn_{}_exps.weight", i, part);
        const Tensor all = c.tensors.at(stack).clone();
        c.tensors.erase(stack);
        const auto count = static_cast<std::size_t>(all.shape()[1] * all.shape()[2]);
        for (Index e = 0; e < all.shape()[0]; ++e) {
          Tensor one = Tensor::uninitialized(DType::kF32, {all.shape()[1], all.shape()[2]});
          const auto from = all.f32().subspan(static_cast<std::size_t>(e) * count, count);
          std::copy(from.begin(), from.end(), one.f32().begin());
          c.tensors.insert_or_assign(fmt::format("blk.{}.ffn_{}.{}.weight", i, part, e), std::move(one));
        }
      }
    }
  });
}

// DeepSeek's keys and values as one matrix of the published shape, which older files have, with or without the two that
// newer ones have.
TEST_F(GgufLayouts, LatentKeysAndValuesInOneMatrix) {
  for (const bool both : {false, true}) {
    expect_reads("deepseek_v3/base", [&](Contents& c) {
      for (int i = 0; i < 8; ++i) {
        const std::string k_name = fmt::format("blk.{}.attn_k_b.weight", i);
        const std::string v_name = fmt::format("blk.{}.attn_v_b.weight", i);
        if (c.tensors.count(k_name) == 0) continue;
        const Tensor k = c.tensors.at(k_name).clone(), v = c.tensors.at(v_name).clone();
        const Index heads = k.shape()[0], rank = k.shape()[1], keys = k.shape()[2], values = v.shape()[1];
        ASSERT_EQ(v.shape(), (Shape{heads, values, rank}));
        Tensor kv = Tensor::uninitialized(DType::kF32, {heads * (keys + values), rank});
        const auto at = [](Index i3, Index n2, Index i2, Index n1, Index i1) {
          return static_cast<std::size_t>((i3 * n2 + i2) * n1 + i1);
        };
        for (Index h = 0; h < heads; ++h) {
          for (Index c2 = 0; c2 < rank; ++c2) {
            for (Index n = 0; n < keys; ++n)
              kv.f32()[at(0, 0, h * (keys + values) + n, rank, c2)] = k.f32()[at(h, rank, c2, keys, n)];
            for (Index n = 0; n < values; ++n)
              kv.f32()[at(0, 0, h * (keys + values) + keys + n, rank, c2)] = v.f32()[at(h, values, n, rank, c2)];
          }
        }
        c.tensors.insert_or_assign(fmt::format("blk.{}.attn_kv_b.weight", i), std::move(kv));
        if (both) {  // in two dimensions, as a fork has it
          c.tensors.at(k_name) = Tensor::zeros(DType::kF32, {heads * rank, keys});
        } else {
          c.tensors.erase(k_name);
          c.tensors.erase(v_name);
        }
      }
      if (!both) {
        // Such files do not know the absorbed form.
        const Index key = c.metadata.integer("deepseek2.attention.key_length_mla");
        const Index value = c.metadata.integer("deepseek2.attention.value_length_mla");
        c.metadata.set("deepseek2.attention.key_length", static_cast<std::uint32_t>(key));
        c.metadata.set("deepseek2.attention.value_length", static_cast<std::uint32_t>(value));
        c.metadata.erase("deepseek2.attention.key_length_mla");
        c.metadata.erase("deepseek2.attention.value_length_mla");
      }
    });
  }
}

TEST_F(GgufLayouts, RowsOfQueriesAndKeysTakeTurns) {
  convert_to_gguf(golden("mixtral/base"), folder_ / "model.gguf", {});
  const Tensors ours = read_tensors(folder_ / "model.gguf"), theirs = read_tensors(golden("mixtral/base"));
  const Tensor& from = theirs.at("model.layers.1.self_attn.k_proj.weight");
  const Tensor& to = ours.at("blk.1.attn_k.weight");
  ASSERT_EQ(from.shape(), to.shape());
  constexpr Index kHead = 8;
  const Index cols = from.shape()[1];
  for (Index head = 0; head < from.shape()[0] / kHead; ++head)
    for (Index i = 0; i < kHead / 2; ++i)
      for (Index s = 0; s < 2; ++s)
        for (Index c = 0; c < cols; ++c)
          ASSERT_EQ(to.f32()[static_cast<std::size_t>((head * kHead + 2 * i + s) * cols + c)],
                    from.f32()[static_cast<std::size_t>((head * kHead + s * (kHead / 2) + i) * cols + c)]);
}

TEST_F(GgufLayouts, BadInputIsNamed) {
  const auto set = [](const char* key, GgufValue value) {
    return [key, value](Contents& c) {
      strip(c);
      c.metadata.set(key, value);
    };
  };
  const auto erase = [](const char* key) {
    return [key](Contents& c) {
      strip(c);
      c.metadata.erase(key);
    };
  };
  const std::string unknown =
      message(ErrorKind::kUnsupported, "mixtral/base", set("general.architecture", std::string("mamba")));
  EXPECT_THAT(unknown, HasSubstr("mamba"));
  EXPECT_THAT(unknown, HasSubstr("llama, qwen2, qwen3, qwen2moe, qwen3moe, deepseek, deepseek2, olmoe"));
  EXPECT_THAT(message(ErrorKind::kBadInput, "mixtral/base", erase("general.architecture")),
              HasSubstr("general.architecture"));
  for (const char* key :
       {"llama.embedding_length", "llama.block_count", "llama.context_length", "llama.attention.head_count",
        "llama.expert_used_count", "llama.feed_forward_length", "llama.attention.layer_norm_rms_epsilon"}) {
    EXPECT_THAT(message(ErrorKind::kBadInput, "mixtral/base", erase(key)), HasSubstr(key));
    EXPECT_THAT(message(ErrorKind::kBadInput, "mixtral/base", set(key, std::string("many"))), HasSubstr(key));
  }
  EXPECT_THAT(message(ErrorKind::kBadInput, "mixtral/base", set("llama.embedding_length", std::uint32_t{48})),
              HasSubstr("found shape"));
  EXPECT_THAT(message(ErrorKind::kBadInput, "mixtral/base", set("llama.block_count", std::uint32_t{0})),
              HasSubstr("num_hidden_layers"));
  EXPECT_THAT(message(ErrorKind::kBadInput, "mixtral/base", set("llama.block_count", std::uint32_t{3})),
              HasSubstr("blk.2.attn_norm.weight is missing; its metadata asks for it"));
  EXPECT_THAT(message(ErrorKind::kUnsupported, "mixtral/base", set("llama.rope.scaling.type", std::string("dynamic"))),
              HasSubstr("dynamic"));
  EXPECT_THAT(message(ErrorKind::kUnsupported, "mixtral/base",
                      set("llama.feed_forward_length", formats::GgufArray(std::vector<std::uint32_t>{20, 24}))),
              HasSubstr("20 and 24"));
  EXPECT_THAT(
      message(ErrorKind::kBadInput, "mixtral/base", [](Contents& c) { c.tensors.erase("blk.0.ffn_down_exps.weight"); }),
      HasSubstr("blk.0.ffn_down_exps.weight is missing"));
  EXPECT_THAT(message(ErrorKind::kBadInput, "mixtral/base",
                      [](Contents& c) { c.tensors.emplace("blk.0.extra.weight", Tensor::zeros(DType::kF32, {2})); }),
              HasSubstr("blk.0.extra.weight is unknown"));
  EXPECT_THAT(message(ErrorKind::kBadInput, "mixtral/base",
                      [](Contents& c) {
                        c.tensors.insert_or_assign("blk.0.attn_q.weight", Tensor::zeros(DType::kI32, {32, 24}));
                      }),
              HasSubstr("I32"));
}

TEST_F(GgufLayouts, WhatMiniMaxAndErnieCannotDoIsNamed) {
  const auto expect_refused = [&](ErrorKind kind, const char* model, const std::string& key, const GgufValue& value) {
    const std::string text = message(kind, model, [&](Contents& c) {
      strip(c);
      c.metadata.set(key, value);
    });
    EXPECT_THAT(text, HasSubstr(key));
  };
  for (const auto& [model, architecture, gating] :
       {std::tuple("minimax_m2/base", std::string("minimax-m2."), 1U),
        std::tuple("ernie4_5_moe/base", std::string("ernie4_5-moe."), 2U)}) {
    expect_refused(ErrorKind::kUnsupported, model, architecture + "expert_gating_func", gating);
    expect_refused(ErrorKind::kUnsupported, model, architecture + "expert_weights_scale", 2.5F);
    expect_refused(ErrorKind::kUnsupported, model, architecture + "expert_weights_norm", false);
  }
  for (const std::uint32_t turned : {7U, 12U}) {
    EXPECT_THAT(message(ErrorKind::kBadInput, "minimax_m2/base",
                        [&](Contents& c) {
                          strip(c);
                          c.metadata.set("minimax-m2.rope.dimension_count", turned);
                        }),
                HasSubstr(fmt::format("found {}, expected an even number up to head_dim (10)", turned)));
  }
  for (const std::string key :
       {"interleave_moe_layer_step", "leading_dense_block_count", "expert_feed_forward_length"}) {
    const std::string text = message(ErrorKind::kBadInput, "ernie4_5_moe/base", [&](Contents& c) {
      strip(c);
      c.metadata.erase("ernie4_5-moe." + key);
    });
    EXPECT_THAT(text, HasSubstr("ernie4_5-moe." + key));
  }
  expect_refused(ErrorKind::kBadInput, "ernie4_5_moe/base", "ernie4_5-moe.expert_shared_feed_forward_length", 15U);
  expect_refused(ErrorKind::kBadInput, "ernie4_5_moe/base", "ernie4_5-moe.expert_feed_forward_length", 0U);
}

TEST_F(GgufLayouts, KeysOfMiniMaxAndErnieThatMayBeAbsent) {
  expect_reads("minimax_m2/base", [](Contents& c) {
    strip(c);
    c.metadata.erase("minimax-m2.expert_gating_func");
    c.metadata.erase("minimax-m2.expert_feed_forward_length");
  });
  expect_reads("ernie4_5_moe/base", [](Contents& c) {
    strip(c);
    c.metadata.erase("ernie4_5-moe.expert_shared_feed_forward_length");
    // The bias as it was published, a matrix of one row.
    for (auto& [name, tensor] : c.tensors) {
      if (name.ends_with("exp_probs_b.bias")) tensor.reshape({1, tensor.numel()});
    }
  });
  expect_reads("ernie4_5_moe/base", [](Contents& c) {
    strip(c);
    c.metadata.erase("ernie4_5-moe.expert_shared_count");
  });
}

TEST_F(GgufLayouts, ErnieHasExpertsOnEverySecondLayer) {
  const auto row = [](bool experts) {
    LayerConfig layer = experts ? moe_layer(2, 1, 4, 4, 2, 6) : dense_layer(2, 1, 4, 20);
    layer.attention.rope_pairing = kernels::RopePairing::kInterleaved;
    if (experts) {
      layer.moe->router.normalise = "sum";
      layer.moe->router.selection_bias = true;
      layer.moe->shared = {.hidden = 12};
    }
    return layer;
  };
  Transformer transformer(model_of(24, 8, {row(false), row(false), row(false), row(true), row(false), row(true)}));
  randomize(transformer, 5);
  const fs::path model = folder_ / "model", file = folder_ / "m.gguf", stripped = folder_ / "stripped.gguf";
  fs::create_directory(model);
  EXPECT_EQ(save_model(model, transformer, nullptr), "ernie4_5_moe");
  EXPECT_EQ(convert_to_gguf(model, file, {}).architecture, "ernie4_5-moe");
  Contents contents = read_contents(file);
  strip(contents);
  EXPECT_EQ(contents.metadata.integer("ernie4_5-moe.interleave_moe_layer_step"), 2);
  EXPECT_EQ(contents.metadata.integer("ernie4_5-moe.leading_dense_block_count"), 3);
  write_contents(stripped, contents);
  expect_same_parameters(model, stripped);
  EXPECT_EQ(load_model_config(stripped).layers.size(), 6U);
  EXPECT_TRUE(load_model_config(stripped).layers[5].moe.has_value());
}

TEST_F(GgufLayouts, KeysThatWereChangedHoldAgainstTheConfigBesideThem) {
  const fs::path file = folder_ / "model.gguf", changed = folder_ / "changed.gguf";
  convert_to_gguf(golden("mixtral/base"), file, {});
  EXPECT_EQ(load_model_config(file).max_positions, 64);
  Contents contents = read_contents(file);
  contents.metadata.set("llama.context_length", std::uint32_t{32});
  write_contents(changed, contents);
  EXPECT_EQ(load_model_config(changed).max_positions, 32);
}

TEST_F(GgufLayouts, LayersForMultiTokenPredictionAreCountedButPassedOver) {
  expect_reads("glm4_moe/base", [](Contents& c) {
    strip(c);
    const Index layers = c.metadata.integer("glm4moe.block_count");
    c.metadata.set("glm4moe.block_count", static_cast<std::uint32_t>(layers + 1));
    c.metadata.set("glm4moe.nextn_predict_layers", std::uint32_t{1});
    c.tensors.emplace(fmt::format("blk.{}.nextn.eh_proj.weight", layers), Tensor::zeros(DType::kF32, {4, 8}));
    c.tensors.emplace(fmt::format("blk.{}.attn_norm.weight", layers), Tensor::zeros(DType::kF32, {4}));
  });
}

TEST(GgufTokenizer, NeedsNoModelThatRunsHere) {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<std::int32_t> types = {2, 3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(fmt::format("<0x{:02X}>", byte));
    types.push_back(6);
  }
  for (const char* token : {"\u2581", "a"}) {
    tokens.emplace_back(token);
    types.push_back(1);
  }
  GgufMetadata metadata;
  metadata.set("general.architecture", std::string("some-other-kind"));
  metadata.set("tokenizer.ggml.model", std::string("llama"));
  metadata.set("tokenizer.ggml.tokens", formats::GgufArray(tokens));
  metadata.set("tokenizer.ggml.scores", formats::GgufArray(std::vector<float>(tokens.size())));
  metadata.set("tokenizer.ggml.token_type", formats::GgufArray(types));
  const TemporaryFolder folder;
  formats::write_gguf(folder / "vocabulary.gguf", metadata, {});
  const auto tokenizer = load_model_tokenizer(folder / "vocabulary.gguf");
  EXPECT_EQ(tokenizer->vocab_size(), 261);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode_plain("a word")), "a word");
  EXPECT_THAT(error_of(ErrorKind::kUnsupported, [&] { load_model(folder / "vocabulary.gguf"); }),
              HasSubstr("some-other-kind"));
}

}  // namespace
}  // namespace switchyard::model
