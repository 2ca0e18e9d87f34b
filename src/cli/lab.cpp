#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "command.hpp"
#include "interrupt.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/base/progress.hpp"
#include "switchyard/observe/lab_report.hpp"
#include "switchyard/train/lab.hpp"

namespace switchyard::cli {
namespace {

struct Options {
  std::vector<std::string> files, set;
  std::string out;
  Index seeds = 0, jobs = 0;
  bool quick = false, json = false;
};

class Console final : public train::LabListener {
 public:
  void on_tokenize(std::uint64_t done, std::uint64_t total) override {
    if (!tokenize_) tokenize_ = std::make_unique<ProgressLine>("tokenizing", total);
    tokenize_->update(done);
    if (done == total) tokenize_.reset();
  }
  void on_plan(Index runs, Index done) override {
    say("{} runs{}\n", runs, done > 0 ? fmt::format(", {} of them done already", done) : "");
    ended_ = done;
    all_ = runs;
  }
  void on_run(const train::RunResult& result) override {
    ++ended_;
    const std::string name = fmt::format("{:>4}/{} {} seed {}", ended_, all_, result.run, result.seed);
    if (result.state == train::RunState::kFinished) {
      say("{}: {:.4f} bits per byte, {}\n", name, result.figures.at("bits_per_byte"),
          format_duration(result.figures.at("train_seconds")));
    } else {
      say("{}: {}: {}\n", name, result.state == train::RunState::kDiverged ? "diverged" : "failed", result.message);
    }
  }
  void on_progress(Index runs, Index done, double seconds_left, std::span<const std::string> running) override {
    std::string names;
    for (const std::string& name : running) names += (names.empty() ? "" : ", ") + name;
    line_.show(fmt::format("lab {}/{}  {} left  {}", done, runs, format_duration(seconds_left), names));
  }
  void clear() { line_.clear(); }

 private:
  // On standard error, with --json too: a lab takes long, and standard output stays clean for the report.
  template <class... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) {
    line_.clear();
    fmt::print(stderr, format, std::forward<Args>(args)...);
  }
  std::unique_ptr<ProgressLine> tokenize_;
  ProgressLine line_{"lab"};
  Index ended_ = 0, all_ = 0;
};

// The command that goes on, to be pasted.
std::string command_again(const Options& options, const std::string& program) {
  const auto quoted = [](const std::string& word) {
    if (word.find_first_of(" '\"[]()&;|<>$*?!#~`\\") == std::string::npos) return word;
    std::string text = "'";
    for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return text + "'";
  };
  std::string text = quoted(program) + " lab";
  for (const std::string& file : options.files) text += " " + quoted(file);
  text += " --out " + quoted(options.out);
  if (options.quick) text += " --quick";
  if (options.seeds > 0) text += fmt::format(" --seeds {}", options.seeds);
  if (options.jobs > 0) text += fmt::format(" --jobs {}", options.jobs);
  for (const std::string& set : options.set) text += " --set " + quoted(set);
  return text;
}

void print_verdicts(const nlohmann::ordered_json& report, const std::string& out) {
  fmt::print("\n{:<34} {:>22}\n", "run", "held-out bits per byte");
  for (const auto& run : report["runs"]) {
    const auto& figures = run["figures"];
    if (!figures.contains("bits_per_byte")) {
      fmt::print("{:<34} {:>22}\n", run["name"].get<std::string>(), "no result");
      continue;
    }
    const auto& bits = figures["bits_per_byte"];
    const auto seeds = bits["seeds"].get<Index>();
    const std::string spread = seeds > 1 ? fmt::format(" ± {:.4f}", bits["deviation"].get<double>()) : "";
    fmt::print("{:<34} {:>13.4f}{} ({} seed{})\n", run["name"].get<std::string>(), bits["mean"].get<double>(), spread,
               seeds, seeds == 1 ? "" : "s");
  }
  if (!report["claims"].empty()) fmt::print("\n");
  for (const auto& claim : report["claims"]) {
    fmt::print("{:<19} {}\n", claim["verdict"].get<std::string>(), claim["text"].get<std::string>());
  }
  fmt::print("\n{0}/report.html has charts, figures and how a verdict is reached; report.md and report.json the same\n",
             out);
}

void run(const Options& options, const std::string& program) {
  train::LabRequest request;
  request.files.assign(options.files.begin(), options.files.end());
  request.set = options.set;
  request.seeds = options.seeds;
  request.quick = options.quick;
  const train::Lab lab = train::load_lab(request);
  train::LabOptions how;
  how.out = options.out;
  how.program = std::filesystem::read_symlink("/proc/self/exe");
  how.jobs = options.jobs > 0 ? options.jobs : ThreadArena().threads();
  how.stop = &interrupted();
  catch_interrupts();
  Console console;
  const auto results = train::run_lab(lab, how, console);
  console.clear();

  const std::string text = train::lab_report(lab, how, results);
  observe::write_lab_report(options.out, text);
  if (options.json) {
    fmt::print("{}", text);
  } else {
    print_verdicts(nlohmann::ordered_json::parse(text), options.out);
  }
  Index failed = 0, unfinished = 0;
  for (const train::RunResult& result : results) {
    failed += result.state == train::RunState::kFailed ? 1 : 0;
    unfinished += result.state == train::RunState::kUnfinished ? 1 : 0;
  }
  if (unfinished > 0) {
    fmt::print(stderr, "\nstopped with {} of {} runs to do; what ran is saved\ngo on with: {}\n", unfinished,
               results.size(), command_again(options, program));
    throw Interrupted{interrupting_signal()};
  }
  if (failed > 0) {
    fail(ErrorKind::kBadInput, "{} of {} runs failed (the report says why); the same command tries them again", failed,
         results.size());
  }
}

}  // namespace

void add_lab(CLI::App& program, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("lab", "Train a matrix of recipes alike, compare them, check claims");
  command->add_option("files", options->files, "Recipes, each a run; or one lab file (docs/lab.md)")->required();
  command->add_option("-o,--out", options->out, "Folder of the runs and the report")->required();
  command->add_option("--seeds", options->seeds, "Seeds a recipe (default: the lab file's, or 3)")
      ->check(CLI::Range(Index{1}, Index{1000}));
  command->add_option("--jobs", options->jobs, "Runs at a time, each with one thread (default: every core)")
      ->check(CLI::Range(Index{1}, Index{4096}));
  command->add_flag("--quick", options->quick, "A shorter lab, with the changes of the lab file's [quick]");
  command->add_option("--set", options->set, "Change a key of every run: --set train.steps=100 (may be repeated)")
      ->allow_extra_args(false)
      ->take_all();
  add_json(*command, options->json);
  command->footer(
      "\nAll runs share text, tokens, seeds and budget; each (run, seed) is a process of its own in "
      "OUT/runs/NAME/seed-S.\n"
      "The same command again goes on where a lab stopped, and repeats nothing that is done. Ctrl-C lets the runs "
      "save.\n"
      "A run that fails is reported and stops no other.\n"
      "\nExamples:\n"
      "  switchyard lab recipes/claims.toml --out runs/claims --quick\n"
      "  switchyard lab a.toml b.toml --out runs/a-or-b --seeds 5 --set train.steps=500\n");
  command->callback([options, &action, name = program.get_name()] {
    // Outside any arena: children are started, and only this thread may outlive them.
    action = [options, name] { run(*options, name); };
  });
}

}  // namespace switchyard::cli
