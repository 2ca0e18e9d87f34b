#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <nlohmann/json.hpp>

#include "command.hpp"
#include "routing_text.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/base/progress.hpp"
#include "switchyard/model/describe.hpp"
#include "switchyard/model/score_tokens.hpp"
#include "switchyard/runtime/engine.hpp"
#include "switchyard/runtime/text_to_text.hpp"

namespace switchyard::cli {
namespace {

struct Options {
  ModelOptions model;
  std::string file;
  Index layer = -1;
  int threads = 0;
  bool json = false;
};

void print_parameters(const std::string& folder, const std::string& family, const model::ParameterCounts& counts) {
  fmt::print("{}\n", folder);
  fmt::print("  family      {}\n", family);
  fmt::print("  parameters  {} in all, {} active a token ({:.0f}%), {} of them embedding\n",
             format_count(static_cast<double>(counts.total)), format_count(static_cast<double>(counts.active)),
             100.0 * static_cast<double>(counts.active) / static_cast<double>(counts.total),
             format_count(static_cast<double>(counts.embedding)));
}

void print_model(const runtime::Engine& engine, const model::ParameterCounts& counts) {
  const model::ModelConfig& c = engine.config();
  print_parameters(engine.folder().string(), engine.family(), counts);
  fmt::print("  shape       {} layers, width {}, vocabulary {}{}, {} positions\n", c.layers.size(), c.width, c.vocab,
             c.tied_embeddings ? " (tied)" : "", c.max_positions);
  for (std::size_t begin = 0; begin < c.layers.size();) {
    const std::string text = model::describe(c.layers[begin]);
    std::size_t end = begin + 1;
    while (end < c.layers.size() && model::describe(c.layers[end]) == text) ++end;
    fmt::print("  layer{:<6} {}\n",
               end - begin == 1 ? fmt::format(" {}", begin) : fmt::format("s {}-{}", begin, end - 1), text);
    begin = end;
  }
}

nlohmann::ordered_json model_json(const runtime::Engine& engine, const model::ParameterCounts& counts) {
  const model::ModelConfig& c = engine.config();
  nlohmann::ordered_json json;
  json["folder"] = engine.folder().string();
  json["family"] = engine.family();
  json["parameters"] = {{"total", counts.total}, {"active", counts.active}, {"embedding", counts.embedding}};
  json["vocab"] = c.vocab;
  json["width"] = c.width;
  json["max_positions"] = c.max_positions;
  json["tied_embeddings"] = c.tied_embeddings;
  json["layers"] = nlohmann::ordered_json::array();
  for (const model::LayerConfig& layer : c.layers) {
    nlohmann::ordered_json row{{"heads", layer.attention.heads},
                               {"kv_heads", layer.attention.kv_heads},
                               {"head_dim", layer.attention.head_dim}};
    if (layer.dense) row["hidden"] = layer.dense->hidden;
    if (layer.moe) {
      const moe::MoeConfig& m = *layer.moe;
      row["experts"] = m.router.experts;
      row["top_k"] = m.router.top_k;
      row["expert_hidden"] = m.expert.hidden;
      row["shared_hidden"] = m.shared.hidden;
      row["score"] = m.router.score;
      row["select"] = m.router.select;
      row["normalise"] = m.router.normalise;
      row["scale"] = m.router.scale;
    }
    json["layers"].push_back(std::move(row));
  }
  return json;
}

std::string words_of(const model::FeedForwardConfig& layer) {
  if (layer.moe) return model::describe(*layer.moe);
  return fmt::format("dense FFN {} ({})", layer.dense->hidden, kernels::activation_name(layer.dense->activation));
}

void print_stack(const char* name, const std::vector<model::FeedForwardConfig>& layers) {
  std::map<std::string, std::vector<std::size_t>> kinds;
  for (std::size_t i = 0; i < layers.size(); ++i) kinds[words_of(layers[i])].push_back(i);
  for (const auto& [words, which] : kinds)
    fmt::print("  {:<11} layer{} {}: {}\n", name, which.size() == 1 ? "" : "s", fmt::join(which, ", "), words);
}

nlohmann::ordered_json stack_json(const std::vector<model::FeedForwardConfig>& layers) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const model::FeedForwardConfig& layer : layers) {
    nlohmann::ordered_json row;
    row["hidden"] = layer.dense ? layer.dense->hidden : layer.moe->expert.hidden;
    if (layer.moe) {
      row["experts"] = layer.moe->router.experts;
      row["top_k"] = layer.moe->router.top_k;
    }
    json.push_back(std::move(row));
  }
  return json;
}

