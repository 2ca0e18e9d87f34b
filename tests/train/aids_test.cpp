// Freezing, revival of dead experts, bias rules and balance over the global batch, in whole runs.
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "oracle/compare.hpp"
#include "support.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/model/checkpoint.hpp"
#include "switchyard/train/freeze.hpp"
#include "switchyard/train/monitor.hpp"
#include "switchyard/train/revival.hpp"
#include "switchyard/train/trainer.hpp"

namespace switchyard::train {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(Freeze, Patterns) {
  EXPECT_TRUE(matches("*.router", "layers.0.moe.router"));
  EXPECT_FALSE(matches("*.router", "layers.0.moe.router_bias"));
  EXPECT_TRUE(matches("*router*", "layers.0.moe.router_bias"));
  EXPECT_TRUE(matches("layers.0.*", "layers.0.attention.q"));
  EXPECT_FALSE(matches("layers.0.*", "layers.01.attention.q"));
  EXPECT_TRUE(matches("layers.?.ffn_norm", "layers.7.ffn_norm"));
  EXPECT_FALSE(matches("layers.?.ffn_norm", "layers.17.ffn_norm"));
  EXPECT_TRUE(matches("embedding", "embedding"));
  EXPECT_FALSE(matches("embedding", "embeddings"));
  EXPECT_FALSE(matches("embedding", "embeddin"));
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("**a**b*", "xxaxxbxx"));
  EXPECT_FALSE(matches("*a*b", "abx"));
  EXPECT_TRUE(matches("*a*ab", "aaaab"));
  EXPECT_FALSE(matches("", "x"));
  EXPECT_TRUE(matches("", ""));
}

class Listener : public TrainListener {
 public:
  void on_start(const RunInfo& start) override { info = start; }
  void on_step(const StepMetrics& m) override {
    router_losses.push_back(m.router_loss);
    if (after_step) after_step(m);
  }
  void on_warning(std::string_view text) override { warnings.emplace_back(text); }
  RunInfo info;
  std::vector<double> router_losses;
  std::vector<std::string> warnings;
  std::function<void(const StepMetrics&)> after_step;
};

class TrainingAids : public ::testing::Test {
 protected:
  TrainingAids() { text_ = put(folder_ / "text.txt", simple_text(4000)); }
  Recipe recipe() const { return tiny_recipe(text_); }
  fs::path out(const std::string& name) const { return folder_ / name; }
  TrainResult run(const Recipe& recipe, const std::string& name, Listener& listener, bool resume = false,
                  const std::atomic<bool>* stop = nullptr) const {
    TrainOptions options;
    options.out = out(name);
    options.resume = resume;
    options.stop = stop;
    return train(recipe, options, listener);
  }
  TrainResult run(const Recipe& recipe, const std::string& name) const {
    Listener listener;
    return run(recipe, name, listener);
  }
  // Stopped after steps 3 and 8, and resumed.
  void run_in_parts(const Recipe& recipe, const std::string& name, Listener& listener) const {
    std::atomic<bool> stop{false};
    listener.after_step = [&](const StepMetrics& m) { stop = m.step == 3 || m.step == 8; };
    for (int part = 0; part < 3; ++part) {
      stop = false;
      run(recipe, name, listener, part > 0, &stop);
    }
  }
  std::string bits(const std::string& name, Index step) const {
    const fs::path folder = out(name) / "checkpoints" / fmt::format("step-{:08}", step);
    return read_file(folder / "model.safetensors") + read_file(folder / "optimizer.safetensors");
  }
  std::vector<nlohmann::json> lines(const std::string& name) const {
    std::vector<nlohmann::json> result;
    std::istringstream text(read_file(out(name) / "metrics.jsonl"));
    for (std::string line; std::getline(text, line);) result.push_back(nlohmann::json::parse(line));
    return result;
  }

  TemporaryFolder folder_;
  fs::path text_;
};

TEST_F(TrainingAids, FrozenParametersKeepTheirBitsAndTheOthersLearn) {
  Recipe r = recipe();
  r.train.freeze = {"*.router", "*.selection_bias", "layers.0.*"};
  Listener listener;
  const TrainResult result = run(r, "run", listener);
  model::LoadedModel trained = model::load_model(result.checkpoint);
  model::Transformer start(trained.transformer.config());
  start.initialize(resolve_init(r), r.train.seed);
  Index frozen = 0;
  for (std::size_t i = 0; i < start.parameters().size(); ++i) {
    const autograd::Parameter *now = trained.transformer.parameters()[i], *before = start.parameters()[i];
    const bool expected =
        matches("*.router", now->name) || matches("*.selection_bias", now->name) || matches("layers.0.*", now->name);
    EXPECT_EQ(bool(oracle::same_bits(std::as_const(now->value).f32(), std::as_const(before->value).f32())), expected)
        << now->name;
    if (expected) frozen += now->value.numel();
  }
  EXPECT_EQ(listener.info.frozen_parameters, frozen);
  EXPECT_THAT(listener.info.frozen, Contains("layers.1.moe.router"));
  EXPECT_THAT(read_file(result.checkpoint / "optimizer.safetensors"), Not(HasSubstr("moe.router.first")));
}

