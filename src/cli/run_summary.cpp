#include "run_summary.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "routing_text.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/progress.hpp"
#include "switchyard/observe/report.hpp"
#include "switchyard/train/recipe.hpp"

namespace switchyard::cli {
namespace {

constexpr Index kSampleTokens = 160;

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

train::HeldOutReading record_held_out(const train::TokenSplit& held_out, observe::RoutingProfile& profile) {
  std::vector<std::string> names;
  for (const train::Domain& domain : held_out.domains) names.push_back(domain.name);
  profile = observe::RoutingProfile(names);
  const auto line = std::make_shared<ProgressLine>("held-out text", static_cast<std::uint64_t>(held_out.tokens.size()));
  train::HeldOutReading reading;
  reading.observer = [&profile](std::size_t domain) {
    profile.set_domain(domain);
    return &profile;
  };
  reading.progress = [line](std::uint64_t done) { line->update(done); };
  return reading;
}

RunSummary summarize_run(const std::filesystem::path& run, std::optional<HeldOut> known) {
  RunSummary summary;
  summary.engine = runtime::Engine::load(run);
  summary.data = std::make_shared<train::TokenData>(train::TokenData::open(run / "tokens"));
  if (known.has_value()) {
    summary.held_out = std::move(*known);
  } else {
    const train::TrainConfig how = train::load_recipe(run / "recipe.toml").train;
    const train::TokenSplit& held_out = summary.data->validation();
    summary.held_out.evaluation = train::evaluate_all(summary.engine->transformer(), held_out, how.sequence, how.batch,
                                                      record_held_out(held_out, summary.held_out.profile));
  }
  summary.sample = make_sample(summary.engine->transformer(), summary.data->tokenizer(), kSampleTokens);
  return summary;
}

nlohmann::ordered_json summary_json(const RunSummary& summary) {
  const train::EvalMetrics& evaluation = summary.held_out.evaluation;
  nlohmann::ordered_json json;
  json["loss"] = evaluation.loss;
  json["bits_per_byte"] = evaluation.bits_per_byte;
  for (const train::DomainMetrics& domain : evaluation.domains) json["domains"][domain.name] = domain.bits_per_byte;
  json["routing"] = routing_json(summary.held_out.profile, nullptr);
  return json;
}

void write_run_report(const std::filesystem::path& run, const std::filesystem::path& target,
                      const RunSummary& summary) {
  const model::ParameterCounts counts = model::count_parameters(summary.engine->config());
  const auto& [evaluation, profile] = summary.held_out;
  observe::ReportInput input;
  input.title = run.filename().empty() ? run.parent_path().filename().string() : run.filename().string();
  input.metrics = run / "metrics.jsonl";
  input.facts = {
      {"Held-out loss",
       fmt::format("{:.4f} bits per byte ({:.4f} nats a token)", evaluation.bits_per_byte, evaluation.loss)},
      {"Parameters", fmt::format("{} in all, {} active a token", format_count(static_cast<double>(counts.total)),
                                 format_count(static_cast<double>(counts.active)))},
      {"Training text",
       fmt::format("{} tokens, {}", format_count(static_cast<double>(summary.data->train().tokens.size())),
                   format_bytes(static_cast<std::uint64_t>(summary.data->train().bytes())))},
      {"Model", summary.engine->folder().string()},
  };
  for (const train::DomainMetrics& domain : evaluation.domains) {
    if (evaluation.domains.size() > 1)
      input.facts.emplace_back("Held-out loss, " + domain.name,
                               fmt::format("{:.4f} bits per byte", domain.bits_per_byte));
  }
  input.profile = profile.layers().empty() ? nullptr : &profile;
  input.token_text = [&](std::int32_t id) { return quoted_token(summary.data->tokenizer(), id); };
  input.sample = summary.sample;
  observe::write_report(target, input);
}

}  // namespace switchyard::cli
