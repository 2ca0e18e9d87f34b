#include "switchyard/model/config_file.hpp"

#include <gmock/gmock.h>

#include <fstream>

#include "support/error_of.hpp"
#include "support/temporary_folder.hpp"

namespace switchyard::model {
namespace {

using testing::HasSubstr;

const std::string kConfig = R"({"model_type": "mixtral", "vocab_size": 10, "hidden_size": 8,
  "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
  "num_local_experts": 4, "num_experts_per_tok": 2, "max_position_embeddings": 32, "rms_norm_eps": 1e-05)";

void write(const std::filesystem::path& file, const std::string& text) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file) << text;
}

TEST(ConfigFileTest, IsReadFromAFileAFolderAndARun) {
  const TemporaryFolder folder;
  write(folder / "some name.json", kConfig + R"(, "torch_dtype": "bfloat16"})");
  const ConfigFile file = read_config_file(folder / "some name.json");
  EXPECT_EQ(file.origin, (folder / "some name.json").string());
  EXPECT_EQ(file.family, "mixtral");
  EXPECT_EQ(file.config.layers.size(), 2U);
  EXPECT_EQ(file.stored.dtype, "bfloat16");
  EXPECT_EQ(file.stored.quantisation, "");
  EXPECT_EQ(file.prediction_layers, 0);

  write(folder / "model/config.json", kConfig + "}");
  EXPECT_EQ(read_config_file(folder / "model").config.width, 8);
  write(folder / "run/checkpoints/step-00000007/config.json", kConfig + "}");
  write(folder / "run/checkpoints/step-00000007/training.json", "{}");
  EXPECT_THAT(read_config_file(folder / "run").origin, HasSubstr("step-00000007"));
}

TEST(ConfigFileTest, SaysHowTheCheckpointIsStored) {
  const ConfigFile file = parse_config(kConfig + R"(, "dtype": "float16", "num_nextn_predict_layers": 1,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}})",
                                       "here");
  EXPECT_EQ(file.origin, "here");
  EXPECT_EQ(file.stored.dtype, "float16");
  EXPECT_EQ(file.stored.quantisation, "fp8");
  EXPECT_EQ(file.prediction_layers, 1);
}

TEST(ConfigFileTest, BadInput) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of(ErrorKind::kNotFound, [&] { read_config_file(folder / "nowhere"); }), HasSubstr("nowhere"));
  EXPECT_THAT(error_of(ErrorKind::kNotFound, [&] { read_config_file(folder.path()); }), HasSubstr("config.json"));
  EXPECT_THAT(error_of(ErrorKind::kUnsupported, [] { parse_config(R"({"model_type": "mamba"})", "f"); }),
              testing::AllOf(HasSubstr("mamba"), HasSubstr("mixtral"), HasSubstr("deepseek_v3")));
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [] { parse_config(R"({"model_type": "mixtral"})", "f"); }),
              HasSubstr("vocab_size"));
  EXPECT_THAT(
      error_of(ErrorKind::kBadInput, [] { parse_config(kConfig + R"(, "num_nextn_predict_layers": -1})", "f"); }),
      HasSubstr("num_nextn_predict_layers"));
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [] { parse_config("[]", "f"); }), HasSubstr("f"));
}

}  // namespace
}  // namespace switchyard::model