TEST_F(TrainingAids, APatternThatFitsNothingAndOneThatFitsAllAreErrors) {
  Recipe r = recipe();
  r.train.freeze = {"*.router", "*.gates"};
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { run(r, "a"); }),
              AllOf(HasSubstr("train.freeze"), HasSubstr("\"*.gates\""), HasSubstr("layers.1.moe.router")));
  r.train.freeze = {"*"};
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { run(r, "b"); }), HasSubstr("nothing is left to train"));
}

// Layer 1 has a router whose row for expert 2 looks away from every token.
TEST_F(TrainingAids, ADeadExpertBecomesANoisyCopyOfTheBusiest) {
  Recipe r = recipe();
  r.router.logits_bias = true;
  r.train.revive_after = 3;
  r.train.revive_noise = 0.25;
  model::Transformer transformer(resolve_model(r, 30));
  transformer.initialize(resolve_init(r), 1);
  AdamW optimizer(r.optimizer, transformer.parameters());
  for (AdamW::Moments& m : optimizer.moments()) {
    std::ranges::fill(m.first.f32(), 1.0F);
    std::ranges::fill(m.second.f32(), 2.0F);
  }
  transformer.find("layers.1.moe.selection_bias")->value.f32()[3] = 0.5F;
  const auto copy_of = [&](const char* name) {
    const auto values = std::as_const(transformer.find(name)->value).f32();
    return std::vector<float>(values.begin(), values.end());
  };
  const std::vector<float> up = copy_of("layers.1.moe.experts.up"), router = copy_of("layers.1.moe.router");
  std::map<Index, moe::RoutingStatistics> layers;
  layers[1].load_E = {5, 4, 0, 9};
  layers[2].load_E = {5, 4, 1, 9};
  Revival revival(r.train);
  EXPECT_THAT(revival.observe(0, layers, transformer, optimizer), IsEmpty());
  EXPECT_THAT(revival.observe(1, layers, transformer, optimizer), IsEmpty());
  EXPECT_EQ(copy_of("layers.1.moe.experts.up"), up);
  EXPECT_THAT(revival.observe(2, layers, transformer, optimizer),
              ElementsAre(AllOf(HasSubstr("layer 1"), HasSubstr("expert 2"), HasSubstr("copy of expert 3"))));
  EXPECT_THAT(revival.dead_steps().at(1), ElementsAre(0, 0, 0, 0));

  const std::vector<float> new_up = copy_of("layers.1.moe.experts.up"), new_router = copy_of("layers.1.moe.router");
  const std::size_t size = up.size() / 4, width = router.size() / 4;
  double noise = 0.0;
  for (std::size_t i = 0; i < up.size(); ++i) {
    if (i / size != 2) {
      EXPECT_EQ(new_up[i], up[i]);
    } else if (up[size + i] != 0.0F) {
      const double relative = static_cast<double>(new_up[i]) / static_cast<double>(up[size + i]) - 1.0;
      noise += relative * relative / static_cast<double>(size);
    }
  }
  EXPECT_NEAR(std::sqrt(noise), 0.25, 0.06);  // 192 draws
  for (std::size_t i = 0; i < router.size(); ++i) {
    if (i / width != 2) {
      EXPECT_EQ(new_router[i], router[i]);
    } else {
      EXPECT_NE(new_router[i], router[i]);
      EXPECT_NEAR(new_router[i], router[width + i], 2.0F * std::abs(router[width + i]));
    }
  }
  EXPECT_EQ(copy_of("layers.1.moe.selection_bias")[2], 0.5F);
  for (AdamW::Moments& m : optimizer.moments()) {
    const std::string& name = m.parameter->name;
    const bool moved = name.starts_with("layers.1.moe.experts.") || name == "layers.1.moe.router" ||
                       name == "layers.1.moe.router_bias";
    const auto first = m.first.f32(), second = m.second.f32();
    for (std::size_t i = 0; i < first.size(); ++i) {
      const bool zero = moved && i / (first.size() / 4) == 2;
      ASSERT_EQ(first[i], zero ? 0.0F : 1.0F) << name;
      ASSERT_EQ(second[i], zero ? 0.0F : 2.0F) << name;
    }
  }
}

