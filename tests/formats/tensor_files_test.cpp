#include <memory>

#include "support.hpp"
#include "switchyard/formats/safetensors.hpp"
#include "switchyard/formats/tensor_files.hpp"

namespace switchyard::formats {
namespace {

using testing::ElementsAre;
namespace fs = std::filesystem;

struct Weights {
  std::vector<std::unique_ptr<Tensor>> tensors;
  std::vector<NamedTensor> named;
  explicit Weights(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      tensors.push_back(std::make_unique<Tensor>(random_bits(DType::kF32, {5}, static_cast<std::uint32_t>(i))));
      named.push_back({fmt::format("layer.{}.weight", i), tensors.back().get()});  // 20 bytes each
    }
  }
};

void expect_same(const TensorFiles& files, const Weights& weights) {
  ASSERT_EQ(files.names().size(), weights.named.size());
  for (std::size_t i = 0; i < weights.named.size(); ++i) {
    EXPECT_EQ(files.names()[i], weights.named[i].name);
    EXPECT_TRUE(files.contains(weights.named[i].name));
    EXPECT_EQ(files.info(weights.named[i].name).shape, weights.named[i].tensor->shape());
    EXPECT_TRUE(same_bytes(files.load(weights.named[i].name), *weights.named[i].tensor));
  }
}

TEST(TensorFiles, OneFileWhereEverythingFits) {
  const Weights weights(3);
  const TemporaryFolder folder;
  write_safetensors_sharded(folder.path(), weights.named, {}, 60);
  EXPECT_THAT(file_names(folder.path()), ElementsAre("model.safetensors"));
  expect_same(TensorFiles::open(folder.path()), weights);
  expect_same(TensorFiles::open(folder / "model.safetensors"), weights);
}

TEST(TensorFiles, ShardsOfAnySize) {
  const Weights weights(7);
  for (const std::size_t limit : {0U, 1U, 19U, 20U, 39U, 40U, 59U, 139U, 140U}) {
    const TemporaryFolder folder;
    write_safetensors_sharded(folder.path(), weights.named, {{"format", "pt"}}, limit);
    const TensorFiles files = TensorFiles::open(folder.path());
    expect_same(files, weights);
    const std::size_t a_shard = std::max<std::size_t>(limit / 20, 1), shards = (7 + a_shard - 1) / a_shard;
    EXPECT_EQ(file_names(folder.path()).size(), shards == 1 ? 1 : shards + 1) << limit;
    EXPECT_EQ(files.path_of("layer.6.weight").filename(),
              shards == 1 ? "model.safetensors" : fmt::format("model-{0:05}-of-{0:05}.safetensors", shards));
  }
}

TEST(TensorFiles, TheIndexHasTheLayoutOfPublishedCheckpoints) {
  const Weights weights(2);
  const TemporaryFolder folder;
  write_safetensors_sharded(folder.path(), weights.named, {}, 20);
  EXPECT_EQ(read_file(folder / "model.safetensors.index.json"), R"({
  "metadata": {
    "total_size": 40
  },
  "weight_map": {
    "layer.0.weight": "model-00001-of-00002.safetensors",
    "layer.1.weight": "model-00002-of-00002.safetensors"
  }
}
)");
}

TEST(TensorFiles, AnIndexByItsOwnPath) {
  const Weights weights(4);
  const TemporaryFolder folder;
  write_safetensors_sharded(folder.path(), weights.named, {}, 40);
  expect_same(TensorFiles::open(folder / "model.safetensors.index.json"), weights);
}

TEST(TensorFiles, MissingThingsAreNamed) {
  const TemporaryFolder folder;
  expect_error(ErrorKind::kNotFound, {folder.path().string(), "model.safetensors", "model.safetensors.index.json"},
               [&] { TensorFiles::open(folder.path()); });
  expect_error(ErrorKind::kNotFound, {"nowhere"}, [&] { TensorFiles::open(folder / "nowhere"); });
  const Weights weights(1);
  write_safetensors_sharded(folder.path(), weights.named, {}, 100);
  const TensorFiles files = TensorFiles::open(folder.path());
  EXPECT_FALSE(files.contains("x"));
  for (const auto& ask : std::vector<std::function<void()>>{[&] { files.load("x"); }, [&] { files.info("x"); },
                                                            [&] { files.path_of("x"); }}) {
    expect_error(ErrorKind::kNotFound, {"model.safetensors", "no tensor \"x\""}, ask);
  }
}

