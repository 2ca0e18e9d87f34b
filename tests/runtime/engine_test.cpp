#include "switchyard/runtime/engine.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "model/small_models.hpp"
#include "support/error_of.hpp"
#include "support/temporary_folder.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/model/checkpoint.hpp"
#include "switchyard/model/model_folder.hpp"
#include "switchyard/moe/statistics.hpp"

namespace switchyard::runtime {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Ids = std::vector<std::int32_t>;

model::Transformer make_model(const model::ModelConfig& config) {
  model::Transformer transformer(config);
  model::randomize(transformer, 11);
  return transformer;
}

model::ModelConfig mixed_config(Index max_positions = 64) {
  model::ModelConfig config = model::small_models().back().config;
  config.max_positions = max_positions;
  return config;
}

std::vector<float> last_logits(model::Transformer& transformer, std::span<const std::int32_t> ids) {
  model::ForwardCall call;
  call.sequence = static_cast<Index>(ids.size());
  const auto result = transformer.forward(ids, call);
  const Tensor logits = transformer.logits(result.hidden_TD.matrix().slice_rows(call.sequence - 1, 1));
  return {logits.f32().begin(), logits.f32().end()};
}

std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }

TEST(Session, AnyCutOfATextGivesTheLogitsOfTheWhole) {
  for (const auto& [name, config] : model::small_models()) {
    model::Transformer transformer = make_model(config);
    const Ids ids = model::random_ids(23, config.vocab, 3);
    const std::vector<double> expected = oracle::to_double(last_logits(transformer, ids));
    for (const std::size_t piece : {1U, 2U, 5U, 22U, 23U}) {
      Session session(transformer);
      for (std::size_t begin = 0; begin < ids.size(); begin += piece) {
        session.append(std::span(ids).subspan(begin, std::min(piece, ids.size() - begin)));
      }
      EXPECT_EQ(session.tokens(), ids);
      EXPECT_TRUE(oracle::close(session.logits(), expected, model::model_tolerance(config, 2)))
          << name << ", " << piece << " at a time";
    }
  }
}

TEST(Session, ALongPromptIsReadInChunks) {
  model::Transformer transformer = make_model(mixed_config(2000));
  const Ids ids = model::random_ids(1100, transformer.config().vocab, 4);
  Session session(transformer);
  session.append(ids);
  EXPECT_TRUE(oracle::close(session.logits(), oracle::to_double(last_logits(transformer, ids)),
                            model::model_tolerance(transformer.config(), 2)));
}

// A text that grows beyond what its keys were rotated for is rotated anew, also where the border lies within a prompt.
TEST(Session, CrossesTheBorderOfLongRope) {
  model::ModelConfig config = mixed_config();
  for (model::LayerConfig& layer : config.layers) model::rotate_long_texts_otherwise(layer);
  model::Transformer transformer = make_model(config);
  const Ids ids = model::random_ids(20, config.vocab, 8);
  const double tolerance = model::model_tolerance(config, 2);
  for (const std::size_t piece : {1U, 4U, 20U}) {
    Session session(transformer, 0, 3);
    for (std::size_t begin = 0; begin < ids.size(); begin += piece) {
      const std::size_t end = std::min(begin + piece, ids.size());
      session.append(std::span(ids).subspan(begin, end - begin));
      const std::vector<float> expected = last_logits(transformer, std::span(ids).first(end));
      EXPECT_TRUE(oracle::close(session.logits(), oracle::to_double(expected), tolerance)) << piece << ", " << end;
    }
  }
  // The two tables do differ: the border is not crossed in vain.
  model::ForwardCall call;
  call.sequence = 9;
  const auto short_text = transformer.forward(std::span(ids).first(9), call);
  call.text_length = 10;
  const auto long_text = transformer.forward(std::span(ids).first(9), call);
  EXPECT_FALSE(oracle::close(short_text.hidden_TD.tensor().f32(), oracle::to_double(long_text.hidden_TD.tensor().f32()),
                             10.0 * tolerance));
}

TEST(Session, SameBitsAtAnyNumberOfThreads) {
  model::Transformer transformer = make_model(mixed_config());
  const Ids ids = model::random_ids(30, transformer.config().vocab, 5);
  std::vector<float> first;
  for (const int threads : {1, 2, 4}) {
    ThreadArena(threads).run([&] {
      Session session(transformer);
      session.append(std::span(ids).first(20));
      for (std::size_t i = 20; i < 30; ++i) session.append(std::span(ids).subspan(i, 1));
      if (threads == 1) first = copy(session.logits());
      EXPECT_TRUE(oracle::same_bits(session.logits(), first)) << threads << " threads";
    });
  }
}