TEST_F(TrainingAids, WithoutAnyLiveExpertNobodyComesBack) {
  Recipe r = recipe();
  r.train.revive_after = 1;
  model::Transformer transformer(resolve_model(r, 30));
  AdamW optimizer(r.optimizer, transformer.parameters());
  std::map<Index, moe::RoutingStatistics> layers;
  layers[1].load_E = {0, 0, 0, 0};
  EXPECT_THAT(Revival(r.train).observe(0, layers, transformer, optimizer), IsEmpty());
}

// Twenty-four experts for sixty tokens a step and a strong router: some are idle for two steps now and then.
Recipe reviving(Recipe r) {
  r.experts.count = 24;
  r.router.top_k = 1;
  r.router.score = "softmax";
  r.router.normalise = "none";
  r.router.selection_bias = false;
  r.balance.bias_update_rate = 0.0F;
  r.balance.load_balance = 0.0F;
  r.init.router_std = 1.0;
  r.train.revive_after = 2;
  return r;
}

TEST_F(TrainingAids, RevivalSurvivesStopAndResumeToTheBit) {
  const Recipe r = reviving(recipe());
  Listener whole, parts;
  run(r, "whole", whole);
  EXPECT_THAT(whole.warnings, Contains(HasSubstr("starts again as a copy of expert")));
  run_in_parts(r, "parts", parts);
  EXPECT_EQ(bits("parts", 12), bits("whole", 12));
  EXPECT_EQ(parts.warnings, whole.warnings);
  Recipe without = r;
  without.train.revive_after = 0;
  run(without, "without");
  EXPECT_NE(bits("without", 12), bits("whole", 12));
}

TEST_F(TrainingAids, TheMonitorWarnsAtTheSameStepAfterStopAndResume) {
  Recipe r = reviving(recipe());
  r.train.revive_after = 0;
  r.monitor.patience = 9;
  r.monitor.max_violation = 0.01;
  Listener whole, parts;
  run(r, "whole", whole);
  ASSERT_THAT(whole.warnings, Contains(HasSubstr("above 0.01 for 9 steps")));
  run_in_parts(r, "parts", parts);
  EXPECT_EQ(parts.warnings, whole.warnings);
}

TEST_F(TrainingAids, ADamagedCounterIsRefused) {
  const Recipe r = reviving(recipe());
  run(r, "run");
  const fs::path state = out("run") / "checkpoints/step-00000012/training.json";
  ASSERT_TRUE(fs::exists(state));
  std::string text = read_file(state);
  const std::string revival = "\"dead_steps\":{\"1\":[", monitor = "\"dead_steps\":[", loads = "\"loads\":[";
  const std::vector<int> minus(24, -1);
  for (const std::string& array : {revival, monitor, loads}) {
    for (const std::string& bad :
         {std::string("1,2,3"), std::string("\"x\""), fmt::format("{}", fmt::join(minus, ","))}) {
      const std::size_t begin = text.find(array) + array.size(), end = text.find(']', begin);
      ASSERT_GT(begin, array.size()) << array;
      put(state, text.substr(0, begin) + bad + text.substr(end));
      Listener listener;
      EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { run(r, "run", listener, true); }),
                  HasSubstr(array == loads ? "loads" : "dead_steps"));
    }
  }
}

TEST_F(TrainingAids, QuantileBalancingRunsAndResumesToTheBit) {
  Recipe r = recipe();
  r.balance.bias_update = "quantile";
  r.balance.bias_update_rate = 0.5F;
  r.balance.bias_centre = true;
  r.train.accumulate = 2;
  run(r, "whole");
  std::atomic<bool> stop{false};
  Listener listener;
  listener.after_step = [&](const StepMetrics& m) { stop = m.step == 5; };
  run(r, "parts", listener, false, &stop);
  stop = false;
  run(r, "parts", listener, true, &stop);
  EXPECT_EQ(bits("parts", 12), bits("whole", 12));
  model::LoadedModel trained = model::load_model(out("whole") / "checkpoints/step-00000012");
  double sum = 0.0, size = 0.0;
  for (const float bias : std::as_const(trained.transformer.find("layers.1.moe.selection_bias")->value).f32()) {
    sum += static_cast<double>(bias);
    size += std::abs(static_cast<double>(bias));
  }
  EXPECT_NEAR(sum, 0.0, 1e-6);
  EXPECT_GT(size, 1e-3);
}

TEST_F(TrainingAids, AFrozenBiasStaysAfterItsSteps) {
  Recipe r = recipe();
  r.balance.bias_freeze_after = 4;
  run(r, "run");
  const auto bias_at = [&](Index step) {
    model::LoadedModel m = model::load_model(out("run") / "checkpoints" / fmt::format("step-{:08}", step));
    const auto values = std::as_const(m.transformer.find("layers.1.moe.selection_bias")->value).f32();
    return std::vector<float>(values.begin(), values.end());
  };
  EXPECT_EQ(bias_at(4), bias_at(12));
  EXPECT_NE(bias_at(4), std::vector<float>(4, 0.0F));
}

