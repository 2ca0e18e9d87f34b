// Tokens guessed ahead: the text is the one without them.

#include <gmock/gmock.h>

#include <algorithm>

#include "model/model_folders.hpp"
#include "model/small_models.hpp"
#include "support/error_of.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/moe/select.hpp"
#include "switchyard/runtime/engine.hpp"

namespace switchyard::runtime {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Ids = std::vector<std::int32_t>;

bool is_causal(const model::ModelConfig& config) {
  return std::all_of(config.layers.begin(), config.layers.end(), [](const model::LayerConfig& layer) {
    return !layer.moe || moe::find_selection_rule(layer.moe->router.select).causal;
  });
}

// Every kind of model, with a layer of random weights behind it.
std::vector<model::NamedModel> models_with_prediction() {
  std::vector<model::NamedModel> models;
  for (auto& [name, config] : model::small_models()) {
    if (!is_causal(config)) continue;
    model::PredictionConfig prediction{config.layers.back()};
    if (prediction.layer.moe) prediction.layer.moe->router.residual = false;
    prediction.embedding = models.size() % 2 == 0;
    prediction.output = models.size() % 3 == 0;
    config.prediction = std::move(prediction);
    models.push_back({name, config});
  }
  return models;
}

model::Transformer make_model(const model::ModelConfig& config, std::uint32_t seed = 11) {
  model::Transformer transformer(config);
  model::randomize(transformer, seed);
  return transformer;
}

struct Told {
  Generation first, second;
  Ids tokens;  // that the session has at the end
  std::vector<float> logits;
};

// Two continuations by one session, so that what is left behind by the first is seen as well.
Told tell(model::Transformer& transformer, const Ids& prompt, const SamplingConfig& sampling, GenerateOptions options,
          Index draft, Index capacity = 0, Index chunk = 0) {
  Session session(transformer, capacity, chunk);
  Sampler sampler(sampling);
  options.draft = draft;
  Told told;
  told.first = generate(session, prompt, sampler, options);
  const Ids more = {told.first.ids.empty() ? 1 : told.first.ids.back(), 2};
  told.second = generate(session, more, sampler, options);
  told.tokens = session.tokens();
  if (!told.tokens.empty()) told.logits.assign(session.logits().begin(), session.logits().end());
  return told;
}

void expect_same(const Told& found, const Told& expected) {
  EXPECT_EQ(found.first.ids, expected.first.ids);
  EXPECT_EQ(found.second.ids, expected.second.ids);
  EXPECT_EQ(found.first.ended, expected.first.ended);
  EXPECT_EQ(found.second.ended, expected.second.ended);
  EXPECT_EQ(found.tokens, expected.tokens);
  EXPECT_TRUE(oracle::same_bits(found.logits, expected.logits));
}

GenerateOptions most(Index tokens) {
  GenerateOptions options;
  options.max_tokens = tokens;
  return options;
}

SamplingConfig at_temperature(float temperature) {
  SamplingConfig sampling;
  sampling.temperature = temperature;
  sampling.seed = 5;
  return sampling;
}

// Beyond the 64 positions of the models, so that the older half is forgotten on the way.
TEST(Drafting, SameTextAsWithoutAtAnyTemperatureAndNumberOfGuesses) {
  Index guessed = 0, accepted = 0;
  for (const auto& [name, config] : models_with_prediction()) {
    model::Transformer transformer = make_model(config);
    for (const float temperature : {0.0F, 1.2F}) {
      for (const Index prompt : {1, 7}) {
        const Ids ids = model::random_ids(prompt, config.vocab, static_cast<std::uint32_t>(prompt));
        const SamplingConfig sampling = at_temperature(temperature);
        const Told expected = tell(transformer, ids, sampling, most(70), 0);
        EXPECT_EQ(expected.first.drafts.guessed, 0);
        EXPECT_EQ(expected.first.drafts.passes, 69);
        for (const Index draft : {1, 4}) {
          SCOPED_TRACE(fmt::format("{}, temperature {}, prompt {}, {} guesses", name, temperature, prompt, draft));
          const Told found = tell(transformer, ids, sampling, most(70), draft);
          expect_same(found, expected);
          for (const Generation* one : {&found.first, &found.second}) {
            EXPECT_EQ(one->drafts.passes + one->drafts.accepted + 1, 70);
            EXPECT_LE(one->drafts.accepted, one->drafts.guessed);
            EXPECT_LE(one->drafts.guessed, draft * one->drafts.passes);
            guessed += one->drafts.guessed;
            accepted += one->drafts.accepted;
          }
        }
      }
    }
  }
  // Both ways are gone: some random guesses are right.
  EXPECT_GT(accepted, 100);
  EXPECT_LT(accepted, guessed / 2);
}

TEST(Drafting, RepeatPenaltyVocabularyChunksAndThreads) {
  const model::NamedModel last = models_with_prediction().back();
  model::Transformer transformer = make_model(last.config);
  SamplingConfig sampling = at_temperature(0.7F);
  sampling.repeat_penalty = 1.5F;
  sampling.repeat_last = 5;
  GenerateOptions options = most(40);
  options.vocab = last.config.vocab - 2;
  const Ids prompt = model::random_ids(11, options.vocab, 2);
  const Told expected = tell(transformer, prompt, sampling, options, 0, 0, 3);
  for (const int threads : {1, 3})
    ThreadArena(threads).run([&] { expect_same(tell(transformer, prompt, sampling, options, 3, 0, 3), expected); });
}

TEST(Drafting, SmallContexts) {
  const model::NamedModel last = models_with_prediction().back();
  model::Transformer transformer = make_model(last.config);
  for (const Index capacity : {1, 2, 3, 8}) {
    SCOPED_TRACE(capacity);
    const Ids prompt = model::random_ids(5, last.config.vocab, 4);
    expect_same(tell(transformer, prompt, at_temperature(1.0F), most(30), 4, capacity),
                tell(transformer, prompt, at_temperature(1.0F), most(30), 0, capacity));
  }
}

// Where the text grows beyond what its keys were rotated for, all is computed anew, at the same token.
TEST(Drafting, AcrossTheBorderOfLongRope) {
  model::NamedModel last = models_with_prediction().back();
  model::rotate_long_texts_otherwise(last.config.prediction->layer);
  for (model::LayerConfig& layer : last.config.layers) model::rotate_long_texts_otherwise(layer);
  model::Transformer transformer = make_model(last.config);
  for (const Index prompt : {2, 8, 9, 12}) {
    SCOPED_TRACE(prompt);
    const Ids ids = model::random_ids(prompt, last.config.vocab, 3);
    expect_same(tell(transformer, ids, at_temperature(0.9F), most(12), 3),
                tell(transformer, ids, at_temperature(0.9F), most(12), 0));
  }
}

// Ends at each token in turn, also at one that was guessed.
TEST(Drafting, StopsWhereItWouldWithout) {
  const model::NamedModel first = models_with_prediction().front();
  model::Transformer transformer = make_model(first.config);
  const SamplingConfig sampling = at_temperature(1.2F);
  const Ids prompt = {1, 2, 3};
  for (std::int32_t end = 0; end < first.config.vocab; ++end) {
    GenerateOptions options = most(30);
    options.ends = {end};
    expect_same(tell(transformer, prompt, sampling, options, 2), tell(transformer, prompt, sampling, options, 0));
  }
  for (int tokens = 1; tokens < 12; ++tokens) {
    const auto stopped = [&](Index draft) {
      GenerateOptions options = most(30);
      int heard = 0;
      options.on_token = [&](std::int32_t) { return ++heard % tokens != 0; };
      return tell(transformer, prompt, sampling, options, draft);
    };
    expect_same(stopped(3), stopped(0));
  }
  for (const Index tokens : {0, 1, 2, 3, 4})
    EXPECT_EQ(tell(transformer, prompt, sampling, most(tokens), 3).first.ids,
              tell(transformer, prompt, sampling, most(tokens), 0).first.ids);
}

// A model whose next token depends on the present one alone, and a layer that knows how: layers add nothing, and the
// projection takes the embedding.
model::Transformer perfect_model() {
  model::ModelConfig config =
      model::model_of(24, 32, {model::dense_layer(2, 2, 4, 6), model::moe_layer(2, 1, 4, 3, 2, 5)});
  config.norm_eps = 1e-12F;
  config.prediction = model::PredictionConfig{config.layers.back()};
  model::Transformer transformer = make_model(config);
  for (autograd::Parameter* parameter : transformer.parameters()) {
    const std::span<float> values = parameter->value.f32();
    const auto ends = [&](const char* part) { return parameter->name.ends_with(part); };
    if (ends("attention.o") || ends("ffn.down") || ends("experts.down")) std::fill(values.begin(), values.end(), 0.0F);
    if (parameter->role == autograd::ParameterRole::kNorm) std::fill(values.begin(), values.end(), 1.0F);
    if (ends("prediction.projection"))
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = i % 64 == i / 64 ? 1.0F : 0.0F;
  }
  return transformer;
}

TEST(Drafting, GoodGuessesAreAllAccepted) {
  model::Transformer transformer = perfect_model();
  for (const float temperature : {0.0F, 0.8F, 1.5F}) {
    for (const Index draft : {1, 2, 3, 6}) {
      SCOPED_TRACE(fmt::format("{} guesses at temperature {}", draft, temperature));
      const SamplingConfig sampling = at_temperature(temperature);
      const Told found = tell(transformer, {3, 1, 4}, sampling, most(50), draft);
      expect_same(found, tell(transformer, {3, 1, 4}, sampling, most(50), 0));
      EXPECT_EQ(found.first.drafts.accepted, found.first.drafts.guessed);
      EXPECT_EQ(found.first.drafts.passes, (49 + draft) / (draft + 1));
      EXPECT_EQ(found.first.drafts.guessed, 49 - found.first.drafts.passes);
    }
  }
}

// What a session guesses depends on its text alone, not on the way there, but for the order of attention's sums.
TEST(Drafting, GuessesAreThoseOfANewSession) {
  for (const model::NamedModel& one : models_with_prediction()) {
    SCOPED_TRACE(one.name);
    const model::ModelConfig& config = one.config;
    model::Transformer transformer = make_model(config);
    const Ids text = model::random_ids(20, config.vocab, 9);
    const auto guesses_of = [&](Session& session, std::int32_t next) {
      std::vector<float> all;
      session.draft(next, 3, [&](std::span<const float> logits, std::span<const std::int32_t>) {
        all.insert(all.end(), logits.begin(), logits.end());
        return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
      });
      return all;
    };
    const auto read = [&](Session& session, std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) session.append(std::span(text).subspan(i, 1));
    };
    const auto expected = [&](std::size_t length, std::int32_t next) {
      Session fresh(transformer);
      fresh.start_drafting();
      read(fresh, 0, length);
      return guesses_of(fresh, next);
    };

    const auto expect_guesses = [&](Session& session, std::size_t length, std::int32_t next) {
      EXPECT_TRUE(oracle::close(guesses_of(session, next), oracle::to_double(expected(length, next)),
                                model::model_tolerance(config, 2)));
    };

    Session session(transformer);
    session.start_drafting();
    read(session, 0, 6);
    expect_guesses(session, 6, 1);
    expect_guesses(session, 6, 2);  // another token, without an append
    read(session, 6, 7);            // and yet another one came
    expect_guesses(session, 7, 1);
    session.append_each(std::span(text).subspan(7, 5));
    session.take_back(3);
    EXPECT_EQ(session.tokens(), Ids(text.begin(), text.begin() + 9));
    expect_guesses(session, 9, 4);
    session.catch_up();
    read(session, 9, 14);
    session.catch_up();
    EXPECT_EQ(session.rewind(8), 8);
    expect_guesses(session, 8, text.back());
    read(session, 8, 12);
    session.catch_up();
    EXPECT_EQ(session.rewind(10), 10);
    session.append(std::span(text).last(1));  // another token than before
    Session other(transformer);
    other.start_drafting();
    read(other, 0, 10);
    other.append(std::span(text).last(1));
    EXPECT_TRUE(oracle::close(guesses_of(session, 3), oracle::to_double(guesses_of(other, 3)),
                              model::model_tolerance(config, 2)));
    EXPECT_EQ(session.rewind(0), 0);
    read(session, 0, 5);
    expect_guesses(session, 5, 7);
  }
}

