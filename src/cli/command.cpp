#include "command.hpp"

#include <iostream>
#include <iterator>

#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::cli {

void add_threads(CLI::App& command, int& threads) {
  command.add_option("-t,--threads", threads, "Threads to use; 0 = every core")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
}

void add_model(CLI::App& command, std::string& model) {
  command
      .add_option("-m,--model", model,
                  "A model folder (config.json, safetensors, tokenizer), a GGUF file, or a run of `train`")
      ->required();
}

void add_model(CLI::App& command, ModelOptions& model) {
  add_model(command, model.path);
  command.add_flag("--no-mmap", model.no_mmap, "Read the weights into memory at once instead of mapping their files");
}

std::vector<std::int32_t> encode_prompt(const text::Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::int32_t> ids = tokenizer.encode(text);
  const auto begin = tokenizer.add_bos() ? tokenizer.bos_id() : std::nullopt;
  // A text may spell the token itself.
  if (begin && (ids.empty() || ids.front() != *begin)) ids.insert(ids.begin(), *begin);
  return ids;
}

std::vector<std::int32_t> encode_source(const text::Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::int32_t> ids = tokenizer.encode(text);
  const auto end = tokenizer.add_eos() ? tokenizer.eos_id() : std::nullopt;
  if (end && (ids.empty() || ids.back() != *end)) ids.push_back(*end);
  return ids;
}

void check_context(Index context, const runtime::Engine& engine) {
  const Index most = engine.config().max_positions;
  if (context > most)
    fail(ErrorKind::kBadInput, "{} positions: {} was made for at most {}", context, engine.folder().string(), most);
}

void add_json(CLI::App& command, bool& json) {
  command.add_flag("--json", json, "Print JSON on standard output, for scripts");
}

std::string read_text(const std::string& file) {
  if (file != "-") return read_file(file, std::size_t{1} << 34);
  return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

}  // namespace switchyard::cli
