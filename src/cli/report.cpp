#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "command.hpp"
#include "run_summary.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::cli {
namespace {

struct Options {
  std::string run, output;
  int threads = 0;
  bool json = false;
};

void run(const Options& options) {
  const RunSummary summary = summarize_run(options.run);
  const std::filesystem::path target = options.output.empty() ? std::filesystem::path(options.run) / "report.html"
                                                              : std::filesystem::path(options.output);
  write_run_report(options.run, target, summary);
  if (!options.json) {
    fmt::print("{}\n", target.string());
    return;
  }
  nlohmann::ordered_json json{{"report", target.string()}};
  json.update(summary_json(summary));
  fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace

void add_report(CLI::App& program, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("report", "Write a run's report.html again, from its last checkpoint");
  command->add_option("run", options->run, "The run's folder")->required();
  command->add_option("-o,--output", options->output, "The page to write (default: report.html in the run's folder)");
  add_threads(*command, options->threads);
  add_json(*command, options->json);
  command->callback(
      [options, &action] { action = [options] { ThreadArena(options->threads).run([&] { run(*options); }); }; });
}

}  // namespace switchyard::cli
