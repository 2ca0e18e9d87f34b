#include "switchyard/train/trainer.hpp"

#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <nlohmann/json.hpp>
#include <numbers>
#include <sstream>

#include "oracle/compare.hpp"
#include "support.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/model/checkpoint.hpp"
#include "switchyard/model/model_folder.hpp"
#include "switchyard/train/optimizer.hpp"

namespace switchyard::train {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Step {
  Index step;
  double loss, router_loss, gradient_norm, learning_rate, bits_per_byte;
  Index activation_bytes;
  friend bool operator==(const Step&, const Step&) = default;
};

// Remembers what it hears.
class Recorder : public TrainListener {
 public:
  void on_start(const RunInfo& info) override { infos.push_back(info); }
  void on_step(const StepMetrics& m) override {
    steps.push_back(
        {m.step, m.loss, m.router_loss, m.gradient_norm, m.learning_rate, m.bits_per_byte, m.activation_bytes});
    if (after_step) after_step(m);
  }
  void on_evaluation(const EvalMetrics& m) override { evaluations.push_back(m); }
  void on_checkpoint(const fs::path& folder) override { checkpoints.push_back(folder.filename().string()); }
  void on_sample(model::Transformer&, const text::Tokenizer& tokenizer, Index step) override {
    EXPECT_GT(tokenizer.vocab_size(), 0);
    samples.push_back(step);
  }
  void on_warning(std::string_view text) override { warnings.emplace_back(text); }

  std::vector<double> losses() const {
    std::vector<double> result;
    for (const Step& s : steps) result.push_back(s.loss);
    return result;
  }

  std::vector<RunInfo> infos;
  std::vector<Step> steps;
  std::vector<EvalMetrics> evaluations;
  std::vector<std::string> checkpoints, warnings;
  std::vector<Index> samples;
  std::function<void(const StepMetrics&)> after_step;
};

class Trainer : public ::testing::Test {
 protected:
  Trainer() { text_ = put(folder_ / "text.txt", simple_text(4000)); }

