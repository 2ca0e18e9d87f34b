#pragma once
// The program's commands. Each file adds one; only this folder prints and exits.

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "switchyard/runtime/engine.hpp"

namespace switchyard::cli {

// What to do once the command line is known. Set by the command that the user chose; throws Error.
using Action = std::function<void()>;

// Thrown by an action that a signal ended before its work was done, when all is saved and said. The program then exits
// with 128 + signal, as a shell reports it, so that a script does not go on as if the work were done.
struct Interrupted {
  int signal = 0;
};

void add_train(CLI::App& program, Action& action);
void add_generate(CLI::App& program, Action& action);
void add_perplexity(CLI::App& program, Action& action);
void add_inspect(CLI::App& program, Action& action);
void add_doctor(CLI::App& program, Action& action);
void add_logits(CLI::App& program, Action& action);
void add_tokenize(CLI::App& program, Action& action);
void add_presets(CLI::App& program, Action& action);
void add_report(CLI::App& program, Action& action);
void add_lab(CLI::App& program, Action& action);
void add_plan(CLI::App& program, Action& action);
void add_convert(CLI::App& program, Action& action);
void add_run(CLI::App& program, Action& action);
void add_template(CLI::App& program, Action& action);

// -t, shared by all commands that compute.
void add_threads(CLI::App& command, int& threads);
// -m, required.
void add_model(CLI::App& command, std::string& model);
// --json.
void add_json(CLI::App& command, bool& json);

// -m with --no-mmap, for commands that run a model.
struct ModelOptions {
  std::string path;
  bool no_mmap = false;
};
void add_model(CLI::App& command, ModelOptions& model);

// The ids of a text as the model was trained to see it: with the begin token in front where its tokenizer puts one.
std::vector<std::int32_t> encode_prompt(const text::Tokenizer& tokenizer, std::string_view text);
// The ids of a text for an encoder: with the end token behind it where its tokenizer puts one.
std::vector<std::int32_t> encode_source(const text::Tokenizer& tokenizer, std::string_view text);
// kBadInput where more positions are asked for than the model was made for.
void check_context(Index context, const runtime::Engine& engine);

// The text of a file, or of standard input where the name is "-".
std::string read_text(const std::string& file);

}  // namespace switchyard::cli