TEST(TensorFiles, AMissingShardIsNamed) {
  const Weights weights(3);
  const TemporaryFolder folder;
  write_safetensors_sharded(folder.path(), weights.named, {}, 20);
  fs::remove(folder / "model-00002-of-00003.safetensors");
  expect_error(ErrorKind::kNotFound, {"index.json", "model-00002-of-00003.safetensors", "missing", "layer.1.weight"},
               [&] { TensorFiles::open(folder.path()); });
}

TEST(TensorFiles, ATensorThatItsShardDoesNotHoldIsNamed) {
  const Weights weights(2);
  const TemporaryFolder folder;
  write_safetensors_sharded(folder.path(), weights.named, {}, 20);
  write_file_atomically(folder / "model.safetensors.index.json",
                        R"({"weight_map": {"layer.0.weight": "model-00002-of-00002.safetensors"}})");
  expect_error(ErrorKind::kBadInput,
               {"index.json", "tensor \"layer.0.weight\" is not in", "model-00002-of-00002.safetensors"},
               [&] { TensorFiles::open(folder.path()); });
}

TEST(TensorFiles, ATensorInTwoShardsIsNamed) {
  const Weights weights(2);
  const TemporaryFolder folder;
  write_safetensors_sharded(folder.path(), weights.named, {}, 20);
  write_safetensors(folder / "model-00002-of-00002.safetensors", weights.named);
  expect_error(ErrorKind::kBadInput,
               {"tensor \"layer.0.weight\" is in two shards", "model-00001-of-00002", "model-00002-of-00002"},
               [&] { TensorFiles::open(folder.path()); });
}

TEST(TensorFiles, ATensorThatTheIndexDoesNotListIsNoPartOfTheCheckpoint) {
  const Weights weights(3);
  const TemporaryFolder folder;
  write_safetensors(folder / "a.safetensors", weights.named);
  write_file_atomically(folder / "model.safetensors.index.json",
                        R"({"weight_map": {"layer.1.weight": "a.safetensors"}})");
  EXPECT_THAT(TensorFiles::open(folder.path()).names(), ElementsAre("layer.1.weight"));
}

TEST(TensorFiles, ADamagedShardIsNamed) {
  const Weights weights(2);
  const TemporaryFolder folder;
  write_safetensors_sharded(folder.path(), weights.named, {}, 20);
  const fs::path shard = folder / "model-00002-of-00002.safetensors";
  fs::resize_file(shard, fs::file_size(shard) - 1);
  expect_error(ErrorKind::kBadInput, {shard.string(), "truncated", "layer.1.weight"},
               [&] { TensorFiles::open(folder.path()); });
}

TEST(SafetensorsIndexText, RefusesWhatIsNoIndex) {
  const auto refuse = [](std::string_view text, const std::vector<std::string>& parts) {
    expect_error(
        ErrorKind::kBadInput, parts, [&] { parse_safetensors_index(text, "i.json"); },
        testing::Message() << "\n  text " << text);
  };
  refuse("", {"i.json", "not valid JSON"});
  refuse("[]", {"i.json", "found an array", "expected an object"});
  refuse("{}", {"i.json", "\"weight_map\" is missing"});
  refuse(R"({"weight_map": []})", {"weight_map: found an array"});
  refuse(R"({"weight_map": {"x": 1}})", {"tensor \"x\"", "found 1", "expected a file name"});
  refuse(R"({"weight_map": {"x": "a.safetensors", "x": "b.safetensors"}})", {"i.json: key \"x\" appears twice"});
  refuse(R"({"weight_map": {}, "weight_map": {}})", {"key \"weight_map\" appears twice"});
  refuse(R"({"weight_map": )" + std::string(100000, '['), {"i.json", "nested deeper than"});
  for (const char* name : {"../a.safetensors", "/etc/a.safetensors", "a/../../b.safetensors", "a\\\\b.safetensors",
                           "a\\u0000.safetensors", "a.bin", ".safetensors", "..", ""}) {
    refuse(fmt::format(R"({{"weight_map": {{"x": "{}"}}}})", name), {"tensor \"x\"", "found file", "same folder"});
  }
}

TEST(SafetensorsIndexText, Mutants) {
  const std::string good = R"({"metadata": {"total_size": 40}, "weight_map": {"a": "m-1.safetensors",
                               "b": "m-2.safetensors", "c": "m-1.safetensors"}})";
  expect_sound_under_mutation(
      5000, "i.json", [&](std::uint32_t number) { return mutant(good, number, kJsonTokens); },
      [](const std::string& text) {
        for (const auto& [name, file] : parse_safetensors_index(text, "i.json")) {
          ASSERT_EQ(fs::path(file).filename(), file);
          ASSERT_TRUE(file.ends_with(".safetensors"));
        }
      });
}

}  // namespace
}  // namespace switchyard::formats