  Recipe recipe() const { return tiny_recipe(text_); }
  fs::path out(const std::string& name) const { return folder_ / name; }
  TrainResult run(const Recipe& recipe, const std::string& name, Recorder& recorder, bool resume = false,
                  const std::atomic<bool>* stop = nullptr) const {
    TrainOptions options;
    options.out = out(name);
    options.resume = resume;
    options.stop = stop;
    return train(recipe, options, recorder);
  }
  TrainResult run(const Recipe& recipe, const std::string& name, bool resume = false) const {
    Recorder recorder;
    return run(recipe, name, recorder, resume);
  }
  std::string refusal(ErrorKind kind, const Recipe& recipe, const std::string& name, bool resume = false) const {
    return error_of(kind, [&] { run(recipe, name, resume); });
  }
  // All that a checkpoint says about weights and optimizer.
  std::string bits(const std::string& name, Index step) const {
    const fs::path folder = out(name) / "checkpoints" / fmt::format("step-{:08}", step);
    return read_file(folder / "model.safetensors") + read_file(folder / "optimizer.safetensors");
  }
  // "step loss" of every step line, and "step loss held out" of every evaluation.
  std::vector<std::string> logged(const std::string& name) const {
    std::vector<std::string> result;
    std::istringstream lines(read_file(out(name) / "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const auto json = nlohmann::json::parse(line);
      if (json["kind"] == "warning") continue;
      result.push_back(fmt::format("{} {} {}", json["kind"].get<std::string>(), json["step"].get<Index>(),
                                   json["loss"].get<double>()));
    }
    return result;
  }
  std::vector<std::string> checkpoint_names(const std::string& name) const {
    std::vector<std::string> result;
    for (const auto& entry : fs::directory_iterator(out(name) / "checkpoints")) {
      result.push_back(entry.path().filename().string());
    }
    std::sort(result.begin(), result.end());
    return result;
  }

  TemporaryFolder folder_;
  fs::path text_;
};

TEST_F(Trainer, LearnsAndSaysHowItWent) {
  Recipe r = recipe();
  r.train.steps = 150;
  r.train.evaluate_every = 0;
  r.train.checkpoint_every = 0;
  r.model.dropout = 0.0;
  Recorder recorder;
  const TrainResult result = run(r, "run", recorder);
  EXPECT_TRUE(result.finished);
  EXPECT_EQ(result.step, 150);
  ASSERT_EQ(recorder.steps.size(), 150U);
  // An untrained model knows nothing: its loss is near that of a uniform guess over the characters.
  ASSERT_EQ(recorder.infos.size(), 1U);
  const RunInfo& info = recorder.infos[0];
  EXPECT_NEAR(recorder.steps.front().loss, std::log(static_cast<double>(info.vocab)), 0.1);
  EXPECT_EQ(info.train_tokens, 3600);
  EXPECT_EQ(info.validation_tokens, 400);
  EXPECT_EQ(info.resumed_from, 0);
  EXPECT_GT(info.parameters.total, info.parameters.active);
  ASSERT_TRUE(result.evaluation.has_value());
  EXPECT_LT(result.evaluation->loss, 0.6 * recorder.steps.front().loss);
  EXPECT_TRUE(result.evaluation->complete);
  EXPECT_EQ(result.evaluation->tokens, 399);
  EXPECT_EQ(recorder.checkpoints, std::vector<std::string>{"step-00000150"});
  // A character of this text is a byte.
  EXPECT_NEAR(result.evaluation->bits_per_byte, result.evaluation->loss / std::numbers::ln2, 1e-12);
  EXPECT_NEAR(recorder.steps[7].bits_per_byte, recorder.steps[7].loss / std::numbers::ln2, 1e-12);
  for (const Step& s : recorder.steps) {
    EXPECT_EQ(s.learning_rate, learning_rate(r.optimizer, s.step - 1, 150));
    EXPECT_GT(s.activation_bytes, 0);
  }
}

TEST_F(Trainer, SameBitsAtAnyNumberOfThreads) {
  std::vector<Step> steps;
  for (const int threads : {1, 2, 3, 4}) {
    const std::string name = std::to_string(threads);
    Recorder recorder;
    ThreadArena(threads).run([&] { run(recipe(), name, recorder); });
    if (threads == 1) steps = recorder.steps;
    for (Step& s : recorder.steps) s.activation_bytes = 0;  // scratch memory is a thread's own
    for (Step& s : steps) s.activation_bytes = 0;
    EXPECT_EQ(recorder.steps, steps) << threads << " threads";
    EXPECT_EQ(bits(name, 12), bits("1", 12)) << threads << " threads";
    EXPECT_EQ(logged(name), logged("1")) << threads << " threads";
  }
}

TEST_F(Trainer, SameBitsWithTheSameSeedAndOthersWithAnother) {
  Recipe r = recipe();
  run(r, "a");
  run(r, "b");
  r.train.seed = 2;
  run(r, "c");
  EXPECT_EQ(bits("a", 12), bits("b", 12));
  EXPECT_NE(bits("a", 12), bits("c", 12));
}

TEST_F(Trainer, SameBitsAfterStopAndResume) {
  run(recipe(), "whole");
  std::atomic<bool> stop{false};
  Recorder recorder;
  recorder.after_step = [&](const StepMetrics& m) { stop = m.step == 3 || m.step == 8; };
  for (int part = 0; part < 3; ++part) {
    stop = false;
    const TrainResult result = run(recipe(), "parts", recorder, part > 0, &stop);
    EXPECT_EQ(result.step, part == 0 ? 3 : part == 1 ? 8 : 12);
    EXPECT_EQ(result.finished, part == 2);
  }
  EXPECT_EQ(recorder.infos.at(1).resumed_from, 3);
  EXPECT_EQ(recorder.infos.at(2).resumed_from, 8);
  EXPECT_EQ(bits("parts", 12), bits("whole", 12));
  EXPECT_EQ(logged("parts"), logged("whole"));
}

// A kill leaves an older checkpoint, later lines in the metrics, a line that was cut and a half-written checkpoint.
TEST_F(Trainer, SameBitsAfterAKillAndResume) {
  run(recipe(), "whole");
  run(recipe(), "killed");
  fs::remove_all(out("killed") / "checkpoints/step-00000012");
  fs::remove_all(out("killed") / "checkpoints/step-00000008");
  fs::copy(out("killed") / "checkpoints/step-00000004", out("killed") / "checkpoints/step-00000008.tmp");
  std::ofstream(out("killed") / "metrics.jsonl", std::ios::app) << R"({"kind":"step","step":3,"lo)";
  Recorder recorder;
  run(recipe(), "killed", recorder, true);
  EXPECT_EQ(recorder.infos.at(0).resumed_from, 4);
  EXPECT_EQ(bits("killed", 12), bits("whole", 12));
  EXPECT_EQ(logged("killed"), logged("whole"));
  EXPECT_THAT(checkpoint_names("killed"), ElementsAre("step-00000004", "step-00000008", "step-00000012"));
}

TEST_F(Trainer, SameBitsWhereAKillCameBeforeTheFirstCheckpoint) {
  run(recipe(), "whole");
  run(recipe(), "killed");
  fs::remove_all(out("killed") / "checkpoints");
  run(recipe(), "killed", true);
  EXPECT_EQ(bits("killed", 12), bits("whole", 12));
  EXPECT_EQ(logged("killed"), logged("whole"));
}

TEST_F(Trainer, SameBitsWithRecompute) {
  Recipe r = recipe();
  r.model.layers = 8;  // so that what a layer keeps is most of the memory
  Recorder kept, recomputed;
  run(r, "kept", kept);
  r.train.recompute = true;
  run(r, "recomputed", recomputed);
  EXPECT_EQ(bits("recomputed", 12), bits("kept", 12));
  EXPECT_EQ(recomputed.losses(), kept.losses());
  EXPECT_LT(recomputed.steps.back().activation_bytes, kept.steps.back().activation_bytes);
}

// How a run is watched must not change it.
TEST_F(Trainer, SameBitsHoweverOftenItIsEvaluatedSavedAndSampled) {
  Recipe r = recipe();
  run(r, "a");
  r.train.evaluate_every = 1;
  r.train.evaluate_batches = 1;
  r.train.sample_every = 5;
  r.train.checkpoint_every = 0;
  Recorder recorder;
  run(r, "b", recorder);
  EXPECT_EQ(bits("a", 12), bits("b", 12));
  EXPECT_THAT(recorder.samples, ElementsAre(5, 10));
  ASSERT_EQ(recorder.evaluations.size(), 12U);
  EXPECT_FALSE(recorder.evaluations[0].complete);
  EXPECT_EQ(recorder.evaluations[0].tokens, 60);  // one micro-batch: 3 windows of 20
  EXPECT_TRUE(recorder.evaluations[11].complete);
}

// The same text in one micro-batch or in two: the loss over all sequences is the mean over the parts, if nothing
// couples the tokens of a micro-batch (capacity and the balance loss do).
TEST_F(Trainer, AccumulationEqualsALargerBatch) {
  Recipe r = recipe();
  r.model.dropout = 0.0;
  r.capacity.factor = 0.0;
  r.balance.load_balance = 0.0;
  r.balance.z_loss = 0.0;
  r.optimizer.clip_norm = 0.0;
  r.train.steps = 3;
  r.train.batch = 6;
  Recorder whole, parts;
  run(r, "whole", whole);
  r.train.batch = 3;
  r.train.accumulate = 2;
  run(r, "parts", parts);
  ASSERT_EQ(parts.steps.size(), 3U);
  // The first step starts from the same bits. Each gradient is a sum over the step's 120 tokens after 3 layers of six
  // products each way.
  const double tolerance = oracle::sum_tolerance(120) * 6.0;
  EXPECT_NEAR(parts.steps[0].loss, whole.steps[0].loss, tolerance * whole.steps[0].loss);
  EXPECT_NEAR(parts.steps[0].gradient_norm, whole.steps[0].gradient_norm, tolerance * whole.steps[0].gradient_norm);
  // Later steps follow an Adam step, which turns the rounding of a tiny gradient into a full-size move.
  for (std::size_t i = 1; i < 3; ++i) EXPECT_NEAR(parts.steps[i].loss, whole.steps[i].loss, 1e-3) << i;
  EXPECT_EQ(parts.steps[2].learning_rate, whole.steps[2].learning_rate);
}

TEST_F(Trainer, ClippingScalesTheGradientToTheNorm) {
  // SGD-like on the first step: with a large epsilon Adam's step is nearly lr * g / epsilon, so that its size tells
  // the gradient's.
  Recipe r = recipe();
  r.train.steps = 1;
  r.optimizer.epsilon = 0.99;
  r.optimizer.weight_decay = 0.0;
  r.optimizer.warmup_steps = 0;
  r.optimizer.beta1 = 0.0;
  r.optimizer.beta2 = 0.0;
  r.optimizer.learning_rate = 1.0;
  const auto moved = [&](double clip, const std::string& name, double& norm) {
    r.optimizer.clip_norm = clip;
    Recorder recorder;
    TrainResult result = run(r, name, recorder);
    norm = recorder.steps[0].gradient_norm;
    const auto model = model::load_model(result.checkpoint);
    model::Transformer start(model.transformer.config());
    start.initialize(resolve_init(r), r.train.seed);
    double sum = 0.0;
    for (std::size_t i = 0; i < start.parameters().size(); ++i) {
      const autograd::Parameter *a = model.transformer.parameters()[i], *b = start.parameters()[i];
      if (!a->wants_grad()) continue;
      for (std::size_t j = 0; j < a->value.f32().size(); ++j) {
        const double d = static_cast<double>(a->value.f32()[j]) - static_cast<double>(std::as_const(b->value).f32()[j]);
        sum += d * d;
      }
    }
    return std::sqrt(sum);
  };
  double free_norm = 0.0, clipped_norm = 0.0;
  const double free = moved(0.0, "free", free_norm), clipped = moved(0.01, "clipped", clipped_norm);
  EXPECT_EQ(free_norm, clipped_norm);  // the norm is told before clipping
  ASSERT_GT(free_norm, 0.1);
  // g / (|g| + 0.99) is g / 0.99 but for a factor of 1 - |g|, and |g| <= 0.01. Weights near 1 round by 2^-24.
  EXPECT_NEAR(clipped, 0.01 / 0.99, 0.02 * 0.01);
  EXPECT_GT(free, 5.0 * clipped);
  // A norm below the limit is left alone.
  double loose_norm = 0.0;
  EXPECT_EQ(moved(1e6, "loose", loose_norm), free);
}

TEST_F(Trainer, KeepsTheNewestCheckpoints) {
  Recipe r = recipe();
  r.train.checkpoint_every = 2;
  r.train.keep_checkpoints = 3;
  Recorder recorder;
  const TrainResult result = run(r, "run", recorder);
  EXPECT_THAT(checkpoint_names("run"), ElementsAre("step-00000008", "step-00000010", "step-00000012"));
  EXPECT_EQ(recorder.checkpoints.size(), 6U);
  EXPECT_EQ(result.checkpoint.filename(), "step-00000012");
  EXPECT_EQ(model::find_model_folder(out("run")), result.checkpoint);
}

TEST_F(Trainer, AFinishedRunResumesToNothingAndGoesOnWithMoreSteps) {
  run(recipe(), "run");
  const std::string before = bits("run", 12);
  Recorder recorder;
  const TrainResult again = run(recipe(), "run", recorder, true);
  EXPECT_TRUE(again.finished);
  EXPECT_EQ(again.step, 12);
  EXPECT_TRUE(recorder.steps.empty());
  EXPECT_EQ(bits("run", 12), before);
  Recipe r = recipe();
  r.train.steps = 14;
  EXPECT_EQ(run(r, "run", recorder, true).step, 14);
  EXPECT_EQ(recorder.steps.size(), 2U);
  EXPECT_EQ(load_recipe(out("run") / "recipe.toml").train.steps, 14);
}

TEST_F(Trainer, ResumeWithAnotherRecipeNamesTheKey) {
  run(recipe(), "run");
  const auto refused = [&](auto&& change, const std::string& key) {
    Recipe r = recipe();
    change(r);
    EXPECT_THAT(refusal(ErrorKind::kBadInput, r, "run", true), AllOf(HasSubstr("recipe.toml"), HasSubstr(key)));
  };
  refused([](Recipe& r) { r.model.width = 20; }, "model.width = 16, but the recipe now has model.width = 20");
  refused([](Recipe& r) { r.train.seed = 9; }, "train.seed = 1, but the recipe now has train.seed = 9");
  refused([](Recipe& r) { r.optimizer.learning_rate = 0.5; }, "optimizer.learning_rate");
  refused([](Recipe& r) { r.layer[0].hidden = 8; }, "layer.hidden = -1, but the recipe now has layer.hidden = 8");
  refused([](Recipe& r) { r.layer.push_back(r.layer[0]); }, "fewer [[layer]] tables");
  refused([](Recipe& r) { r.layer.clear(), r.model.hidden = 24; }, "more [[layer]] tables");
  // What does not touch the steps may change.
  Recipe r = recipe();
  r.train.checkpoint_every = 3;
  r.train.keep_checkpoints = 1;
  r.train.evaluate_every = 0;
  r.train.recompute = true;
  r.monitor.patience = 3;
  EXPECT_NO_THROW(run(r, "run", true));
}

TEST_F(Trainer, AFolderThatHoldsARunIsRefused) {
  run(recipe(), "run");
  EXPECT_THAT(refusal(ErrorKind::kBadInput, recipe(), "run"), AllOf(HasSubstr("holds a run"), HasSubstr("--resume")));
  fs::remove(out("run") / "recipe.toml");
  EXPECT_THAT(refusal(ErrorKind::kBadInput, recipe(), "run"), HasSubstr("holds checkpoints but no recipe.toml"));
  put(out("file"), "not a folder");
  EXPECT_THAT(refusal(ErrorKind::kResource, recipe(), "file"), HasSubstr("file"));
}

TEST_F(Trainer, AStartThatFailsLeavesTheFolderFree) {
  Recipe r = recipe();
  r.data.paths = {(folder_ / "nowhere").string()};
  EXPECT_THAT(refusal(ErrorKind::kNotFound, r, "run"), HasSubstr("nowhere"));
  r = recipe();
  r.train.sequence = 5000;
  EXPECT_THAT(refusal(ErrorKind::kBadInput, r, "run"),
              AllOf(HasSubstr("3600 training tokens"), HasSubstr("train.sequence (5000)")));
  r = recipe();
  r.data.validation = 1e-9;
  EXPECT_THAT(refusal(ErrorKind::kBadInput, r, "run"), HasSubstr("held-out tokens"));
  EXPECT_TRUE(run(recipe(), "run").finished);  // with the right text, not with what was tokenized before
  EXPECT_EQ(run(recipe(), "run", true).step, 12);
}

TEST_F(Trainer, ResumeWithChangedTextIsRefused) {
  run(recipe(), "run");
  put(text_, simple_text(4001));
  EXPECT_THAT(refusal(ErrorKind::kBadInput, recipe(), "run", true),
              AllOf(HasSubstr("tokens"), HasSubstr("other text")));
}

TEST_F(Trainer, ADamagedCheckpointIsRefused) {
  run(recipe(), "run");
  const fs::path last = out("run") / "checkpoints/step-00000012";
  const std::string moments = read_file(last / "optimizer.safetensors");
  put(last / "optimizer.safetensors", moments.substr(0, moments.size() - 5));
  EXPECT_THAT(refusal(ErrorKind::kBadInput, recipe(), "run", true), HasSubstr("optimizer.safetensors"));
  put(last / "optimizer.safetensors", moments);
  put(last / "training.json", "{\"version\": 1, \"step\": -3}\n");
  EXPECT_THAT(refusal(ErrorKind::kBadInput, recipe(), "run", true), HasSubstr("training.json"));
  put(last / "training.json", "{\"version\": 1}\n");
  EXPECT_THAT(refusal(ErrorKind::kBadInput, recipe(), "run", true), HasSubstr("step"));
  put(last / "training.json", "{\"version\": 7, \"step\": 12}\n");
  EXPECT_THAT(refusal(ErrorKind::kUnsupported, recipe(), "run", true), HasSubstr("version"));
  fs::remove(last / "training.json");  // now it counts as half-written
  Recorder recorder;
  run(recipe(), "run", recorder, true);
  EXPECT_EQ(recorder.infos.at(0).resumed_from, 8);
}

TEST_F(Trainer, DivergenceNamesLayerAndTensorAndKeepsTheLastGoodCheckpoint) {
  Recipe r = recipe();
  r.train.steps = 200;
  r.train.checkpoint_every = 1;
  r.train.evaluate_every = 0;
  r.optimizer.learning_rate = 100.0;
  r.optimizer.weight_decay = 10.0;  // every step multiplies the weights by -999
  r.optimizer.warmup_steps = 0;
  r.optimizer.schedule = "constant";
  r.optimizer.clip_norm = 0.0;
  Recorder recorder;
  const std::string message = error_of(ErrorKind::kBadInput, [&] { run(r, "run", recorder); });
  EXPECT_THAT(message, HasSubstr("is not finite"));
  EXPECT_THAT(message, AnyOf(HasSubstr("layers."), HasSubstr("embedding"), HasSubstr("final_norm")));
  EXPECT_THAT(message, HasSubstr(fmt::format("step {}", recorder.steps.size() + 1)));
  ASSERT_FALSE(recorder.checkpoints.empty());
  EXPECT_THAT(message, HasSubstr(recorder.checkpoints.back()));
  const model::LoadedModel last = model::load_model(out("run") / "checkpoints" / recorder.checkpoints.back());
  for (const autograd::Parameter* parameter : last.transformer.parameters()) {
    EXPECT_TRUE(std::isfinite(oracle::max_abs(parameter->value.f32()))) << parameter->name;
  }
}

TEST_F(Trainer, DivergenceInTheFirstForwardPassNamesIt) {
  Recipe r = recipe();
  r.train.steps = 2;
  r.optimizer.warmup_steps = 0;
  r.optimizer.learning_rate = 100.0;
  r.optimizer.epsilon = 1e-30;
  r.optimizer.weight_decay = 10.0;
  r.init.std = 10.0;
  r.model.norm_eps = 1e-30;
  r.train.steps = 100;
  r.train.checkpoint_every = 0;
  r.train.evaluate_every = 1;  // whoever sees it first must say so
  const std::string message = refusal(ErrorKind::kBadInput, r, "run");
  EXPECT_THAT(message, AllOf(HasSubstr("is not finite"), HasSubstr("none yet")));
}

TEST_F(Trainer, SelectionBiasesFollowTheLoads) {
  Recipe r = recipe();
  r.train.steps = 1;
  std::map<Index, std::vector<Index>> loads;
  Recorder recorder;
  recorder.after_step = [&](const StepMetrics& m) {
    for (const auto& [layer, statistics] : *m.routing) loads[layer] = statistics.load_E;
  };
  const TrainResult result = run(r, "run", recorder);
  model::LoadedModel trained = model::load_model(result.checkpoint);
  ASSERT_EQ(loads.size(), 2U);  // layer 0 is dense
  for (const auto& [layer, load_E] : loads) {
    const auto* bias = trained.transformer.find(fmt::format("layers.{}.moe.selection_bias", layer));
    ASSERT_NE(bias, nullptr);
    Index total = 0;
    for (const Index load : load_E) total += load;
    for (std::size_t e = 0; e < load_E.size(); ++e) {
      const Index above = load_E[e] * static_cast<Index>(load_E.size()) - total;
      EXPECT_EQ(bias->value.f32()[e], above > 0 ? -0.01F : above < 0 ? 0.01F : 0.0F) << layer << " " << e;
    }
  }
}

TEST_F(Trainer, CollapseIsWarnedAboutOnceWithWhatToTry) {
  Recipe r = recipe();
  r.router.score = "softmax";
  r.router.selection_bias = false;
  r.balance = {};
  r.balance.load_balance = 0.0;
  r.experts.count = 64;  // 20 tokens cannot reach them all
  r.router.top_k = 1;
  r.capacity.factor = 0.0;
  r.train.batch = 1;
  r.monitor.patience = 4;
  r.monitor.max_violation = 1e-3;  // no load of 20 over 64 is that even
  r.optimizer.learning_rate = 0.0;
  Recorder recorder;
  std::vector<std::size_t> seen;
  recorder.after_step = [&](const StepMetrics&) { seen.push_back(recorder.warnings.size()); };
  run(r, "run", recorder);
  // Warnings come after the step's own call, so those of step 4 show at step 5.
  EXPECT_THAT(std::vector<std::size_t>(seen.begin(), seen.begin() + 5), ElementsAre(0, 0, 0, 0, 4));
  std::string all;
  Index violations = 0;
  for (const std::string& warning : recorder.warnings) {
    all += warning + "\n";
    violations += warning.find("MaxVio") != std::string::npos;
  }
  EXPECT_EQ(violations, 2) << all;  // one a layer, though it went on for 12 steps
  EXPECT_THAT(recorder.warnings, Contains(AllOf(HasSubstr("layer 1: expert "), HasSubstr("for 4 steps"),
                                                HasSubstr("raise balance.load_balance to 0.01"))));
  EXPECT_THAT(recorder.warnings, Contains(AllOf(HasSubstr("layer 2: experts "), HasSubstr("got no token"))));
  EXPECT_THAT(read_file(out("run") / "metrics.jsonl"), HasSubstr("\"kind\":\"warning\",\"step\":4,"));
}

TEST_F(Trainer, ABalancedRunIsNotWarnedAbout) {
  Recipe r = recipe();
  r.monitor.patience = 12;
  Recorder recorder;
  run(r, "run", recorder);
  EXPECT_TRUE(recorder.warnings.empty()) << recorder.warnings.front();
}

// Files may grow to a limit only, as on a disk that is full.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    old_handler_ = std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &old_);
    rlimit limited = old_;
    limited.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limited);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit old_{};
  void (*old_handler_)(int) = nullptr;
};

