#include "command.hpp"

#include <iostream>
#include <iterator>

#include "switchyard/base/atomic_file.hpp"

namespace switchyard::cli {

void add_threads(CLI::App& command, int& threads) {
  command.add_option("-t,--threads", threads, "Threads to use; 0 = every core")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
}

void add_model(CLI::App& command, std::string& model) {
  command.add_option("-m,--model", model, "Model folder (config.json, safetensors, tokenizer), or a run of `train`")
      ->required();
}

void add_json(CLI::App& command, bool& json) {
  command.add_flag("--json", json, "Print JSON on standard output, for scripts");
}

std::string read_text(const std::string& file) {
  if (file != "-") return read_file(file, std::size_t{1} << 34);
  return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

}  // namespace switchyard::cli
