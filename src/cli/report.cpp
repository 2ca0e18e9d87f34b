#include <fmt/format.h>

#include "command.hpp"
#include "run_summary.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::cli {
namespace {

struct Options {
  std::string run, output;
  int threads = 0;
};

void run(const Options& options) {
  const RunSummary summary = summarize_run(options.run);
  const std::filesystem::path target = options.output.empty() ? std::filesystem::path(options.run) / "report.html"
                                                              : std::filesystem::path(options.output);
  write_run_report(options.run, target, summary);
  fmt::print("{}\n", target.string());
}

}  // namespace

void add_report(CLI::App& program, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("report", "Write a run's report.html again, from its last checkpoint");
  command->add_option("run", options->run, "The run's folder")->required();
  command->add_option("-o,--output", options->output, "The page to write (default: report.html in the run's folder)");
  add_threads(*command, options->threads);
  command->callback(
      [options, &action] { action = [options] { ThreadArena(options->threads).run([&] { run(*options); }); }; });
}

}  // namespace switchyard::cli