// When the cache is full the session knows the newer half of its capacity and goes on from there.
TEST(Session, GoesOnBeyondItsCapacity) {
  model::Transformer transformer = make_model(mixed_config());
  const Ids ids = model::random_ids(40, transformer.config().vocab, 6);
  for (const Index capacity : {1, 2, 3, 8}) {
    Session session(transformer, capacity);
    std::size_t known = 0;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      session.append(std::span(ids).subspan(i, 1));
      known = static_cast<Index>(known) < capacity ? known + 1
                                                   : std::max<std::size_t>(1, static_cast<std::size_t>(capacity) / 2);
      const auto context = std::span(ids).subspan(i + 1 - known, known);
      EXPECT_TRUE(oracle::close(session.logits(), oracle::to_double(last_logits(transformer, context)),
                                model::model_tolerance(transformer.config(), 2)))
          << "capacity " << capacity << ", token " << i;
    }
    EXPECT_EQ(session.tokens(), ids);
  }
}

TEST(Session, OfAPromptBeyondItsCapacityTheEndCounts) {
  model::Transformer transformer = make_model(mixed_config(10));
  const Ids ids = model::random_ids(33, transformer.config().vocab, 7);
  Session session(transformer);
  session.append(ids);
  EXPECT_TRUE(oracle::close(session.logits(), oracle::to_double(last_logits(transformer, std::span(ids).last(5))),
                            model::model_tolerance(transformer.config(), 2)));
}

TEST(Session, IdsOutOfRangeAreRefusedAndChangeNothing) {
  model::Transformer transformer = make_model(mixed_config());
  const auto vocab = static_cast<std::int32_t>(transformer.config().vocab);
  Session session(transformer), other(transformer);
  session.append(Ids{1, 2});
  other.append(Ids{1, 2});
  EXPECT_THAT(error_of(ErrorKind::kBadInput,
                       [&] {
                         session.append(Ids{3, vocab});
                       }),
              AllOf(HasSubstr("token 1 has id " + std::to_string(vocab)), HasSubstr("expected 0 to")));
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { session.append(Ids{-1}); }), HasSubstr("token 0 has id -1"));
  EXPECT_THAT(session.tokens(), ElementsAre(1, 2));
  session.append(Ids{3});
  other.append(Ids{3});
  EXPECT_TRUE(oracle::same_bits(session.logits(), other.logits()));
}

TEST(Session, WithoutTokensThereIsNothingToTell) {
  model::Transformer transformer = make_model(mixed_config());
  Session session(transformer);
  error_of(ErrorKind::kInternal, [&] { session.logits(); });
  error_of(ErrorKind::kInternal, [&] { session.append({}); });
}

TEST(Session, TellsItsObserver) {
  model::Transformer transformer = make_model(mixed_config());
  moe::StatisticsRecorder recorder;
  Session session(transformer);
  session.set_observer(&recorder);
  session.append(Ids{1, 2, 3});
  session.append(Ids{4});
  EXPECT_EQ(recorder.layers().at(1).tokens, 4);
  EXPECT_EQ(recorder.layers().at(2).calls, 2);
}

class Generate : public ::testing::Test {
 protected:
  Generate() : transformer_(make_model(mixed_config())) { config_.temperature = 0.0F; }

  Generation run(const Ids& prompt, const GenerateOptions& options) {
    Session session(transformer_);
    Sampler sampler(config_);
    return generate(session, prompt, sampler, options);
  }
  static GenerateOptions most(Index tokens) {
    GenerateOptions options;
    options.max_tokens = tokens;
    return options;
  }
  // The likeliest continuation, a whole forward pass a token.
  Ids expected(Ids ids, int tokens) {
    Ids result;
    for (int i = 0; i < tokens; ++i) {
      const auto logits = last_logits(transformer_, ids);
      const auto id = static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
      result.push_back(id);
      ids.push_back(id);
    }
    return result;
  }

  model::Transformer transformer_;
  SamplingConfig config_;
};

TEST_F(Generate, ContinuesThePrompt) {
  const Generation result = run({5, 6, 7}, most(12));
  EXPECT_EQ(result.ids, expected({5, 6, 7}, 12));
  EXPECT_EQ(result.prompt_tokens, 3);
  EXPECT_FALSE(result.ended);
  EXPECT_GT(result.prefill_seconds, 0.0);
  EXPECT_GT(result.decode_seconds, 0.0);
}

