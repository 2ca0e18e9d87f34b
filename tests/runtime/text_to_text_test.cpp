// Generation with an encoder-decoder against transformers: the fixtures of tools/golden/make_switch.py.

#include "switchyard/runtime/text_to_text.hpp"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "support/error_of.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/formats/npy.hpp"

namespace switchyard::runtime {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;

constexpr std::int32_t kEnd = 1;

fs::path folder_of(const std::string& name) {
  return fs::path(SWITCHYARD_TEST_DIR) / "golden" / "switch_transformers" / name;
}

Ids source_of(const fs::path& folder) {
  const Tensor tensor = formats::read_npy(folder / "source_ids.npy");
  const auto values = tensor.values<std::int64_t>();
  return {values.begin(), values.end()};
}

// The reference's list has the end token.
Ids with_end(const Generation& generation) {
  Ids ids = generation.ids;
  if (generation.ended) ids.push_back(kEnd);
  return ids;
}

SamplingConfig greedy() {
  SamplingConfig config;
  config.temperature = 0.0F;
  return config;
}

Generation answer_greedily(const TextToText& engine, const Ids& source, Index most) {
  Sampler sampler(greedy());
  GenerateOptions options;
  options.max_tokens = most;
  options.ends = {kEnd};
  return answer(engine.model(), source, sampler, options);
}

class SwitchGeneration : public testing::TestWithParam<const char*> {};

TEST_P(SwitchGeneration, TheSameIdsAsTransformers) {
  const fs::path folder = folder_of(GetParam());
  const auto engine = TextToText::load(folder);
  const Ids source = source_of(folder);
  const auto generated = nlohmann::json::parse(read_file(folder / "generated.json"));
  for (const nlohmann::json& how : generated["generations"]) {
    SCOPED_TRACE(how.dump());
    const auto expected = how["ids"].get<Ids>();
    const Index most = how["max_new_tokens"];
    if (how["num_beams"] == 1) {
      EXPECT_EQ(with_end(answer_greedily(*engine, source, most)), expected);
    }
    BeamOptions options;
    options.beams = how["num_beams"];
    options.length_penalty = how.value("length_penalty", 1.0F);
    options.early_stopping = how.value("early_stopping", false);
    options.max_tokens = most;
    options.ends = {kEnd};
    EXPECT_EQ(with_end(beam_search(engine->model(), source, options)), expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, SwitchGeneration, testing::Values("base", "untied", "untied-shared", "capacity"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(TextToTextTest, StopsWhereItIsTold) {
  const auto engine = TextToText::load(folder_of("untied-shared"));
  const Ids source = source_of(folder_of("untied-shared"));
  const Generation whole = answer_greedily(*engine, source, 20);
  ASSERT_GE(whole.ids.size(), 3U);
  EXPECT_EQ(whole.prompt_tokens, static_cast<Index>(source.size()));
  EXPECT_EQ(answer_greedily(*engine, source, 2).ids, Ids(whole.ids.begin(), whole.ids.begin() + 2));
  EXPECT_TRUE(answer_greedily(*engine, source, 0).ids.empty());

  Sampler sampler(greedy());
  GenerateOptions options;
  options.max_tokens = 20;
  options.ends = {whole.ids[1]};
  const Generation ended = answer(engine->model(), source, sampler, options);
  EXPECT_TRUE(ended.ended);
  EXPECT_EQ(ended.ids, Ids(whole.ids.begin(), whole.ids.begin() + 1));
  options.ends = {};
  options.on_token = [](std::int32_t) { return false; };
  EXPECT_EQ(answer(engine->model(), source, sampler, options).ids.size(), 1U);
}

TEST(TextToTextTest, OnlyIdsWithATokenAreDrawn) {
  const auto engine = TextToText::load(folder_of("capacity"));
  const Ids source = source_of(folder_of("capacity"));
  SamplingConfig sampling;
  sampling.temperature = 5.0F;
  sampling.seed = 3;
  Sampler sampler(sampling);
  GenerateOptions options;
  options.max_tokens = 30;
  options.vocab = 9;
  for (const std::int32_t id : answer(engine->model(), source, sampler, options).ids) EXPECT_LT(id, 9);
  BeamOptions beams;
  beams.max_tokens = 10;
  beams.vocab = 9;
  const Generation best = beam_search(engine->model(), source, beams);
  EXPECT_EQ(best.ids.size(), 10U);
  for (const std::int32_t id : best.ids) EXPECT_LT(id, 9);
}

// More beams than there are continuations, and as many tokens as one.
TEST(TextToTextTest, BeamsBeyondTheVocabulary) {
  const auto engine = TextToText::load(folder_of("base"));
  const Ids source = source_of(folder_of("base"));
  BeamOptions options;
  options.beams = 7;
  options.vocab = 2;
  options.max_tokens = 3;
  options.ends = {0, 1};
  EXPECT_TRUE(beam_search(engine->model(), source, options).ended);
  options.max_tokens = 1;
  options.ends = {};
  EXPECT_EQ(beam_search(engine->model(), source, options).ids.size(), 1U);
}

TEST(TextToTextTest, WrongUse) {
  const auto engine = TextToText::load(folder_of("base"));
  BeamOptions options;
  options.max_tokens = 3;
  error_of(ErrorKind::kUsage, [&] { beam_search(engine->model(), Ids{}, options); });
  options.beams = 0;
  error_of(ErrorKind::kUsage, [&] { beam_search(engine->model(), Ids{5}, options); });
  error_of(ErrorKind::kNotFound, [&] { TextToText::load(folder_of("nothing")); });
  error_of(ErrorKind::kUnsupported, [&] { Engine::load(folder_of("base")); });
}

}  // namespace
}  // namespace switchyard::runtime
