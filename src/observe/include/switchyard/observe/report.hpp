#pragma once
// A training run as one HTML page that needs no network: loss, balance over time, who is loaded, who prefers what.

#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "switchyard/observe/routing_profile.hpp"

namespace switchyard::observe {

struct ReportInput {
  std::string title;
  std::filesystem::path metrics;                           // metrics.jsonl of the run (docs/formats/metrics.md)
  std::vector<std::pair<std::string, std::string>> facts;  // shown at the top: "Parameters" -> "4.5 M, 1.9 M active"
  const RoutingProfile* profile = nullptr;                 // of held-out text; null for a dense model
  std::function<std::string(std::int32_t)> token_text;     // how a token is shown
  std::string sample;                                      // generated text; may be empty
};

// Writes the page whole or not at all. Text of the run is escaped: it cannot become markup or script.
// Throws kBadInput naming file and line where the metrics are malformed.
void write_report(const std::filesystem::path& target, const ReportInput& input);

}  // namespace switchyard::observe