TEST_F(Trainer, AFullDiskEndsInAnErrorAndTheLastCheckpointStaysGood) {
  run(recipe(), "whole");
  const std::string good = bits("whole", 4);
  std::optional<FileSizeLimit> limit;
  Recorder recorder;
  // The weights are larger than this, the metrics are not.
  recorder.after_step = [&](const StepMetrics& m) {
    if (m.step == 6) limit.emplace(16000);
  };
  const std::string message = error_of(ErrorKind::kResource, [&] { run(recipe(), "full", recorder); });
  limit.reset();
  EXPECT_THAT(message, HasSubstr("step-00000008"));
  EXPECT_THAT(checkpoint_names("full"), ElementsAre("step-00000004"));
  EXPECT_EQ(bits("full", 4), good);
  run(recipe(), "full", true);  // once there is room again
  EXPECT_EQ(bits("full", 12), bits("whole", 12));
}

TEST_F(Trainer, MetricsThatCannotBeWrittenAreAnError) {
  Recorder recorder;
  std::optional<FileSizeLimit> limit;
  recorder.after_step = [&](const StepMetrics& m) {
    if (m.step == 2) limit.emplace(fs::file_size(out("run") / "metrics.jsonl") + 10);
  };
  const std::string message = error_of(ErrorKind::kResource, [&] { run(recipe(), "run", recorder); });
  limit.reset();
  EXPECT_THAT(message, HasSubstr("metrics.jsonl"));
}

}  // namespace
}  // namespace switchyard::train
