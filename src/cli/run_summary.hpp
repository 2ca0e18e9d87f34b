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

// What all held-out text shows: how well it is predicted, and which experts take it.
struct HeldOut {
  train::EvalMetrics evaluation;
  observe::RoutingProfile profile{};
};

// Records the routing of each domain in `profile`, which must outlive it, and draws a progress line.
train::HeldOutReading record_held_out(const train::TokenSplit& held_out, observe::RoutingProfile& profile);

struct RunSummary {
  std::shared_ptr<runtime::Engine> engine;
  std::shared_ptr<train::TokenData> data;
  HeldOut held_out;
  std::string sample;
};

// Loads the run's last checkpoint, and reads its held-out text unless that was done. Throws where there is none.
RunSummary summarize_run(const std::filesystem::path& run, std::optional<HeldOut> known = {});

// {"loss", "bits_per_byte", "domains": {name: bits per byte}, "routing": [...]}
nlohmann::ordered_json summary_json(const RunSummary& summary);

// A short text from the model, the same each time.
std::string make_sample(model::Transformer& transformer, const text::Tokenizer& tokenizer, Index tokens);

// Writes report.html for a summary.
void write_run_report(const std::filesystem::path& run, const std::filesystem::path& target, const RunSummary& summary);

}  // namespace switchyard::cli
