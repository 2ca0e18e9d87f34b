#pragma once
// What a finished run has to show: held-out loss, a sample, routing by layer and domain, and its report.

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "switchyard/observe/routing_profile.hpp"
#include "switchyard/runtime/engine.hpp"
#include "switchyard/train/data.hpp"
#include "switchyard/train/trainer.hpp"

namespace switchyard::cli {

struct DomainLoss {
  std::string name;
  double bits_per_byte = 0.0;
};

struct RunSummary {
  std::shared_ptr<runtime::Engine> engine;
  std::shared_ptr<train::TokenData> data;
  train::EvalMetrics evaluation;
  std::vector<DomainLoss> domains;
  observe::RoutingProfile profile;
  std::string sample;
};

// Loads the run's last checkpoint and reads its held-out text once, domain by domain. Throws where there is none.
RunSummary summarize_run(const std::filesystem::path& run);

// {"loss", "bits_per_byte", "domains": {name: bits per byte}, "routing": [...]}
nlohmann::ordered_json summary_json(const RunSummary& summary);

// A short text from the model, the same each time.
std::string make_sample(model::Transformer& transformer, const text::Tokenizer& tokenizer, Index tokens);

// Writes report.html for a summary.
void write_run_report(const std::filesystem::path& run, const std::filesystem::path& target, const RunSummary& summary);

}  // namespace switchyard::cli
