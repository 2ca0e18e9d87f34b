#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "answer_text.hpp"
#include "command.hpp"
#include "drafts.hpp"
#include "sampling_options.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/runtime/engine.hpp"
#include "switchyard/runtime/text_to_text.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::cli {
namespace {

struct Options {
  ModelOptions model;
  std::string prompt, file;
  Index tokens = 128, context = 0, batch = 512, draft = 0;
  runtime::SamplingConfig sampling;
  runtime::BeamOptions beam;
  bool sampled = false, beams_given = false;  // some option of sampling, or of the beam search, was given
  int threads = 0;
  bool json = false, no_echo = false, allow_non_causal = false;
};

double rate(Index tokens, double seconds) { return seconds > 0.0 ? static_cast<double>(tokens) / seconds : 0.0; }

// Where the new text goes: to the terminal as it comes, or with --json into one object at the end.
class Output {
 public:
  Output(const Options& options, std::string prompt)
      : json_(options.json), draft_(options.draft > 0), prompt_(std::move(prompt)) {}

  void add(const std::string& piece) {
    if (json_) {
      text_ += piece;
      return;
    }
    fmt::print("{}", piece);
    std::fflush(stdout);
  }

  // `decoded`: tokens that decode_seconds were spent on.
  void finish(const std::vector<std::int32_t>& prompt_ids, const runtime::Generation& result, Index decoded,
              bool scored = false) const {
    const double prefill = rate(result.prompt_tokens, result.prefill_seconds);
    const double decode = rate(decoded, result.decode_seconds);
    const DraftFigures drafts(result.drafts, decoded);
    if (json_) {
      nlohmann::ordered_json json;
      json["prompt"] = text::replace_invalid_utf8(prompt_);
      json["text"] = text_;
      json["prompt_ids"] = prompt_ids;
      json["ids"] = result.ids;
      json["ended"] = result.ended;
      if (scored) json["score"] = result.score;
      json["prefill_tokens_per_second"] = prefill;
      json["decode_tokens_per_second"] = decode;
      if (draft_)
        json["draft"] = {{"guessed", drafts.guessed},
                         {"accepted", drafts.accepted},
                         {"acceptance", drafts.acceptance},
                         {"tokens_per_pass", drafts.tokens_per_pass}};
      fmt::print("{}\n", json.dump());
      return;
    }
    fmt::print("\n");
    if (::isatty(STDERR_FILENO) != 1 && !draft_) return;
    fmt::print(stderr, "\n{} prompt tokens at {:.0f}/s, {} new tokens at {:.0f}/s{}\n", result.prompt_tokens, prefill,
               result.ids.size(), decode, result.ended ? ", ended by the model" : "");
    if (draft_) fmt::print(stderr, "{}\n", drafts_text(drafts));
  }

 private:
  bool json_, draft_;
  std::string prompt_, text_;
};

// An encoder-decoder answers a text instead of continuing it.
void run_text_to_text(const Options& options, const std::string& prompt) {
  const auto engine = runtime::TextToText::load(options.model.path, !options.model.no_mmap);
  const text::Tokenizer& tokenizer = engine->tokenizer();
  const auto source = encode_source(tokenizer, prompt);
  AnswerText decoder(tokenizer);
  Output output(options, prompt);
  runtime::Generation result;
  const bool beams = options.beam.beams > 1;
  if (beams) {
    runtime::BeamOptions how = options.beam;
    how.max_tokens = options.tokens;
    how.ends = tokenizer.end_ids();
    how.vocab = tokenizer.vocab_size();
    result = runtime::beam_search(engine->model(), source, how);
    for (const std::int32_t id : result.ids) output.add(decoder.push(id));
  } else {
    // As such models are used; sampling has to be asked for.
    runtime::SamplingConfig sampling = options.sampling;
    if (!options.sampled) sampling.temperature = 0.0F;
    runtime::Sampler sampler(sampling);
    runtime::GenerateOptions how;
    how.max_tokens = options.tokens;
    how.ends = tokenizer.end_ids();
    how.vocab = tokenizer.vocab_size();
    how.on_token = [&](std::int32_t id) {
      output.add(decoder.push(id));
      return true;
    };
    result = runtime::answer(engine->model(), source, sampler, how);
  }
  output.add(decoder.finish());
  output.finish(source, result, static_cast<Index>(result.ids.size()) + (result.ended ? 1 : 0), beams);
}

void run(const Options& options) {
  options.sampling.validate();
  std::string prompt = options.prompt;
  if (!options.file.empty()) prompt = read_text(options.file);
  if (options.beam.beams > 1 && options.sampled)
    fail(ErrorKind::kUsage,
         "--beams goes without sampling: leave --temp, --top-k, --top-p, --min-p, --seed and the "
         "penalties out");
  if (model::is_encoder_decoder(options.model.path)) {
    if (options.draft > 0)
      fail(ErrorKind::kUsage, "--draft: {} is an encoder-decoder, which has no layer for multi-token prediction",
           options.model.path);
    return run_text_to_text(options, prompt);
  }
  if (options.beams_given)
    fail(ErrorKind::kUsage, "--beams: {} is no encoder-decoder, for which alone beam search is made",
         options.model.path);
  const auto engine = runtime::Engine::load(options.model.path, !options.model.no_mmap, options.draft > 0);
  check_context(options.context, *engine);
  if (!options.allow_non_causal) runtime::require_causal(engine->transformer().config());
  const text::Tokenizer& tokenizer = engine->tokenizer();
  const auto ids = encode_prompt(tokenizer, prompt);
  runtime::Session session(engine->transformer(), options.context, options.batch);
  runtime::Sampler sampler(options.sampling);
  text::StreamDecoder decoder(tokenizer);
  Output output(options, prompt);
  if (!options.json && !options.no_echo) fmt::print("{}", prompt);

  runtime::GenerateOptions how;
  how.max_tokens = options.tokens;
  how.draft = options.draft;
  how.allow_non_causal = options.allow_non_causal;
  // A model without a begin token starts from its first id: an empty prompt is then a free sample.
  how.begin = tokenizer.bos_id().value_or(0);
  how.ends = tokenizer.end_ids();
  how.vocab = tokenizer.vocab_size();
  how.on_token = [&](std::int32_t id) {
    output.add(decoder.push(id));
    return true;
  };
  const runtime::Generation result = runtime::generate(session, ids, sampler, how);
  output.add(decoder.finish());
  // The first token needs no pass of its own; the end token is none of the ids.
  output.finish(ids, result, std::max<Index>(0, static_cast<Index>(result.ids.size()) - (result.ended ? 0 : 1)));
}

}  // namespace

