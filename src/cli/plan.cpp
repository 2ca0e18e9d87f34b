#include "plan.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "command.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::cli {
namespace {

constexpr Index kMost = Index{1} << 31;

struct Options {
  std::string path, type, tokens = "1T";
  plan::PlanOptions plan;
  plan::GpuAssumptions gpu;
  double memory_gib = 0.0, bandwidth = 0.0, gflops = 0.0;
  int threads = 0;
  bool table = false, json = false, markdown = false;
};

// "14.8T", "300B", "2e9".
double parse_tokens(const std::string& text) {
  double number = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string suffix(end, text.data() + text.size());
  const std::string suffixes = "KMBT";
  const std::size_t power = suffix.empty() ? 0 : suffixes.find(suffix) + 1;
  if (error != std::errc() || suffix.size() > 1 || (!suffix.empty() && power == 0) || !(number > 0.0) ||
      !std::isfinite(number))
    fail(ErrorKind::kUsage, "--tokens {}: expected a number above 0, such as 14.8T, 300B or 2e9", text);
  return number * std::pow(1000.0, static_cast<double>(power));
}

void run_table(const Options& options, const TrainingQuestion& training) {
  const auto rows = plan::published_table(training.gpu, training.tokens);
  if (options.json) {
    fmt::print("{}\n", table_json(rows, training).dump());
  } else {
    fmt::print("{}", options.markdown ? table_markdown(rows, training) : table_text(rows, training));
  }
}

void run_encoder_decoder(const Options& options) {
  const auto plan = plan::plan_encoder_decoder(model::load_encoder_decoder_config(options.path), options.plan.prompt);
  if (options.json) {
    fmt::print("{}\n",
               encoder_decoder_json(options.path, plan).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    fmt::print("{}", encoder_decoder_text(options.path, plan));
  }
}

void run(const Options& options) {
  if (options.table == !options.path.empty())
    fail(ErrorKind::kUsage, "plan: expected either a model (folder or config.json) or --table");
  if (options.markdown && (!options.table || options.json))
    fail(ErrorKind::kUsage, "--markdown goes with --table and without --json");
  const TrainingQuestion training{parse_tokens(options.tokens), options.gpu};
  if (options.table) return run_table(options, training);

  if (model::is_encoder_decoder(options.path)) return run_encoder_decoder(options);

  // What is wrong is said before anything is measured.
  model::ConfigFile file = model::read_config_file(options.path);
  const plan::WeightFormat* shown = plan::stored_format(file.stored);
  if (!options.type.empty()) shown = &plan::find_weight_format(options.type);
  if (shown == nullptr) shown = &plan::find_weight_format("bf16");

  plan::Machine machine = plan::describe_machine();
  if (options.memory_gib > 0.0) {
    machine.memory_available = static_cast<Index>(options.memory_gib * static_cast<double>(Index{1} << 30));
    machine.memory_total = machine.memory_available;
  }
  machine.bandwidth_measured = options.bandwidth <= 0.0;
  machine.arithmetic_measured = options.gflops <= 0.0;
  machine.bandwidth = options.bandwidth > 0.0 ? options.bandwidth * 1.0e9 : plan::measure_bandwidth();
  machine.arithmetic = options.gflops > 0.0 ? options.gflops * 1.0e9 : plan::measure_arithmetic();
  const plan::ModelPlan plan = plan::plan_model(std::move(file), machine, options.plan);
  if (options.json) {
    fmt::print("{}\n", plan_json(plan, training).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    fmt::print("{}", plan_text(plan, *shown, training));
  }
}

}  // namespace

void add_plan(CLI::App& program, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      program.add_subcommand("plan", "Predict what a model needs and how fast it runs here, from its config alone");
  command->add_option("model", options->path, "Model folder, run folder or a config.json");
  command->add_flag("--table", options->table, "Compare published models instead: sizes and training cost");
  command->add_option("-c,--context", options->plan.context, "Tokens before the one that is generated")
      ->check(CLI::Range(Index{1}, kMost))
      ->capture_default_str();
  command->add_option("--prompt", options->plan.prompt, "Tokens of the prompt that prefill is predicted for")
      ->check(CLI::Range(Index{1}, kMost))
      ->capture_default_str();
  command->add_option("-b,--batch", options->plan.batches, "Numbers of texts generated at once")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(Index{1}, kMost))
      ->capture_default_str();
  command->add_option("--type", options->type, "Data type of the comparisons (default: that of the checkpoint)");
  command->add_option("--memory", options->memory_gib, "Plan for a machine with so many GiB free")
      ->check(CLI::Range(0.001, 1.0e9));
  command->add_option("--bandwidth", options->bandwidth, "... that reads so many GB/s, instead of measuring")
      ->check(CLI::Range(1.0e-3, 1.0e9));
  command->add_option("--gflops", options->gflops, "... that computes so many float32 GFLOP/s, instead of measuring")
      ->check(CLI::Range(1.0e-3, 1.0e12));
  command->add_option("--tokens", options->tokens, "Tokens of training, where none are published: 300B, 14.8T")
      ->capture_default_str();
  command
      ->add_option("--gpu-tflops", options->gpu.tflops, "Peak of the GPU, TFLOP/s (H100 and H800 SXM, dense bf16: 989)")
      ->check(CLI::Range(1.0e-3, 1.0e9))
      ->capture_default_str();
  command->add_option("--utilisation", options->gpu.utilisation, "Share of that peak that training reaches")
      ->check(CLI::Range(0.001, 1.0))
      ->capture_default_str();
  add_threads(*command, options->threads);
  add_json(*command, options->json);
  command->add_flag("--markdown", options->markdown, "Print the table of --table as Markdown");
  command->footer(
      "\nNothing of the weights is read. Speeds come from a measurement of less than a second and are upper bounds.\n"
      "docs/plan.md has the formulas.\n"
      "\nExamples:\n"
      "  switchyard plan Qwen3-30B-A3B/config.json\n"
      "  switchyard plan runs/mine --json\n"
      "  switchyard plan config.json --memory 512 --bandwidth 460 --gflops 4000 -c 32768\n"
      "  switchyard plan --table --tokens 2T --utilisation 0.35\n");
  command->callback(
      [options, &action] { action = [options] { ThreadArena(options->threads).run([&] { run(*options); }); }; });
}

}  // namespace switchyard::cli