void print_routing(const std::string& title, const observe::RoutingProfile& profile, Index layer,
                   const text::Tokenizer& tokenizer) {
  if (profile.layers().empty()) {
    fmt::print("\n{}: no layer has experts\n", title);
    return;
  }
  fmt::print("\n{}\n{}", title, load_table(profile));
  const Index first = profile.layers().begin()->first, last = profile.layers().rbegin()->first;
  for (const auto& [index, of_layer] : profile.layers())
    if (layer >= 0 ? index == layer : index == first || index == last)
      fmt::print("\n{}", favourite_table(profile, index, tokenizer));
}

// A text goes through the encoder, and what the decoder answers to it, greedily, through the decoder.
void run_text_to_text(const Options& options) {
  constexpr Index kAnswer = 128;
  const auto engine = runtime::TextToText::load(options.model.path, !options.model.no_mmap);
  const model::EncoderDecoderConfig& c = engine->config();
  const auto sparse = [&](const std::vector<model::FeedForwardConfig>& stack) {
    return options.layer < static_cast<Index>(stack.size()) && stack[static_cast<std::size_t>(options.layer)].moe;
  };
  if (options.layer >= 0 && !sparse(c.encoder) && !sparse(c.decoder))
    fail(ErrorKind::kUsage, "--layer {}: not a MoE layer of this model", options.layer);
  const model::ParameterCounts counts = model::count_parameters(c);
  nlohmann::ordered_json json;
  if (options.json) {
    json["folder"] = engine->folder().string();
    json["family"] = engine->family();
    json["parameters"] = {{"total", counts.total}, {"active", counts.active}, {"embedding", counts.embedding}};
    json["vocab"] = c.vocab;
    json["width"] = c.width;
    json["heads"] = c.heads;
    json["head_dim"] = c.head_dim;
    json["tied_embeddings"] = c.tied_embeddings;
    json["encoder"] = stack_json(c.encoder);
    json["decoder"] = stack_json(c.decoder);
  } else {
    print_parameters(engine->folder().string(), engine->family(), counts);
    fmt::print("  shape       {} layers of encoder, {} of decoder, width {}, vocabulary {}{}\n", c.encoder.size(),
               c.decoder.size(), c.width, c.vocab, c.tied_embeddings ? " (tied)" : "");
    fmt::print("  attention   {} heads, {} wide, scores not scaled; {} buckets of relative positions up to {}\n",
               c.heads, c.head_dim, c.buckets.buckets, c.buckets.max_distance);
    print_stack("encoder", c.encoder);
    print_stack("decoder", c.decoder);
  }
  if (!options.file.empty()) {
    const text::Tokenizer& tokenizer = engine->tokenizer();
    const auto source = encode_source(tokenizer, read_text(options.file));
    if (source.empty()) fail(ErrorKind::kBadInput, "{}: no tokens", options.file);
    observe::RoutingProfile of_encoder, of_decoder;
    runtime::SamplingConfig greedy;
    greedy.temperature = 0.0F;
    runtime::Sampler sampler(greedy);
    runtime::GenerateOptions how;
    how.max_tokens = kAnswer;
    how.ends = tokenizer.end_ids();
    how.vocab = tokenizer.vocab_size();
    const runtime::Generation written =
        runtime::answer(engine->model(), source, sampler, how, {&of_encoder, &of_decoder});
    if (options.json) {
      json["routing"] = {{"encoder", routing_json(of_encoder, &tokenizer)},
                         {"decoder", routing_json(of_decoder, &tokenizer)}};
      json["answer_ids"] = written.ids;
    } else {
      print_routing(fmt::format("Encoder: routing of {} ({} tokens)", options.file, source.size()), of_encoder,
                    options.layer, tokenizer);
      print_routing(fmt::format("Decoder: routing of its answer ({} tokens, at most {})", written.ids.size(), kAnswer),
                    of_decoder, options.layer, tokenizer);
    }
  }
  if (options.json) fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

void run(const Options& options) {
  if (model::is_encoder_decoder(options.model.path)) return run_text_to_text(options);
  const auto engine = runtime::Engine::load(options.model.path, !options.model.no_mmap);
  const auto& rows = engine->config().layers;
  const auto chosen = static_cast<std::size_t>(std::max<Index>(0, options.layer));
  if (options.layer >= 0 && (chosen >= rows.size() || !rows[chosen].moe)) {
    fail(ErrorKind::kUsage, "--layer {}: not a MoE layer of this model", options.layer);
  }
  const model::ParameterCounts counts = model::count_parameters(engine->config());
  nlohmann::ordered_json json;
  if (options.json) {
    json = model_json(*engine, counts);
  } else {
    print_model(*engine, counts);
  }
  if (!options.file.empty()) {
    const auto ids = encode_prompt(engine->tokenizer(), read_text(options.file));
    if (ids.size() < 2) fail(ErrorKind::kBadInput, "{}: {} tokens, expected 2 or more", options.file, ids.size());
    observe::RoutingProfile profile;
    model::ScoreOptions how;
    how.window = std::min(engine->config().max_positions, static_cast<Index>(ids.size()));
    how.batch = std::max<Index>(1, Index{2048} / how.window);
    how.observer = &profile;
    ProgressLine line("routing", ids.size() / static_cast<std::size_t>(how.window) + 1);
    how.progress = [&](std::uint64_t done, std::uint64_t) { line.update(done); };
    model::score_tokens(engine->transformer(), ids, how);
    line.clear();
    if (options.json) {
      json["routing"] = routing_json(profile, &engine->tokenizer());
    } else if (profile.layers().empty()) {
      fmt::print("\nThis model is dense: there is no routing to show.\n");
    } else {
      fmt::print("\nRouting of {} ({} tokens)\n{}", options.file, ids.size(), load_table(profile));
      const Index first = profile.layers().begin()->first, last = profile.layers().rbegin()->first;
      for (const auto& [index, layer] : profile.layers()) {
        const bool wanted = options.layer >= 0 ? index == options.layer : index == first || index == last;
        if (wanted) fmt::print("\n{}", favourite_table(profile, index, engine->tokenizer()));
      }
      if (options.layer < 0 && profile.layers().size() > 2)
        fmt::print("\n(--layer N shows the tokens of another layer)\n");
    }
  }
  if (options.json) fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace

void add_inspect(CLI::App& program, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("inspect", "Show a model's shape and how it routes a text");
  add_model(*command, options->model);
  command->add_option("-f,--file", options->file,
                      "Route this text and show what every expert does (- = standard input)");
  command->add_option("--layer", options->layer, "Show the favourite tokens of this layer's experts");
  add_threads(*command, options->threads);
  add_json(*command, options->json);
  command->footer(
      "\nLoad      assignments an expert got; a bar of half height is the mean, full height twice the mean or more\n"
      "MaxVio    largest load / mean load - 1: 0 is perfectly even\n"
      "entropy   of the router's probabilities, as a share of the most possible: 100% is undecided\n"
      "dead      experts that got no token of this text\n");
  command->callback(
      [options, &action] { action = [options] { ThreadArena(options->threads).run([&] { run(*options); }); }; });
}

}  // namespace switchyard::cli
