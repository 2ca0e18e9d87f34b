#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "command.hpp"
#include "interrupt.hpp"
#include "routing_text.hpp"
#include "run_summary.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/base/progress.hpp"
#include "switchyard/kernels/matmul.hpp"
#include "switchyard/train/trainer.hpp"

namespace switchyard::cli {
namespace {

struct Options {
  std::string recipe, out;
  std::vector<std::string> set;
  bool resume = false, json = false;
  int threads = 0;
};

// Draws the live line on a terminal; elsewhere prints a plain line now and then.
class Console final : public train::TrainListener {
 public:
  explicit Console(bool quiet) : quiet_(quiet), terminal_(::isatty(STDERR_FILENO) == 1) {}

  void on_tokenize(std::uint64_t done, std::uint64_t total) override {
    if (!tokenize_) tokenize_ = std::make_unique<ProgressLine>("tokenizing", total);
    tokenize_->update(done);
    if (done == total) tokenize_.reset();
  }

  void on_start(const train::RunInfo& info) override {
    info_ = info;
    start_ = Clock::now();
    say("{} parameters, {} active a token; {} training tokens, {} held out, vocabulary {}\n",
        format_count(static_cast<double>(info.parameters.total)),
        format_count(static_cast<double>(info.parameters.active)), format_count(static_cast<double>(info.train_tokens)),
        format_count(static_cast<double>(info.validation_tokens)), info.vocab);
    say("weights, gradients and optimizer {}; {} threads, {}\n",
        format_bytes(static_cast<std::uint64_t>(info.parameter_bytes)), current_threads(), kernels::instruction_set());
    if (!info.frozen.empty())
      say("frozen: {} parameters in {} tensors, from {} to {}\n",
          format_count(static_cast<double>(info.frozen_parameters)), info.frozen.size(), info.frozen.front(),
          info.frozen.back());
    if (info.resumed_from > 0) say("going on from step {}\n", info.resumed_from);
  }

  void on_step(const train::StepMetrics& m) override {
    // Smoothed for the eye: single steps jump about.
    const double keep = steps_seen_ == 0 ? 0.0 : 0.95;
    loss_ = keep * loss_ + (1.0 - keep) * m.loss;
    bits_per_byte_ = keep * bits_per_byte_ + (1.0 - keep) * m.bits_per_byte;
    seconds_ = keep * seconds_ + (1.0 - keep) * m.seconds;
    ++steps_seen_;
    activation_bytes_ = std::max(activation_bytes_, m.activation_bytes);
    last_ = m.step;
    double violation = 0.0;
    Index dead = 0;
    for (const auto& [layer, s] : *m.routing) {
      violation = std::max(violation, s.max_violation());
      dead += static_cast<Index>(s.dead_experts().size());
    }
    const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
    const double left = elapsed / static_cast<double>(steps_seen_) * static_cast<double>(info_.steps - m.step);
    std::string text =
        fmt::format("step {}/{}  loss {:.3f}  {:.3f} bits/byte  {} tokens/s  {} left", m.step, info_.steps, loss_,
                    bits_per_byte_, format_count(m.tokens_per_second), format_duration(left));
    if (!m.routing->empty())
      text += fmt::format("  MaxVio {:.2f}{}", violation, dead > 0 ? fmt::format(", {} dead", dead) : "");
    if (terminal_ && !quiet_) {
      line_.show(text);
    } else if (elapsed - spoken_at_ >= 10.0 || m.step == info_.steps || steps_seen_ == 1) {
      spoken_at_ = elapsed;
      say("{}\n", text);
    }
  }

  void on_evaluation(const train::EvalMetrics& m) override {
    say("step {:>6}  held-out {:.4f} nats a token, {:.4f} bits per byte{}\n", m.step, m.loss, m.bits_per_byte,
        m.complete ? " (all held-out text)" : "");
  }

  train::HeldOutReading on_held_out(const train::TokenSplit& held_out) override {
    line_.clear();
    return record_held_out(held_out, profile_);
  }

  void on_checkpoint(const std::filesystem::path& folder) override {
    say("step {:>6}  saved {}\n", last_, folder.string());
  }

  void on_sample(model::Transformer& transformer, const text::Tokenizer& tokenizer, Index step) override {
    say("step {:>6}  sample: {}\n", step, make_sample(transformer, tokenizer, 60));
  }

  void on_warning(std::string_view text) override {
    line_.clear();
    fmt::print(stderr, "warning: {}\n", text);
  }

  // Of the last evaluation.
  const observe::RoutingProfile& profile() const { return profile_; }
  double seconds_per_step() const { return seconds_; }
  Index activation_bytes() const { return activation_bytes_; }

 private:
  using Clock = std::chrono::steady_clock;

  template <class... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) {
    if (quiet_) return;
    line_.clear();
    fmt::print(stderr, format, std::forward<Args>(args)...);
  }

