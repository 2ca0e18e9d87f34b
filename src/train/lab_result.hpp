#pragma once
// From what a finished run left behind to its figures, and result.json.

#include <filesystem>

#include "switchyard/train/lab.hpp"

namespace switchyard::train {

// Files of OUT/runs/NAME/seed-S/ beside those of the run itself.
inline constexpr const char* kSummaryFile = "summary.json";  // what `train --json` printed
inline constexpr const char* kErrorsFile = "errors.txt";
inline constexpr const char* kResultFile = "result.json";

// Reads the summary and metrics.jsonl. Throws kBadInput naming the file where one is damaged.
RunResult measure_run(const LabRun& run, std::uint64_t seed, const std::filesystem::path& folder, Index vocab);
// The result of a run that diverged: it has no figures but that.
RunResult diverged_run(const LabRun& run, std::uint64_t seed, const std::string& message);

void save_result(const RunResult& result, const std::filesystem::path& file);
// Throws kBadInput where the file is damaged or of another version.
RunResult load_result(const std::filesystem::path& file);

}  // namespace switchyard::train
