#include "oracle/compare.hpp"
#include "support.hpp"
#include "switchyard/model/checkpoint.hpp"
#include "switchyard/model/model_folder.hpp"
#include "switchyard/train/trainer.hpp"

namespace switchyard::train {
namespace {

namespace fs = std::filesystem;

class Listener final : public TrainListener {
 public:
  void on_evaluation(const EvalMetrics& m) override { evaluations.push_back(m); }
  HeldOutReading on_held_out(const TokenSplit& held_out) override {
    held_out_tokens = held_out.tokens.size();
    recorders.resize(held_out.domains.size());
    return {.observer = [this](std::size_t domain) { return &recorders.at(domain); },
            .progress = [this](std::uint64_t done) { progress.push_back(done); }};
  }

  std::vector<EvalMetrics> evaluations;
  std::vector<moe::StatisticsRecorder> recorders;  // by domain
  std::vector<std::uint64_t> progress;
  std::size_t held_out_tokens = 0;
};

class Evaluation : public ::testing::Test {
 protected:
  TrainResult train_on(const fs::path& texts) {
    recipe_ = tiny_recipe(texts);
    recipe_.train.steps = 4;
    recipe_.train.evaluate_every = 2;
    TrainOptions options;
    options.out = folder_ / "run";
    TrainResult result = train(recipe_, options, listener_);
    trained_.emplace(model::load_model(model::find_model_folder(options.out)));
    data_.emplace(TokenData::open(options.out / "tokens"));
    return result;
  }

  TemporaryFolder folder_;
  Listener listener_;
  Recipe recipe_;
  std::optional<model::LoadedModel> trained_;
  std::optional<TokenData> data_;
};

TEST_F(Evaluation, ReadsEveryHeldOutTokenOnce) {
  train_on(put(folder_ / "text.txt", simple_text(4000)));
  // 400 tokens in windows of any length leave 399 targets.
  for (const Index sequence : {7, 20, 399, 1000}) {
    const EvalMetrics one = evaluate_all(trained_->transformer, data_->validation(), sequence, 1, {});
    for (const Index batch : {1, 3, 64}) {
      const EvalMetrics m = evaluate_all(trained_->transformer, data_->validation(), sequence, batch, {});
      EXPECT_EQ(m.tokens, 399);
      EXPECT_TRUE(m.complete);
      EXPECT_NEAR(m.loss, one.loss, oracle::sum_tolerance(64) * one.loss);
    }
  }
  moe::StatisticsRecorder recorder;
  const HeldOutReading reading{.observer = [&](std::size_t) { return &recorder; }, .progress = {}};
  evaluate_all(trained_->transformer, data_->validation(), 7, 4, reading);
  EXPECT_EQ(recorder.layers().at(1).tokens, 399);  // padding does not count
}

TEST_F(Evaluation, OfAPartTakesNoMoreWindowsThanAsked) {
  train_on(put(folder_ / "text.txt", simple_text(4000)));
  const EvalMetrics some = evaluate_some(trained_->transformer, data_->validation(), 10, 2, 3);
  EXPECT_EQ(some.tokens, 30);
  EXPECT_FALSE(some.complete);
  const EvalMetrics more = evaluate_some(trained_->transformer, data_->validation(), 10, 2, 1000);
  const EvalMetrics all = evaluate_all(trained_->transformer, data_->validation(), 10, 2, {});
  EXPECT_TRUE(more.complete);
  EXPECT_EQ(more.loss, all.loss);
  EXPECT_EQ(more.bits_per_byte, all.bits_per_byte);
}

TEST_F(Evaluation, TheLastOfARunGoesDomainByDomain) {
  put(folder_ / "texts" / "a" / "a.txt", simple_text(4000));
  put(folder_ / "texts" / "b" / "b.txt", simple_text(1500));
  const TrainResult result = train_on(folder_ / "texts");
  ASSERT_EQ(listener_.evaluations.size(), 2U);
  EXPECT_TRUE(listener_.evaluations[0].domains.empty());
  const EvalMetrics& last = listener_.evaluations[1];
  ASSERT_EQ(last.domains.size(), 2U);
  ASSERT_TRUE(result.evaluation.has_value());
  EXPECT_EQ(result.evaluation->loss, last.loss);

  // Each domain apart, with the model loaded anew.
  const TokenSplit& held_out = data_->validation();
  double nats = 0.0;
  Index targets = 0;
  for (std::size_t i = 0; i < 2; ++i) {
    const Domain& domain = held_out.domains[i];
    const auto begin = static_cast<std::size_t>(domain.begin), size = static_cast<std::size_t>(domain.end) - begin;
    const TokenSplit alone{held_out.tokens.subspan(begin, size),
                           {{domain.name, 0, static_cast<Index>(size), domain.bytes}}};
    const EvalMetrics expected =
        evaluate_all(trained_->transformer, alone, recipe_.train.sequence, recipe_.train.batch, {});
    EXPECT_EQ(last.domains[i].name, domain.name);
    EXPECT_EQ(last.domains[i].bits_per_byte, expected.bits_per_byte);
    EXPECT_EQ(expected.tokens, static_cast<Index>(size) - 1);
    EXPECT_EQ(listener_.recorders[i].layers().at(1).tokens, expected.tokens);
    nats += expected.loss * static_cast<double>(expected.tokens);
    targets += expected.tokens;
  }
  EXPECT_EQ(last.tokens, targets);
  EXPECT_NEAR(last.loss, nats / static_cast<double>(targets), 1e-12 * last.loss);
  EXPECT_TRUE(std::is_sorted(listener_.progress.begin(), listener_.progress.end()));
  EXPECT_EQ(listener_.progress.back(), listener_.held_out_tokens);
}

// Said before the run, not after its last step.
TEST_F(Evaluation, DomainsTooSmallToPredictAnythingAreRefusedAtOnce) {
  for (const char* domain : {"a", "b", "c"}) put(folder_ / "texts" / domain / "t.txt", simple_text(10));
  const std::string message = error_of(ErrorKind::kBadInput, [&] { train_on(folder_ / "texts"); });
  EXPECT_THAT(message, testing::HasSubstr("3 held-out tokens, expected 2 or more of a domain"));
  EXPECT_TRUE(listener_.evaluations.empty());
}

}  // namespace
}  // namespace switchyard::train
