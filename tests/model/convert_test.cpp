#include "switchyard/model/convert.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model_folders.hpp"
#include "small_models.hpp"
#include "support/error_of.hpp"
#include "switchyard/model/examine.hpp"
#include "switchyard/tensor/half.hpp"

namespace switchyard::model {
namespace {

namespace fs = std::filesystem;
using formats::TensorFiles;
using ::testing::HasSubstr;

TEST(Convert, RefusesWhatGgufCannotSayAndNamesIt) {
  const TemporaryFolder folder;
  const fs::path file = folder / "x.gguf";
  for (const auto& [name, expected] :
       {std::pair("mixtral/window", "attention.window is 6 and 0"), std::pair("deepseek/every-second", "layer 2"),
        std::pair("qwen3_moe/bias-dense-rows", "layers.0.ffn.gate"), std::pair("dbrx/not-normalised", "normalise"),
        std::pair("phimoe/short", "long_mscale"), std::pair("ernie4_5_moe/interval", "layer 4")}) {
    const std::string text = error_of(ErrorKind::kUnsupported, [&] { convert_to_gguf(golden(name), file); });
    EXPECT_THAT(text, HasSubstr(expected)) << name;
    EXPECT_THAT(text, HasSubstr("--own-architecture"));
    EXPECT_FALSE(fs::exists(file));
  }
}

TEST(Convert, OurOwnModelsAndTokenizersGoThere) {
  for (const auto& [name, config] : small_models()) {
    SCOPED_TRACE(name);
    const TemporaryFolder folder;
    fs::create_directory(folder / "model");
    Transformer transformer(config);
    transformer.initialize({}, 3);
    const auto tokenizer = text::make_char_tokenizer("a token");
    const std::string type = save_model(folder / "model", transformer, tokenizer.get());
    ConvertOptions options;
    const bool own = type == "switchyard";
    Converted made;
    try {
      made = convert_to_gguf(folder / "model", folder / "m.gguf", options);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUnsupported);
      EXPECT_FALSE(own) << error.what();
      options.own_architecture = true;
      made = convert_to_gguf(folder / "model", folder / "m.gguf", options);
    }
    EXPECT_EQ(made.architecture == "switchyard", own || options.own_architecture);
    convert_to_folder(folder / "m.gguf", folder / "back", {});
    for (const fs::path& path : {folder / "m.gguf", folder / "back"}) {
      expect_same_parameters(folder / "model", path);
      const LoadedModel again = load_model(path);
      EXPECT_EQ(again.family, type);
      ASSERT_NE(again.tokenizer, nullptr);
      EXPECT_EQ(again.tokenizer->kind(), tokenizer->kind());
      EXPECT_EQ(again.tokenizer->encode("a token"), tokenizer->encode("a token"));
    }
  }
}

TEST(Convert, EightBits) {
  const TemporaryFolder folder;
  const Converted made = convert_to_gguf(golden("mixtral/stacked-tied"), folder / "m.gguf", {.type = DType::kQ80});
  const TensorFiles files = TensorFiles::open(folder / "m.gguf");
  const Tensors original = read_tensors(golden("mixtral/stacked-tied"));
  EXPECT_EQ(files.info("blk.0.attn_v.weight").dtype, DType::kQ80);
  EXPECT_EQ(files.info("blk.0.ffn_gate_inp.weight").dtype, DType::kF32);
  EXPECT_EQ(files.info("blk.0.attn_norm.weight").dtype, DType::kF32);
  // Rows of 16 are no whole blocks.
  EXPECT_EQ(files.info("blk.0.ffn_down_exps.weight").dtype, DType::kF16);
  EXPECT_THAT(made.notes, testing::Contains(HasSubstr("F16")));
  const Tensor quantised = files.view("blk.0.attn_v.weight");
  const std::span<const float> exact = original.at("model.layers.0.self_attn.v_proj.weight").f32();
  const std::span<const std::byte> bytes = quantised.bytes();
  ASSERT_EQ(bytes.size(), exact.size() / 32 * 34);
  for (std::size_t block = 0; block < exact.size() / 32; ++block) {
    Float16 stored;
    std::memcpy(&stored, bytes.data() + block * 34, 2);
    float most = 0.0F;
    for (std::size_t i = 0; i < 32; ++i) most = std::max(most, std::abs(exact[block * 32 + i]));
    ASSERT_EQ(stored.bits, to_float16(most / 127.0F).bits);
    for (std::size_t i = 0; i < 32; ++i) {
      const double q = static_cast<std::int8_t>(bytes[block * 34 + 2 + i]);
      const double scale = static_cast<double>(most) / 127.0;
      ASSERT_NEAR(q * scale, static_cast<double>(exact[block * 32 + i]), scale * 0.5001);
    }
  }
  const std::string text = error_of(ErrorKind::kUsage, [&] {
    convert_to_folder(golden("mixtral/stacked-tied"), folder / "back", {.type = DType::kQ80});
  });
  EXPECT_THAT(text, HasSubstr("q8_0"));
}

TEST(Convert, SmallTypesOfFoldersAndFiles) {
  for (const DType type : {DType::kF16, DType::kBF16}) {
    const TemporaryFolder folder;
    convert_to_gguf(golden("deepseek_v3/base"), folder / "m.gguf", {.type = type});
    convert_to_folder(golden("deepseek_v3/base"), folder / "direct", {.type = type});
    EXPECT_EQ(TensorFiles::open(folder / "m.gguf").info("blk.0.attn_k_b.weight").dtype, type);
    expect_same_parameters(folder / "m.gguf", folder / "direct");
    EXPECT_THAT(read_file(folder / "direct" / "config.json"), HasSubstr(type == DType::kF16 ? "float16" : "bfloat16"));
  }
}

TEST(Convert, CutsIntoFiles) {
  const TemporaryFolder folder;
  ConvertOptions options;
  options.max_part_bytes = 20000;
  const Converted made = convert_to_gguf(golden("mixtral/base"), folder / "m.gguf", options);
  ASSERT_GT(made.files.size(), 3U);
  expect_same_parameters(golden("mixtral/base"), made.files[0]);
  expect_same_parameters(golden("mixtral/base"), made.files[2]);
  const Converted back = convert_to_folder(made.files[1], folder / "back", options);
  EXPECT_GT(back.files.size(), 3U);
  expect_same_parameters(golden("mixtral/base"), folder / "back");
}

TEST(Convert, LeavesNothingBehindWhereItFails) {
  const TemporaryFolder folder;
  fs::copy(golden("mixtral/base"), folder / "model", fs::copy_options::recursive);
  change_tensors(folder / "model", [](Tensors& tensors) { tensors.erase("model.layers.1.self_attn.v_proj.weight"); });
  for (const bool gguf : {true, false}) {
    const std::string text = error_of(ErrorKind::kBadInput, [&] {
      if (gguf)
        convert_to_gguf(folder / "model", folder / "m.gguf", {});
      else
        convert_to_folder(folder / "model", folder / "m", {});
    });
    EXPECT_THAT(text, HasSubstr("model.layers.1.self_attn.v_proj.weight is missing"));
  }
  std::size_t entries = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder.path())) ++entries;
  EXPECT_EQ(entries, 1U);
  EXPECT_THAT(error_of(ErrorKind::kUsage, [&] { convert_to_folder(folder / "model", folder / "model", {}); }),
              HasSubstr("is or holds"));
}

TEST(Convert, DoctorReadsGguf) {
  const TemporaryFolder folder;
  convert_to_gguf(golden("qwen3_moe/base"), folder / "m.gguf", {});
  const Examination found = examine(folder / "m.gguf", {});
  EXPECT_EQ(found.problems(), 0U);
  EXPECT_EQ(found.model_type, "qwen3_moe");
  EXPECT_FALSE(found.routing.empty());
}

}  // namespace
}  // namespace switchyard::model
