#include <fmt/format.h>

#include "command.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/formats/npy.hpp"
#include "switchyard/runtime/engine.hpp"
#include "switchyard/runtime/text_to_text.hpp"

namespace switchyard::cli {
namespace {

struct Options {
  ModelOptions model;
  std::string prompt, output;
  std::vector<std::int32_t> tokens, decoder_tokens;
  int threads = 0;
};

void write(const Options& options, const Tensor& logits) {
  formats::write_npy(options.output, logits);
  fmt::print("{}: float32 {}\n", options.output, logits.shape().to_string());
}

// Of the decoder, after the encoder has read the tokens or the text.
void run_text_to_text(const Options& options) {
  const auto engine = runtime::TextToText::load(options.model.path, !options.model.no_mmap);
  const model::EncoderDecoder& model = engine->model();
  const std::vector<std::int32_t> source =
      options.tokens.empty() ? encode_source(engine->tokenizer(), options.prompt) : options.tokens;
  if (source.empty()) fail(ErrorKind::kUsage, "no tokens: give --tokens or a text with -p");
  std::vector<std::int32_t> written = options.decoder_tokens;
  if (written.empty()) written.push_back(model.config().start_id);
  model::DecoderState state(model.config(), model.remember(model.encode(source).matrix()));
  model::DecoderState* const states[] = {&state};
  write(options, model.logits(model.decode(written, states).matrix()));
}

void run(const Options& options) {
  if (model::is_encoder_decoder(options.model.path)) return run_text_to_text(options);
  if (!options.decoder_tokens.empty())
    fail(ErrorKind::kUsage, "--decoder-tokens: {} is no encoder-decoder", options.model.path);
  const auto engine = runtime::Engine::load(options.model.path, !options.model.no_mmap);
  const std::vector<std::int32_t> ids =
      options.tokens.empty() ? encode_prompt(engine->tokenizer(), options.prompt) : options.tokens;
  if (ids.empty()) fail(ErrorKind::kUsage, "no tokens: give --tokens or a text with -p");
  model::check_ids(ids, engine->config().vocab);
  check_context(static_cast<Index>(ids.size()), *engine);
  model::ForwardCall call;
  call.sequence = static_cast<Index>(ids.size());
  const auto result = engine->transformer().forward(ids, call);
  write(options, engine->transformer().logits(result.hidden_TD.matrix()));
}

}  // namespace

void add_logits(CLI::App& program, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      program.add_subcommand("logits", "Write a model's logits for given tokens as NPY, to compare engines");
  add_model(*command, options->model);
  auto* tokens = command->add_option("--tokens", options->tokens, "Token ids, 1,2,3")->delimiter(',');
  command->add_option("-p,--prompt", options->prompt, "A text instead of ids")->excludes(tokens);
  command
      ->add_option("--decoder-tokens", options->decoder_tokens,
                   "Of an encoder-decoder: what the decoder has written, its start token first (default: that alone)")
      ->delimiter(',');
  command->add_option("-o,--output", options->output, "The file to write: [T, V] float32")->required();
  add_threads(*command, options->threads);
  command->callback(
      [options, &action] { action = [options] { ThreadArena(options->threads).run([&] { run(*options); }); }; });
}

}  // namespace switchyard::cli
