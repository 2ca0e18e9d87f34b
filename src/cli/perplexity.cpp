#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "command.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/base/progress.hpp"
#include "switchyard/model/score_tokens.hpp"
#include "switchyard/runtime/engine.hpp"

namespace switchyard::cli {
namespace {

struct Options {
  ModelOptions model;
  std::string file;
  Index context = 0, batch = 8;
  int threads = 0;
  bool json = false;
};

void run(const Options& options) {
  const std::string text = read_text(options.file);
  const auto engine = runtime::Engine::load(options.model.path, !options.model.no_mmap);
  check_context(options.context, *engine);
  const auto ids = encode_prompt(engine->tokenizer(), text);
  if (ids.size() < 2) {
    fail(ErrorKind::kBadInput, "{}: {} tokens, expected 2 or more", options.file, ids.size());
  }
  model::ScoreOptions how;
  how.window = options.context == 0 ? engine->config().max_positions : options.context;
  how.window = std::min(how.window, static_cast<Index>(ids.size()));
  how.batch = std::max<Index>(1, std::min(options.batch, Index{8192} / how.window));
  ProgressLine line("perplexity", static_cast<std::uint64_t>(ceil_div(static_cast<Index>(ids.size()) - 1, how.window)));
  how.progress = [&](std::uint64_t done, std::uint64_t) { line.update(done); };
  const model::TokenScore score = model::score_tokens(engine->transformer(), ids, how);
  line.clear();

  const double nats = score.nats / static_cast<double>(score.targets);
  // All bytes of the text are paid for by the scored tokens; the first token is given.
  const double bits_per_byte = score.nats / std::numbers::ln2 / static_cast<double>(text.size());
  if (options.json) {
    nlohmann::ordered_json json;
    json["file"] = options.file;
    json["perplexity"] = std::exp(nats);
    json["nats_per_token"] = nats;
    json["bits_per_byte"] = bits_per_byte;
    json["tokens"] = score.targets;
    json["bytes"] = text.size();
    json["window"] = how.window;
    fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    return;
  }
  fmt::print("perplexity     {:.4f}  ({:.4f} nats a token)\nbits per byte  {:.4f}\n", std::exp(nats), nats,
             bits_per_byte);
  fmt::print("{} tokens of {} in windows of {}\n", score.targets, format_bytes(text.size()), how.window);
}

}  // namespace

void add_perplexity(CLI::App& program, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("perplexity", "How well a model predicts a text");
  add_model(*command, options->model);
  command->add_option("file", options->file, "The text (- = standard input)")->required();
  command->add_option("-c,--ctx-size", options->context, "Tokens a window; 0 = what the model was made for")
      ->check(CLI::Range(Index{0}, Index{1} << 24))
      ->capture_default_str();
  command->add_option("-b,--batch", options->batch, "Most windows at a time")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  add_threads(*command, options->threads);
  add_json(*command, options->json);
  command->footer(
      "\nEach window starts without context, so longer windows give lower figures. Bits per byte compare models with\n"
      "different tokenizers; perplexity does not.\n");
  command->callback(
      [options, &action] { action = [options] { ThreadArena(options->threads).run([&] { run(*options); }); }; });
}

}  // namespace switchyard::cli