TEST_F(Generate, NoTokensAndOneToken) {
  const Generation none = run({5, 6}, most(0));
  EXPECT_THAT(none.ids, IsEmpty());
  EXPECT_EQ(none.prompt_tokens, 2);
  EXPECT_EQ(run({5, 6}, most(1)).ids, expected({5, 6}, 1));
}

TEST_F(Generate, StartsFromTheBeginTokenOnlyWithoutAPrompt) {
  GenerateOptions options = most(4);
  options.begin = 9;
  EXPECT_EQ(run({}, options).ids, expected({9}, 4));
  EXPECT_EQ(run({}, options).prompt_tokens, 1);
  EXPECT_EQ(run({5, 6}, options).ids, expected({5, 6}, 4));
  EXPECT_THAT(error_of(ErrorKind::kUsage, [&] { run({}, most(4)); }), HasSubstr("the prompt is empty"));
}

TEST_F(Generate, EndsAtTheEndToken) {
  const Ids whole = expected({5, 6, 7}, 12);
  GenerateOptions options = most(12);
  options.ends = {whole[5]};
  const auto first = std::find(whole.begin(), whole.end(), whole[5]);
  const Generation result = run({5, 6, 7}, options);
  EXPECT_EQ(result.ids, Ids(whole.begin(), first));
  EXPECT_TRUE(result.ended);
}

TEST_F(Generate, DrawsOnlyIdsThatHaveAToken) {
  const Ids free = expected({5, 6, 7}, 12);
  GenerateOptions options = most(12);
  options.vocab = *std::max_element(free.begin(), free.end());  // the highest that is drawn otherwise is left out
  const Generation result = run({5, 6, 7}, options);
  EXPECT_EQ(result.ids.size(), 12U);
  for (const std::int32_t id : result.ids) EXPECT_LT(id, options.vocab);
  EXPECT_NE(result.ids, free);
}

TEST_F(Generate, AnyOfSeveralEndTokensEndsIt) {
  const Ids whole = expected({5, 6, 7}, 12);
  GenerateOptions options = most(12);
  options.ends = {whole[9], whole[4]};
  const auto first = std::find_first_of(whole.begin(), whole.end(), options.ends.begin(), options.ends.end());
  EXPECT_EQ(run({5, 6, 7}, options).ids, Ids(whole.begin(), first));
}

TEST_F(Generate, TheListenerMayStopIt) {
  const Ids whole = expected({5, 6, 7}, 3);
  GenerateOptions options = most(12);
  Ids heard;
  options.on_token = [&](std::int32_t id) {
    heard.push_back(id);
    return heard.size() < 3;
  };
  const Generation result = run({5, 6, 7}, options);
  EXPECT_EQ(result.ids, whole);
  EXPECT_EQ(heard, whole);
  EXPECT_FALSE(result.ended);
}

TEST_F(Generate, GoesOnWithASession) {
  const Ids whole = expected({5, 6, 7}, 6);
  Session session(transformer_);
  Sampler sampler(config_);
  const Generation first = generate(session, Ids{5, 6, 7}, sampler, most(3));
  EXPECT_THAT(session.tokens(), ElementsAre(5, 6, 7, whole[0], whole[1]));  // the last one was not needed yet
  const Generation second = generate(session, Ids{first.ids.back()}, sampler, most(2));
  const Generation third = generate(session, Ids{second.ids.back()}, sampler, most(1));
  Ids all = first.ids;
  all.insert(all.end(), second.ids.begin(), second.ids.end());
  all.insert(all.end(), third.ids.begin(), third.ids.end());
  EXPECT_EQ(all, whole);
  // Without a prompt the session's last token is followed once more.
  EXPECT_EQ(generate(session, {}, sampler, most(1)).ids, third.ids);
}

TEST_F(Generate, SameSeedSameBitsAtAnyNumberOfThreads) {
  config_ = {};
  config_.seed = 3;
  Ids first;
  for (const int threads : {1, 2, 4}) {
    ThreadArena(threads).run([&] {
      const Ids ids = run({1, 2}, most(100)).ids;  // beyond the 64 positions of the model
      EXPECT_EQ(ids.size(), 100U);
      if (threads == 1) first = ids;
      EXPECT_EQ(ids, first) << threads << " threads";
    });
  }
  config_.seed = 4;
  EXPECT_NE(run({1, 2}, most(100)).ids, first);
}

