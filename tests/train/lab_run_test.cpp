// Running a lab: which runs are started, how each end is told, and what is not repeated. The program that a run starts
// is a script, which does what the run's name says; tests/cli_e2e/lab.sh has the real one.

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "support.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/train/lab.hpp"

namespace switchyard::train {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr const char* kScript = R"(#!/bin/sh
# train RECIPE --out DIR --resume --json -t 1
out=$4
echo "$*" >>"LOG"
printf 'this text is no result' >"$out/noise"
case $out in
  *diverges*) echo "warning: it looks bad" >&2; echo "switchyard: step 3: the loss is not finite; so it stops" >&2; exit 1 ;;
  *killed*) kill -9 $$ ;;
  *fails*) echo "switchyard: no space left" >&2; exit 1 ;;
  *silent*) exit 7 ;;
  *garbage*) echo "no JSON"; exit 0 ;;
  *waits*)
    trap 'exit 130' INT
    touch "$out/waiting"
    while :; do sleep 0.02; done ;;
esac
mkdir -p "$out/checkpoints/step-00000004"
cat >"$out/metrics.jsonl" <<END
{"kind":"step","step":1,"loss":4,"bits_per_byte":4.0,"gradient_norm":9.0,"seconds":0.5,"layers":[{"layer":0,"max_violation":2.0,"drop_rate":0.5},{"layer":1,"max_violation":4.0,"drop_rate":0.5}]}
{"kind":"warning","step":1,"text":"x"}
{"kind":"step","step":2,"loss":3,"bits_per_byte":3.0,"gradient_norm":2.0,"seconds":0.1,"layers":[{"layer":0,"max_violation":2.0,"drop_rate":0.5},{"layer":1,"max_violation":3.0,"drop_rate":0.5}]}
{"kind":"step","step":3,"loss":2,"bits_per_byte":2.0,"gradient_norm":null,"seconds":0.1,"layers":[{"layer":0,"max_violation":2.0,"drop_rate":0.5},{"layer":1,"max_violation":3.0,"drop_rate":0.5}]}
{"kind":"step","step":4,"loss":1,"bits_per_byte":1.0,"gradient_norm":3.0,"seconds":0.3,"layers":[{"layer":0,"max_violation":0.5,"drop_rate":0.25},{"layer":1,"max_violation":1.5,"drop_rate":0.0}]}
{"kind":"evaluation","step":4,"loss":1.5,"bits_per_byte":1.25,"tokens":10,"complete":true}
END
echo '{"loss":1.5,"bits_per_byte":1.25,"domains":{"a":1.0,"b":1.5},"routing":[{"layer":0,"max_violation":1.0,"entropy":0.6931471805599453,"dead":[2,3],"load":[5,5,0,0],"load_by_domain":{"a":[5,0,0,0],"b":[0,5,0,0]}},{"layer":1,"max_violation":3.0,"entropy":0.0,"dead":[],"load":[1,2,3,4],"load_by_domain":{"a":[1,1,1,1],"b":[2,2,2,2]}}]}'
)";

class Listener final : public LabListener {
 public:
  void on_plan(Index runs, Index done) override { plan = {runs, done}; }
  void on_run(const RunResult& result) override { ended.push_back(result.run); }
  void on_progress(Index, Index, double, std::span<const std::string>) override {
    if (progress) progress();
  }
  std::pair<Index, Index> plan{0, 0};
  std::vector<std::string> ended;
  std::function<void()> progress;
};

class LabRuns : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string script = kScript;
    script.replace(script.find("LOG"), 3, (folder_ / "log").string());
    options_.program = put(folder_ / "stub", script);
    fs::permissions(options_.program, fs::perms::owner_all);
    options_.out = folder_ / "out";
    options_.jobs = 2;
    put(folder_ / "text.txt", simple_text(4000));
    lab_.seeds = 1;
  }
  void add(const std::string& name) {
    Recipe recipe = tiny_recipe(folder_ / "text.txt");
    recipe.train.steps = 4;
    lab_.runs.push_back({name, "", recipe});
  }
  std::vector<RunResult> run() {
    listener_ = Listener();
    return run_lab(lab_, options_, listener_);
  }
  Index starts() const {
    if (!fs::exists(folder_ / "log")) return 0;
    const std::string log = read_file(folder_ / "log");
    return std::count(log.begin(), log.end(), '\n');
  }

  TemporaryFolder folder_;
  Lab lab_;
  LabOptions options_;
  Listener listener_;
};