  bool quiet_, terminal_;
  std::unique_ptr<ProgressLine> tokenize_;
  ProgressLine line_{"train"};
  train::RunInfo info_;
  observe::RoutingProfile profile_;
  Clock::time_point start_ = Clock::now();
  double loss_ = 0.0, bits_per_byte_ = 0.0, seconds_ = 0.0, spoken_at_ = -1e9;
  Index steps_seen_ = 0, activation_bytes_ = 0, last_ = 0;
};

std::string default_out(const std::string& recipe) { return "runs/" + std::filesystem::path(recipe).stem().string(); }

void print_summary(const RunSummary& summary, const Console& console, const std::string& out,
                   const std::string& program) {
  const auto& [evaluation, profile] = summary.held_out;
  fmt::print("\nHeld-out loss: {:.4f} bits per byte ({:.4f} nats a token)\n", evaluation.bits_per_byte,
             evaluation.loss);
  for (const train::DomainMetrics& domain : evaluation.domains) {
    if (evaluation.domains.size() > 1) fmt::print("  {:<12} {:.4f} bits per byte\n", domain.name, domain.bits_per_byte);
  }
  fmt::print("A step took {:.1f} ms; activations took at most {}.\n", 1e3 * console.seconds_per_step(),
             format_bytes(static_cast<std::uint64_t>(console.activation_bytes())));
  fmt::print("\nA sample of the model:\n{}\n", summary.sample);
  if (!profile.layers().empty()) {
    fmt::print("\nExperts on held-out text (a bar of half height is the mean load)\n{}", load_table(profile));
    const std::string domains = domain_table(profile);
    if (!domains.empty()) fmt::print("\nExperts and domains\n{}", domains);
  }
  fmt::print(
      "\nThe run is in {0}: checkpoints/, metrics.jsonl, report.html (open it in a browser)\n\nNext:\n"
      "  {1} generate -m {0} -p \"The\" -n 200\n"
      "  {1} inspect -m {0} -f README.md    # any text: which expert takes which word\n",
      out, program);
}

void run(const Options& options, const std::string& program) {
  const train::Recipe recipe = train::load_recipe(options.recipe, options.set);
  const std::string out = options.out.empty() ? default_out(options.recipe) : options.out;
  catch_interrupts();
  Console console(options.json);
  train::TrainOptions how;
  how.out = out;
  how.resume = options.resume;
  how.stop = &interrupted();
  const train::TrainResult result = train::train(recipe, how, console);
  if (!result.finished) {
    fmt::print(stderr, "\nstopped at step {}; {}\ngo on with: {} train {} --out {} --resume\n", result.step,
               result.checkpoint.empty() ? "nothing to save yet" : "saved " + result.checkpoint.string(), program,
               options.recipe, out);
    if (options.json) {
      fmt::print("{}\n", nlohmann::ordered_json{{"step", result.step}, {"finished", false}}.dump());
    }
    throw Interrupted{interrupting_signal()};
  }
  // A run that had ended before was not read again.
  std::optional<HeldOut> held_out;
  if (result.evaluation.has_value()) held_out = {*result.evaluation, console.profile()};
  const RunSummary summary = summarize_run(out, std::move(held_out));
  write_run_report(out, std::filesystem::path(out) / "report.html", summary);
  if (!options.json) {
    print_summary(summary, console, out, program);
    return;
  }
  nlohmann::ordered_json json;
  json["step"] = result.step;
  json["finished"] = true;
  json["checkpoint"] = result.checkpoint.string();
  json["seconds_per_step"] = console.seconds_per_step();
  json["activation_bytes"] = console.activation_bytes();
  json.update(summary_json(summary));
  fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace

void add_train(CLI::App& program, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("train", "Train a model from a recipe");
  command->add_option("recipe", options->recipe, "The recipe, a TOML file")->required();
  command->add_option("--set", options->set, "Change a key of the recipe: --set train.steps=100 (may be repeated)")
      ->allow_extra_args(false)
      ->take_all();
  command->add_option("-o,--out", options->out, "The run's folder (default: runs/ and the recipe's name)");
  command->add_flag("--resume", options->resume,
                    "Go on from the last checkpoint in --out, exactly as if never stopped");
  add_threads(*command, options->threads);
  add_json(*command, options->json);
  command->footer(
      "\nInterrupt (Ctrl-C) saves, stops and exits with 130 (SIGTERM: 143); --resume goes on. A killed run goes on "
      "from\n"
      "its last checkpoint.\n"
      "Relative paths in the recipe start at the working folder. docs/recipes.md explains every key.\n"
      "\nExamples:\n"
      "  switchyard train recipes/quickstart.toml --set data.paths='[\"my-texts\"]' --out runs/mine\n"
      "  switchyard train recipes/quickstart.toml --out runs/mine --resume\n");
  command->callback([options, &action, name = program.get_name()] {
    action = [options, name] { ThreadArena(options->threads).run([&] { run(*options, name); }); };
  });
}

}  // namespace switchyard::cli
