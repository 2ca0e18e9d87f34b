#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>

#include "command.hpp"
#include "switchyard/base/error.hpp"

namespace {

constexpr const char* kAbout =
    "switchyard trains Mixture-of-Experts language models, runs them, and shows what every expert does.\n";
constexpr const char* kExamples =
    "\nStart here:\n"
    "  switchyard train recipes/quickstart.toml --out runs/mine\n"
    "  switchyard generate -m runs/mine -p \"In the beginning\" -n 100\n"
    "  switchyard inspect -m runs/mine -f some-text.txt\n"
    "\n`switchyard COMMAND --help` explains each. Exit codes: 0 done, 1 failed, 2 wrong usage,\n"
    "130 interrupted (Ctrl-C; a training run is saved first).\n";

int run(int argc, char** argv) {
  using namespace switchyard;
  // The name as it was called, so that the commands we suggest can be pasted.
  CLI::App program(kAbout, argc > 0 ? argv[0] : "switchyard");
  program.set_version_flag("--version", SWITCHYARD_VERSION);
  program.footer(kExamples);
  program.require_subcommand(1);
  program.get_formatter()->column_width(34);
  cli::Action action;
  cli::add_train(program, action);
  cli::add_generate(program, action);
  cli::add_run(program, action);
  cli::add_perplexity(program, action);
  cli::add_inspect(program, action);
  cli::add_doctor(program, action);
  cli::add_logits(program, action);
  cli::add_tokenize(program, action);
  cli::add_presets(program, action);
  cli::add_report(program, action);
  cli::add_lab(program, action);
  cli::add_plan(program, action);
  cli::add_convert(program, action);
  cli::add_template(program, action);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // Without this, CLI11 would say that a command is missing.
    const bool is_command = argc > 1 && argv[1][0] != '-';
    if (is_command && program.get_subcommands().empty()) {
      fmt::print(stderr, "switchyard: unknown command '{}'; `switchyard --help` lists them\n", argv[1]);
      return 2;
    }
    // --help and --version come this way too, with code 0.
    return program.exit(error) == 0 ? 0 : 2;
  }
  try {
    action();
    if (std::fflush(stdout) == 0) return 0;
    fmt::print(stderr, "switchyard: cannot write to standard output: {}\n", std::strerror(errno));
  } catch (const cli::Interrupted& interrupted) {
    std::fflush(stdout);
    return 128 + interrupted.signal;
  } catch (const Error& error) {
    fmt::print(stderr, "switchyard: {}{}\n", error.kind() == ErrorKind::kInternal ? "internal error (a bug): " : "",
               error.what());
    return error.kind() == ErrorKind::kUsage ? 2 : 1;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "switchyard: out of memory\n");
  } catch (const std::exception& error) {
    fmt::print(stderr, "switchyard: {}\n", error.what());
  }
  return 1;
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv); }