// Expert choice gives a token other experts when later ones are known.
TEST(GenerateNonCausal, IsRefusedUnlessAskedFor) {
  model::ModelConfig config = mixed_config();
  model::let_experts_choose(config);
  model::Transformer transformer = make_model(config);
  Session session(transformer);
  Sampler sampler({});
  GenerateOptions options;
  options.max_tokens = 4;
  EXPECT_THAT(error_of(ErrorKind::kUnsupported,
                       [&] {
                         generate(session, Ids{1, 2}, sampler, options);
                       }),
              AllOf(HasSubstr("layer 1: router.select \"expert-choice\" is not causal"), HasSubstr("\"top-k\""),
                    HasSubstr("--allow-non-causal")));
  EXPECT_THAT(session.tokens(), IsEmpty());
  options.allow_non_causal = true;
  EXPECT_EQ(generate(session, Ids{1, 2}, sampler, options).ids.size(), 4U);
}

class EngineFolder : public ::testing::Test {
 protected:
  void save(const fs::path& to, Index vocab, const text::Tokenizer* tokenizer) {
    model::ModelConfig config = mixed_config();
    config.vocab = vocab;
    fs::create_directories(to);
    model::save_model(to, make_model(config), tokenizer);
  }
  TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
};

TEST_F(EngineFolder, LoadsAModelWithItsTokenizer) {
  const auto tokenizer = text::make_byte_tokenizer();
  save(folder_ / "model", 256, tokenizer.get());
  const auto engine = Engine::load(folder_ / "model");
  EXPECT_TRUE(engine->has_tokenizer());
  EXPECT_EQ(engine->tokenizer().kind(), "byte");
  EXPECT_EQ(engine->config().vocab, 256);
  EXPECT_EQ(engine->folder(), folder_ / "model");
  EXPECT_FALSE(engine->family().empty());
  model::ModelConfig config = mixed_config();
  config.vocab = 256;
  model::Transformer original = make_model(config);
  EXPECT_TRUE(
      oracle::same_bits(last_logits(engine->transformer(), Ids{1, 200, 3}), last_logits(original, Ids{1, 200, 3})));
  const auto copied = Engine::load(folder_ / "model", false);
  EXPECT_TRUE(
      oracle::same_bits(last_logits(copied->transformer(), Ids{1, 200, 3}), last_logits(original, Ids{1, 200, 3})));
}

TEST_F(EngineFolder, ARunStandsForItsLastCheckpoint) {
  const auto tokenizer = text::make_byte_tokenizer();
  for (const char* step : {"step-00000009", "step-00000010", "step-100000000", "step-00000011"}) {
    save(folder_ / "run/checkpoints" / step, 256, tokenizer.get());
  }
  const auto mark = [&](const char* step) {
    std::ofstream(folder_ / "run/checkpoints" / step / model::kTrainingStateFile) << "{}";
  };
  EXPECT_THAT(error_of(ErrorKind::kNotFound, [&] { Engine::load(folder_ / "run"); }), HasSubstr("checkpoint"));
  mark("step-00000009");
  mark("step-00000010");  // step 11 was never finished
  EXPECT_EQ(Engine::load(folder_ / "run")->folder().filename(), "step-00000010");
  mark("step-100000000");
  EXPECT_EQ(Engine::load(folder_ / "run")->folder().filename(), "step-100000000");
}

TEST_F(EngineFolder, WhatIsMissingIsNamed) {
  EXPECT_THAT(error_of(ErrorKind::kNotFound, [&] { Engine::load(folder_ / "none"); }), HasSubstr("none"));
  EXPECT_THAT(error_of(ErrorKind::kNotFound, [&] { Engine::load(folder_); }), HasSubstr("config.json"));
  save(folder_ / "bare", 20, nullptr);
  const auto engine = Engine::load(folder_ / "bare");
  EXPECT_FALSE(engine->has_tokenizer());
  EXPECT_THAT(error_of(ErrorKind::kNotFound, [&] { engine->tokenizer(); }), HasSubstr("no tokenizer"));
}

TEST_F(EngineFolder, ATokenizerWithMoreIdsThanTheModelIsRefused) {
  save(folder_ / "model", 20, nullptr);
  text::make_byte_tokenizer()->save(folder_ / "model");
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { Engine::load(folder_ / "model"); }),
              AllOf(HasSubstr("256"), HasSubstr("20")));
}

}  // namespace
}  // namespace switchyard::runtime