// With one micro-batch a step the global batch is the micro-batch; with more it is not, also when layers are
// recomputed.
TEST_F(TrainingAids, BalanceOverTheGlobalBatch) {
  Recipe r = recipe();
  r.balance.load_balance = 0.1F;
  run(r, "micro");
  r.balance.load_balance_scope = "global-batch";
  run(r, "global");
  EXPECT_EQ(bits("global", 12), bits("micro", 12));
  r.train.accumulate = 3;
  Listener global, micro, recomputed;
  run(r, "global3", global);
  r.train.recompute = true;
  run(r, "recomputed3", recomputed);
  EXPECT_EQ(bits("recomputed3", 12), bits("global3", 12));
  r.train.recompute = false;
  r.balance.load_balance_scope = "micro-batch";
  run(r, "micro3", micro);
  EXPECT_NE(bits("global3", 12), bits("micro3", 12));
  // The first step starts from the same weights: only the shares of its later micro-batches differ.
  EXPECT_NE(global.router_losses[0], micro.router_losses[0]);
  EXPECT_NEAR(global.router_losses[0], micro.router_losses[0], 0.01);
}

TEST_F(TrainingAids, MetricsSayWhichLossesAreOnAndWhatWasRerouted) {
  Recipe r = recipe();
  r.balance.entropy = 0.01F;
  r.balance.device = 0.05F;
  r.balance.devices = 2;
  r.capacity.factor = 0.5F;
  r.capacity.overflow = "fallback";
  run(r, "run");
  const auto first = lines("run").at(0);
  ASSERT_EQ(first["kind"], "step");
  const auto& layer = first["layers"].at(0);
  std::vector<std::string> names;
  for (const auto& [name, value] : layer["losses"].items()) {
    names.push_back(name);
    EXPECT_GT(value.get<double>(), 0.0) << name;
  }
  EXPECT_THAT(names, ElementsAre("device", "entropy", "load_balance", "z_loss"));
  EXPECT_NEAR(layer["losses"]["entropy"].get<double>(), layer["entropy"].get<double>(), 1e-5);
  EXPECT_GT(layer["reroute_rate"].get<double>(), 0.3);
  EXPECT_EQ(layer["drop_rate"].get<double>(), 0.0);
}

TEST(OscillationMonitor, TellsSwingsFromNoiseAndCollapse) {
  Recipe r;
  r.monitor.patience = 20;
  r.router.selection_bias = true;
  r.balance.bias_update_rate = 0.1F;
  const RandomStream random(1, RandomPurpose::kTest);
  const auto warnings_of = [&](auto&& load) {
    CollapseMonitor monitor(r);
    std::vector<std::string> all;
    for (Index step = 0; step < 60; ++step) {
      if (step % 7 == 0) {  // as after a stop
        CollapseMonitor next(r);
        next.restore(monitor.states());
        monitor = std::move(next);
      }
      std::map<Index, moe::RoutingStatistics> layers;
      for (Index e = 0; e < 8; ++e) layers[3].load_E.push_back(load(step, e));
      for (std::string& text : monitor.observe(layers)) all.push_back(std::move(text));
    }
    return all;
  };
  EXPECT_THAT(warnings_of([](Index step, Index e) { return (step + e) % 2 == 0 ? Index{150} : Index{50}; }),
              ElementsAre(AllOf(HasSubstr("layer 3"), HasSubstr("swing"), HasSubstr("lower balance.bias_update_rate"),
                                HasSubstr("train.batch"))));
  // Too small to matter; random; slow; steady.
  EXPECT_THAT(warnings_of([](Index step, Index e) { return (step + e) % 2 == 0 ? Index{102} : Index{98}; }), IsEmpty());
  EXPECT_THAT(warnings_of([&](Index step, Index e) {
                return static_cast<Index>(50 + random.below(static_cast<std::uint64_t>(step * 8 + e), 100));
              }),
              IsEmpty());
  EXPECT_THAT(warnings_of([](Index step, Index e) { return (step / 10 + e) % 2 == 0 ? Index{150} : Index{50}; }),
              IsEmpty());
  EXPECT_THAT(warnings_of([](Index, Index e) { return 50 + 10 * e; }), IsEmpty());
  r.monitor.oscillation = 0.0;
  EXPECT_THAT(warnings_of([](Index step, Index e) { return (step + e) % 2 == 0 ? Index{150} : Index{50}; }), IsEmpty());
}

TEST_F(TrainingAids, RevivalNeedsARowForEachExpert) {
  Recipe r = recipe();
  r.train.revive_noise = -1.0;
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { r.validate(); }), HasSubstr("train.revive_noise"));
  r = recipe();
  r.monitor.oscillation = 2.0;
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { r.validate(); }), HasSubstr("monitor.oscillation"));
}

}  // namespace
}  // namespace switchyard::train