TEST_F(LabRuns, MeasuresWhatARunLeft) {
  add("good");
  const auto results = run();
  ASSERT_EQ(results.size(), 1U);
  const RunResult& r = results[0];
  EXPECT_EQ(r.state, RunState::kFinished) << r.message;
  const auto figure = [&](const char* name) { return r.figures.at(name); };
  EXPECT_EQ(figure("validation_loss"), 1.5);
  EXPECT_EQ(figure("bits_per_byte"), 1.25);
  EXPECT_EQ(figure("max_violation"), 2.0);        // mean of the layers
  EXPECT_EQ(figure("batch_max_violation"), 1.0);  // step 4, the last quarter
  EXPECT_EQ(figure("drop_rate"), 0.125);
  EXPECT_EQ(figure("dead_experts"), 2.0);
  EXPECT_DOUBLE_EQ(figure("entropy"), 0.25);        // log 2 of log 4 in one layer, 0 in the other
  EXPECT_DOUBLE_EQ(figure("specialisation"), 0.5);  // all in one layer, none in the other
  EXPECT_EQ(figure("gradient_norm_max"), 9.0);
  EXPECT_EQ(figure("diverged"), 0.0);
  EXPECT_DOUBLE_EQ(figure("train_seconds"), 1.0);
  EXPECT_EQ(figure("seconds_per_step"), 0.3);
  EXPECT_DOUBLE_EQ(figure("tokens_per_second"), 3 * 20 / 0.3);
  EXPECT_GT(figure("parameters"), figure("active_parameters"));
  EXPECT_EQ(r.domains.at("b"), 1.5);
  ASSERT_EQ(r.loss.size(), 4U);
  EXPECT_EQ(r.loss[3].tokens, 4 * 3 * 20);
  EXPECT_EQ(r.loss[3].value, 1.0);
  EXPECT_DOUBLE_EQ(r.held_out.at(0).seconds, 1.0);
  EXPECT_EQ(r.violation.at(0).value, 3.0);
  // It was started as one may go on with it, on the shared tokens, with its seed and one thread.
  const std::string at = (options_.out / "runs/good/seed-1").string();
  EXPECT_EQ(read_file(folder_ / "log"), "train " + at + "/recipe.toml --out " + at + " --resume --json -t 1\n");
  EXPECT_EQ(load_recipe(at + "/recipe.toml").train.seed, 1U);
  EXPECT_TRUE(fs::equivalent(at + "/tokens", options_.out / "tokens"));
  EXPECT_TRUE(fs::exists(at + "/checkpoints"));
}

TEST_F(LabRuns, EveryEndIsTold) {
  for (const char* name : {"diverges", "killed", "fails", "silent", "garbage", "good"}) add(name);
  const auto results = run();
  ASSERT_EQ(results.size(), 6U);
  EXPECT_EQ(results[0].state, RunState::kDiverged);
  EXPECT_EQ(results[0].message, "step 3: the loss is not finite; so it stops");
  EXPECT_EQ(results[0].figures.at("diverged"), 1.0);
  for (std::size_t i = 1; i < 5; ++i) EXPECT_EQ(results[i].state, RunState::kFailed) << i;
  EXPECT_THAT(results[1].message, AllOf(StartsWith("ended by signal 9"), HasSubstr("memory")));
  EXPECT_EQ(results[2].message, "no space left");
  EXPECT_THAT(results[3].message, HasSubstr("exit code 7"));
  EXPECT_THAT(results[4].message, AllOf(HasSubstr("garbage/seed-1/summary.json"), HasSubstr("damaged")));
  EXPECT_EQ(results[5].state, RunState::kFinished);
  EXPECT_EQ(listener_.ended.size(), 6U);

  // The second time: what finished or diverged is not repeated, the others are tried again.
  EXPECT_EQ(starts(), 6);
  const auto again = run();
  EXPECT_EQ(listener_.plan, (std::pair<Index, Index>{6, 2}));
  EXPECT_EQ(starts(), 10);
  EXPECT_EQ(again[0].state, RunState::kDiverged);
  EXPECT_EQ(again[0].message, results[0].message);
  EXPECT_EQ(again[5].figures, results[5].figures);
  EXPECT_EQ(again[5].loss.size(), results[5].loss.size());
  EXPECT_EQ(again[5].domains, results[5].domains);
}