void add_generate(CLI::App& program, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("generate", "Continue a text");
  add_model(*command, options->model);
  auto* prompt = command->add_option("-p,--prompt", options->prompt, "The text to continue; empty = a free sample");
  command->add_option("-f,--file", options->file, "Read the prompt from a file (- = standard input)")->excludes(prompt);
  command->add_option("-n,--predict", options->tokens, "Most tokens to generate")
      ->check(CLI::Range(Index{0}, Index{1} << 30))
      ->capture_default_str();
  add_context(*command, options->context, options->batch);
  const std::vector<CLI::Option*> sampling = add_sampling(*command, options->sampling);
  runtime::BeamOptions& beam = options->beam;
  beam.beams = 1;
  const std::vector<CLI::Option*> beams = {
      command->add_option("--beams", beam.beams, "Of an encoder-decoder: texts followed at once; 1 = no beam search")
          ->check(CLI::Range(Index{1}, Index{4096}))
          ->capture_default_str(),
      command
          ->add_option("--length-penalty", beam.length_penalty,
                       "Of a beam search: log p is divided by length to this power; above 0 favours long texts")
          ->capture_default_str(),
      command->add_flag("--early-stopping", beam.early_stopping,
                        "Of a beam search: stop once as many texts as beams have ended")};
  command->add_flag("--no-echo", options->no_echo, "Do not print the prompt before its continuation");
  add_draft(*command, options->draft);
  add_allow_non_causal(*command, options->allow_non_causal);
  add_threads(*command, options->threads);
  add_json(*command, options->json);
  command->footer(
      "\nAn encoder-decoder (Switch Transformer) answers the text instead of continuing it: greedily unless an option "
      "of\n"
      "sampling or --beams is given, sentinel tokens shown. --ctx-size, --batch-size, --no-echo and --draft are not "
      "for it.\n"
      "\n--draft N: a pass then reads a token and N guesses of what follows, and so the weights, which decoding waits "
      "for,\n"
      "once for as many tokens as were guessed right and one more. How many that are is shown. 1 is a good start: the\n"
      "layer is trained for the first guess.\n"
      "\nExamples:\n"
      "  switchyard generate -m runs/quickstart -p \"And the Lord said\" -n 200 --temp 0.7\n"
      "  switchyard generate -m GLM-4.5-Air -f letter.txt --draft 1\n"
      "  switchyard generate -m switch-base-8 -p \"A <extra_id_0> walks into a bar\" --beams 4\n");
  command->callback([options, sampling, beams, &action] {
    const auto given = [](const CLI::Option* option) { return option->count() > 0; };
    options->sampled = std::any_of(sampling.begin(), sampling.end(), given);
    options->beams_given = std::any_of(beams.begin(), beams.end(), given);
    action = [options] { ThreadArena(options->threads).run([&] { run(*options); }); };
  });
}

}  // namespace switchyard::cli
