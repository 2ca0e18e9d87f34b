#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "command.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/model/checkpoint.hpp"
#include "switchyard/model/model_folder.hpp"
#include "switchyard/text/chat_template.hpp"

namespace switchyard::cli {
namespace {

struct Options {
  std::string model, file, builtin, messages, date;
  std::vector<std::string> special;
  bool no_generation_prompt = false;
};

text::SpecialTexts special_texts(const std::vector<std::string>& given) {
  text::SpecialTexts result;
  for (const std::string& one : given) {
    const std::size_t equals = one.find('=');
    if (equals == std::string::npos) fail(ErrorKind::kUsage, "--special {}: expected NAME=TEXT", one);
    result.emplace_back(one.substr(0, equals), one.substr(equals + 1));
  }
  return result;
}

text::ChatTemplate find_template(const Options& options) {
  auto special = special_texts(options.special);
  if (!options.file.empty()) return text::ChatTemplate::parse(read_text(options.file), options.file, special);
  if (!options.builtin.empty()) return text::ChatTemplate::builtin(options.builtin, special);
  if (options.model.empty()) fail(ErrorKind::kUsage, "expected one of --model, --file and --template");
  const auto folder = model::find_model_folder(options.model);
  auto found = model::load_model_chat_template(folder);
  if (!found) {
    fail(ErrorKind::kNotFound,
         "{}: no chat template; looked for chat_template.jinja, for chat_template in tokenizer_config.json and "
         "chat_template.json, and for tokenizer.chat_template in a GGUF file",
         folder.string());
  }
  return *found;
}

// The file holds the messages, or a request with "messages" and what else the template sees.
text::ChatInput read_input(const Options& options) {
  const std::string content = read_text(options.messages);
  text::ChatInput input;
  input.add_generation_prompt = !options.no_generation_prompt;
  auto json = nlohmann::ordered_json::parse(content, nullptr, false);
  if (!json.is_object()) {
    input.messages = content;
    return input;
  }
  const auto take = [&](const char* key) {
    const auto found = json.find(key);
    if (found == json.end()) return std::string();
    std::string text = found->dump();
    json.erase(found);
    return text;
  };
  input.messages = take("messages");
  if (input.messages.empty()) fail(ErrorKind::kBadInput, "{}: has no \"messages\"", options.messages);
  input.tools = take("tools");
  input.documents = take("documents");
  if (const auto found = json.find("add_generation_prompt"); found != json.end()) {
    if (!found->is_boolean())
      fail(ErrorKind::kBadInput, "{}: add_generation_prompt is not true or false", options.messages);
    input.add_generation_prompt = *found && !options.no_generation_prompt;
    json.erase(found);
  }
  input.variables = json.dump();
  return input;
}

void run(const Options& options) {
  text::ChatInput input = read_input(options);
  if (!options.date.empty()) {
    std::tm date{};
    const char* end = ::strptime(options.date.c_str(), "%Y-%m-%d", &date);
    if (end == nullptr || *end != '\0') fail(ErrorKind::kUsage, "--date {}: expected YYYY-MM-DD", options.date);
    input.now = date;
  }
  fmt::print("{}", find_template(options).render(input).text);
}

}  // namespace

void add_template(CLI::App& program, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      program.add_subcommand("template", "Show the prompt that a chat template makes of a conversation");
  auto* model = command->add_option("-m,--model", options->model, "Model folder, GGUF file, or a run of `train`");
  auto* file = command->add_option("--file", options->file, "A Jinja template (- = standard input)")->excludes(model);
  command->add_option("--template", options->builtin, "One of the program's own, as `run` takes them")
      ->excludes(model)
      ->excludes(file);
  command
      ->add_option("--messages", options->messages,
                   "JSON: a list of messages, or an object with \"messages\", \"tools\" and other variables "
                   "(- = standard input)")
      ->required();
  command->add_option("--special", options->special, "NAME=TEXT, such as bos_token=<s>; may be repeated")
      ->allow_extra_args(false);
  command->add_option("--date", options->date, "YYYY-MM-DD, for templates that ask for today's date");
  command->add_flag("--no-generation-prompt", options->no_generation_prompt,
                    "Do not open the answer behind the last message");
  command->callback([options, &action] { action = [options] { run(*options); }; });
}

}  // namespace switchyard::cli