TEST_F(LabRuns, AProgramThatCannotStartIsSaid) {
  add("good");
  options_.program = folder_ / "absent";
  const auto results = run();
  EXPECT_EQ(results[0].state, RunState::kFailed);
  EXPECT_THAT(results[0].message, HasSubstr("cannot be started: No such file"));
}

TEST_F(LabRuns, StopLetsTheRunsSaveAndGoesOn) {
  lab_.seeds = 2;
  add("good");
  add("waits");
  options_.jobs = 1;
  std::atomic<bool> stop{false};
  options_.stop = &stop;
  listener_.progress = [&] {
    if (fs::exists(options_.out / "runs/waits/seed-1/waiting")) stop = true;
  };
  const auto results = run_lab(lab_, options_, listener_);
  ASSERT_EQ(results.size(), 4U);
  // Seed 1 of all comes before seed 2.
  EXPECT_EQ(results[0].state, RunState::kFinished);
  for (std::size_t i = 1; i < 4; ++i) EXPECT_EQ(results[i].state, RunState::kUnfinished) << i;
  EXPECT_THAT(listener_.ended, ElementsAre("good"));
  EXPECT_EQ(starts(), 2);
}

TEST_F(LabRuns, TwoLabsDoNotShareAFolder) {
  add("good");
  std::string message;
  listener_.progress = [&] {
    Listener other;
    message = error_of(ErrorKind::kResource, [&] { run_lab(lab_, options_, other); });
  };
  run_lab(lab_, options_, listener_);
  EXPECT_THAT(message, HasSubstr("is still working in this folder"));
}

TEST_F(LabRuns, ModelsGoWhereTheyAreNotWanted) {
  add("good");
  lab_.keep_models = false;
  run();
  EXPECT_FALSE(fs::exists(options_.out / "runs/good/seed-1/checkpoints"));
  EXPECT_TRUE(fs::exists(options_.out / "runs/good/seed-1/metrics.jsonl"));
  run();
  EXPECT_EQ(starts(), 1);
}

TEST_F(LabRuns, OtherRecipesAndOtherTextAreRefused) {
  add("good");
  run();
  lab_.runs[0].recipe.optimizer.learning_rate = 0.5;
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { run(); }),
              AllOf(HasSubstr("good/seed-1/recipe.toml"), HasSubstr("\"learning_rate = 0.01\" in [optimizer]"),
                    HasSubstr("\"learning_rate = 0.5\"")));
  lab_.runs[0].recipe = tiny_recipe(folder_ / "text.txt");
  put(folder_ / "text.txt", simple_text(5000));
  EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { run(); }), HasSubstr("tokens: was made from other text"));
  EXPECT_EQ(starts(), 1);
}

TEST_F(LabRuns, ADamagedResultIsNamed) {
  add("good");
  run();
  const fs::path file = options_.out / "runs/good/seed-1/result.json";
  for (const char* text : {"", "{", "[]", "{\"version\":1}", "{\"version\":2}"}) {
    put(file, text);
    EXPECT_THAT(error_of(ErrorKind::kBadInput, [&] { run(); }), HasSubstr("result.json: ")) << text;
  }
}

}  // namespace
}  // namespace switchyard::train