TEST(Drafting, TakesBackWithoutATrace) {
  for (const auto& [name, config] : models_with_prediction()) {
    SCOPED_TRACE(name);
    model::Transformer transformer = make_model(config);
    const Ids text = model::random_ids(20, config.vocab, 9);
    Session session(transformer), plain(transformer);
    session.append(std::span(text).first(6));
    plain.append(std::span(text).first(6));
    session.append_each(std::span(text).subspan(6, 5));
    for (std::size_t i = 6; i < 8; ++i) plain.append(std::span(text).subspan(i, 1));
    EXPECT_TRUE(oracle::same_bits(session.logits(3), plain.logits()));
    session.take_back(3);
    EXPECT_TRUE(oracle::same_bits(session.logits(), plain.logits()));
    session.append(std::span(text).last(4));
    plain.append(std::span(text).last(4));
    EXPECT_TRUE(oracle::same_bits(session.logits(), plain.logits()));
    EXPECT_EQ(session.tokens(), plain.tokens());
    error_of(ErrorKind::kInternal, [&] { session.take_back(1); });
  }
}

TEST(Drafting, NeedsALayerAndARouterThatDoesNotLookAhead) {
  model::ModelConfig config = model::small_models().back().config;
  model::Transformer without = make_model(config);
  Session session(without);
  error_of(ErrorKind::kInternal, [&] { session.start_drafting(); });

  model::let_experts_choose(config);
  config.prediction = model::PredictionConfig{config.layers.front()};
  model::Transformer looks_ahead = make_model(config);
  Session other(looks_ahead);
  Sampler sampler({});
  GenerateOptions options = most(4);
  options.allow_non_causal = true;
  options.draft = 1;
  EXPECT_THAT(error_of(ErrorKind::kUnsupported,
                       [&] {
                         generate(other, Ids{1, 2}, sampler, options);
                       }),
              AllOf(HasSubstr("expert-choice"), HasSubstr("--draft")));
}

// Weights as files have them: latent attention, FP8, tables of its own.
TEST(Drafting, OnPublishedLayouts) {
  for (const char* name : {"deepseek_v3/base", "glm4_moe/prediction"}) {
    SCOPED_TRACE(name);
    const auto engine = Engine::load(model::golden(name), true, true);
    const Ids ids = model::golden_ids(name);
    for (const float temperature : {0.0F, 1.0F}) {
      const Told expected = tell(engine->transformer(), ids, at_temperature(temperature), most(40), 0);
      for (const Index draft : {1, 3})
        expect_same(tell(engine->transformer(), ids, at_temperature(temperature), most(40), draft), expected);
    }
  }
}

}  // namespace
}  // namespace switchyard::runtime
