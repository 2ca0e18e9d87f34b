#include "run_summary.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <numbers>

#include "routing_text.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/progress.hpp"
#include "switchyard/model/score_tokens.hpp"
#include "switchyard/observe/report.hpp"
#include "switchyard/train/recipe.hpp"

namespace switchyard::cli {
namespace {

constexpr Index kSampleTokens = 160;
// Tokens a forward pass while held-out text is read.
constexpr Index kBatchTokens = 2048;

}  // namespace

std::string make_sample(model::Transformer& transformer, const text::Tokenizer& tokenizer, Index tokens) {
  runtime::Session session(transformer);
  runtime::SamplingConfig sampling;
  sampling.seed = 1;
  runtime::Sampler sampler(sampling);
  runtime::GenerateOptions how;
  how.max_tokens = tokens;
  // A new line starts a text in any corpus; a character tokenizer may lack it.
  std::vector<std::int32_t> prompt;
  try {
    prompt = tokenizer.encode("\n");
  } catch (const Error&) {
    prompt = {0};
  }
  text::StreamDecoder decoder(tokenizer);
  std::string text;
  how.ends = tokenizer.end_ids();
  how.on_token = [&](std::int32_t id) {
    text += decoder.push(id);
    return true;
  };
  try {
    runtime::generate(session, prompt, sampler, how);
  } catch (const Error& error) {
    // Such as a model that cannot generate: a run has more to show than its sample.
    if (error.kind() != ErrorKind::kUnsupported) throw;
    return fmt::format("(none: {})", error.what());
  }
  return text + decoder.finish();
}

RunSummary summarize_run(const std::filesystem::path& run) {
  RunSummary summary{runtime::Engine::load(run), nullptr, {}, {}, observe::RoutingProfile(), {}};
  summary.data = std::make_shared<train::TokenData>(train::TokenData::open(run / "tokens"));
  const train::TokenSplit& held_out = summary.data->validation();
  std::vector<std::string> names;
  for (const train::Domain& domain : held_out.domains) names.push_back(domain.name);
  summary.profile = observe::RoutingProfile(names);

  const train::Recipe recipe = train::load_recipe(run / "recipe.toml");
  ProgressLine line("held-out text", static_cast<std::uint64_t>(held_out.tokens.size()));
  double nats = 0.0;
  Index targets = 0;
  for (std::size_t x = 0; x < held_out.domains.size(); ++x) {
    const train::Domain& domain = held_out.domains[x];
    const auto tokens = held_out.tokens.subspan(static_cast<std::size_t>(domain.begin),
                                                static_cast<std::size_t>(domain.end - domain.begin));
    if (tokens.size() < 2) continue;
    summary.profile.set_domain(x);
    model::ScoreOptions how;
    how.window = std::min(recipe.train.sequence, static_cast<Index>(tokens.size()));
    how.batch = std::max<Index>(1, kBatchTokens / how.window);
    how.observer = &summary.profile;
    how.progress = [&](std::uint64_t done, std::uint64_t) {
      line.update(static_cast<std::uint64_t>(domain.begin) + done * static_cast<std::uint64_t>(how.window));
    };
    const auto score = model::score_tokens(summary.engine->transformer(), tokens, how);
    nats += score.nats;
    targets += score.targets;
    summary.domains.push_back(
        {domain.name, score.nats / std::numbers::ln2 / static_cast<double>(std::max<Index>(1, domain.bytes))});
  }
  line.clear();
  summary.evaluation.loss = targets == 0 ? 0.0 : nats / static_cast<double>(targets);
  summary.evaluation.bits_per_byte =
      nats / std::numbers::ln2 / static_cast<double>(std::max<Index>(1, held_out.bytes()));
  summary.evaluation.tokens = targets;
  summary.evaluation.complete = true;
  summary.sample = make_sample(summary.engine->transformer(), summary.data->tokenizer(), kSampleTokens);
  return summary;
}

nlohmann::ordered_json summary_json(const RunSummary& summary) {
  nlohmann::ordered_json json;
  json["loss"] = summary.evaluation.loss;
  json["bits_per_byte"] = summary.evaluation.bits_per_byte;
  for (const DomainLoss& domain : summary.domains) json["domains"][domain.name] = domain.bits_per_byte;
  json["routing"] = routing_json(summary.profile, nullptr);
  return json;
}

void write_run_report(const std::filesystem::path& run, const std::filesystem::path& target,
                      const RunSummary& summary) {
  const model::ParameterCounts counts = model::count_parameters(summary.engine->config());
  observe::ReportInput input;
  input.title = run.filename().empty() ? run.parent_path().filename().string() : run.filename().string();
  input.metrics = run / "metrics.jsonl";
  input.facts = {
      {"Held-out loss", fmt::format("{:.4f} bits per byte ({:.4f} nats a token)", summary.evaluation.bits_per_byte,
                                    summary.evaluation.loss)},
      {"Parameters", fmt::format("{} in all, {} active a token", format_count(static_cast<double>(counts.total)),
                                 format_count(static_cast<double>(counts.active)))},
      {"Training text",
       fmt::format("{} tokens, {}", format_count(static_cast<double>(summary.data->train().tokens.size())),
                   format_bytes(static_cast<std::uint64_t>(summary.data->train().bytes())))},
      {"Model", summary.engine->folder().string()},
  };
  for (const DomainLoss& domain : summary.domains) {
    if (summary.domains.size() > 1)
      input.facts.emplace_back("Held-out loss, " + domain.name,
                               fmt::format("{:.4f} bits per byte", domain.bits_per_byte));
  }
  input.profile = summary.profile.layers().empty() ? nullptr : &summary.profile;
  input.token_text = [&](std::int32_t id) { return quoted_token(summary.data->tokenizer(), id); };
  input.sample = summary.sample;
  observe::write_report(target, input);
}

}  // namespace switchyard::cli
