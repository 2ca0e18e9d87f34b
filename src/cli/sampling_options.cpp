#include "sampling_options.hpp"

namespace switchyard::cli {

std::vector<CLI::Option*> add_sampling(CLI::App& command, runtime::SamplingConfig& s) {
  return {
      command.add_option("--temp", s.temperature, "Temperature; 0 = always the likeliest token")->capture_default_str(),
      command.add_option("--top-k", s.top_k, "Keep the k likeliest tokens; 0 = all")->capture_default_str(),
      command.add_option("--top-p", s.top_p, "Keep the likeliest tokens that make up p; 1 = all")
          ->capture_default_str(),
      command.add_option("--min-p", s.min_p, "Keep tokens at least this likely against the likeliest; 0 = all")
          ->capture_default_str(),
      command.add_option("--repeat-penalty", s.repeat_penalty, "Penalty on tokens seen lately; 1 = none")
          ->capture_default_str(),
      command.add_option("--repeat-last-n", s.repeat_last, "How many tokens back the penalty looks")
          ->capture_default_str(),
      command.add_option("-s,--seed", s.seed, "Same seed, same text")->capture_default_str()};
}

void add_context(CLI::App& command, Index& context, Index& batch) {
  command.add_option("-c,--ctx-size", context, "Tokens the model sees; 0 = what it was made for")
      ->check(CLI::Range(Index{0}, Index{1} << 24))
      ->capture_default_str();
  command.add_option("-b,--batch-size", batch, "Tokens of the prompt read at a time")
      ->check(CLI::Range(Index{1}, Index{1} << 20))
      ->capture_default_str();
}

void add_allow_non_causal(CLI::App& command, bool& allow) {
  command.add_flag("--allow-non-causal", allow,
                   "Generate also with a model whose routing looks at later tokens (expert choice)");
}

}  // namespace switchyard::cli
