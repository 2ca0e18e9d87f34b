#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "command.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/base/progress.hpp"
#include "switchyard/model/examine.hpp"
#include "switchyard/model/model_folder.hpp"

namespace switchyard::cli {
namespace {

struct Options {
  std::string model;
  bool no_values = false, json = false;
  int threads = 0;
};

const char* name_of(model::Level level) {
  switch (level) {
    case model::Level::kFine:
      return "ok";
    case model::Level::kNote:
      return "note";
    case model::Level::kProblem:
      return "PROBLEM";
  }
  return "";
}

void print(const std::string& folder, const model::Examination& found) {
  fmt::print("{}\n", folder);
  for (const model::Finding& finding : found.findings)
    fmt::print("  {:<8} {:<10} {}\n", name_of(finding.level), finding.check, finding.text);
  if (!found.routing.empty()) {
    fmt::print("\nHow a token finds its experts, and why\n");
    for (const model::RouterReason& reason : found.routing) {
      fmt::print("  {:<10} {}\n", reason.step.aspect, reason.step.text);
      fmt::print("             {}\n", reason.keys.empty()
                                          ? fmt::format("always so for model_type {}", found.model_type)
                                          : fmt::format("config.json: {}", fmt::join(reason.keys, ", ")));
    }
  }
  const std::size_t problems = found.problems();
  fmt::print("\n{}\n", problems == 0 ? "Sound." : fmt::format("{} problem{}.", problems, problems == 1 ? "" : "s"));
}

void print_json(const std::string& folder, const model::Examination& found) {
  nlohmann::ordered_json json;
  json["folder"] = folder;
  json["model_type"] = found.model_type;
  json["problems"] = found.problems();
  json["findings"] = nlohmann::json::array();
  for (const model::Finding& finding : found.findings)
    json["findings"].push_back({{"level", finding.level == model::Level::kProblem ? "problem" : name_of(finding.level)},
                                {"check", finding.check},
                                {"text", finding.text}});
  json["routing"] = nlohmann::json::array();
  for (const model::RouterReason& reason : found.routing)
    json["routing"].push_back({{"aspect", reason.step.aspect}, {"text", reason.step.text}, {"keys", reason.keys}});
  fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

void run(const Options& options) {
  const auto folder = model::find_model_folder(options.model);
  std::optional<ProgressLine> line;
  model::ExamineOptions how;
  how.values = !options.no_values;
  how.progress = [&](std::uint64_t done, std::uint64_t bytes) {
    if (!line) line.emplace("reading", bytes);
    line->update(done);
  };
  const model::Examination found = model::examine(folder, how);
  line.reset();
  if (options.json)
    print_json(folder.string(), found);
  else
    print(folder.string(), found);
  if (const std::size_t problems = found.problems(); problems > 0)
    fail(ErrorKind::kBadInput, "{}: {} problem{} found", folder.string(), problems, problems == 1 ? "" : "s");
}

}  // namespace

void add_doctor(CLI::App& program, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("doctor", "Check a model, and say how it will route and why");
  command->add_option("model,-m,--model", options->model, "A model folder, a GGUF file or a training run")->required();
  command->add_flag("--no-values", options->no_values, "Do not read all weights to look for NaN and infinity");
  add_threads(*command, options->threads);
  add_json(*command, options->json);
  command->footer(
      "\nLooks at the config, every tensor's name, shape and type, every number, and the tokenizer. Exits with 1 "
      "where\n"
      "there is a problem. The routing lines name the keys of config.json that decide each step: they were found by\n"
      "changing each key and reading the config again.\n");
  command->callback(
      [options, &action] { action = [options] { ThreadArena(options->threads).run([&] { run(*options); }); }; });
}

}  // namespace switchyard::cli
