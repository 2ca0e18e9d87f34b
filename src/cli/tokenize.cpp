#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "command.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/model/checkpoint.hpp"
#include "switchyard/model/model_folder.hpp"
#include "switchyard/text/tokenizer.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::cli {
namespace {

struct Options {
  std::string model, prompt, file;
  std::vector<std::int32_t> decode;
  bool plain = false, json = false;
};

// A folder with a tokenizer alone is enough here.
std::filesystem::path tokenizer_folder(const std::filesystem::path& path) {
  if (text::has_tokenizer(path)) return path;
  return model::find_model_folder(path);
}

nlohmann::ordered_json about(const text::Tokenizer& tokenizer) {
  nlohmann::ordered_json json;
  json["kind"] = tokenizer.kind();
  json["vocab_size"] = tokenizer.vocab_size();
  json["bos_id"] = tokenizer.bos_id() ? nlohmann::json(*tokenizer.bos_id()) : nlohmann::json();
  json["end_ids"] = tokenizer.end_ids();
  json["add_bos"] = tokenizer.add_bos();
  json["add_eos"] = tokenizer.add_eos();
  return json;
}

// A token on one line: quotes, control characters and stray bytes are escaped.
std::string shown(const std::string& bytes) {
  return nlohmann::json(bytes).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void run(const Options& options) {
  const auto tokenizer = model::load_model_tokenizer(tokenizer_folder(options.model));
  if (!options.decode.empty()) {
    const std::string text = tokenizer->decode(options.decode);
    if (options.json) {
      fmt::print("{}\n", nlohmann::ordered_json{{"text", text::replace_invalid_utf8(text)}}.dump());
    } else {
      fmt::print("{}\n", text);
    }
    return;
  }
  const std::string text = options.file.empty() ? options.prompt : read_text(options.file);
  const auto ids = options.plain ? tokenizer->encode_plain(text) : tokenizer->encode(text);
  if (options.json) {
    nlohmann::ordered_json json;
    json["ids"] = ids;
    json["tokens"] = nlohmann::json::array();
    for (const std::int32_t id : ids) json["tokens"].push_back(text::replace_invalid_utf8(tokenizer->token_text(id)));
    json["tokenizer"] = about(*tokenizer);
    fmt::print("{}\n", json.dump());
    return;
  }
  for (const std::int32_t id : ids) fmt::print("{:>8}  {}\n", id, shown(tokenizer->token_text(id)));
  fmt::print("{} tokens, {} bytes, {:.2f} bytes a token ({} tokenizer, {} ids)\n", ids.size(), text.size(),
             ids.empty() ? 0.0 : static_cast<double>(text.size()) / static_cast<double>(ids.size()), tokenizer->kind(),
             tokenizer->vocab_size());
  if (tokenizer->add_bos()) {
    fmt::print("the published tokenizer puts {} {} in front\n", *tokenizer->bos_id(),
               shown(tokenizer->token_text(*tokenizer->bos_id())));
  }
  if (tokenizer->add_eos()) {
    fmt::print("the published tokenizer puts {} {} behind\n", *tokenizer->eos_id(),
               shown(tokenizer->token_text(*tokenizer->eos_id())));
  }
}

}  // namespace

void add_tokenize(CLI::App& program, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("tokenize", "Show how a model's tokenizer cuts a text");
  add_model(*command, options->model);
  auto* prompt = command->add_option("-p,--prompt", options->prompt, "The text");
  auto* file = command->add_option("file", options->file, "A file instead (- = standard input)")->excludes(prompt);
  command->add_option("--decode", options->decode, "Turn ids, 1,2,3, back into text")
      ->delimiter(',')
      ->excludes(prompt)
      ->excludes(file);
  command->add_flag("--plain", options->plain, "Take special tokens spelt out in the text for text");
  add_json(*command, options->json);
  command->callback([options, &action] { action = [options] { run(*options); }; });
}

}  // namespace switchyard::cli
