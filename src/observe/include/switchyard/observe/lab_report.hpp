#pragma once
// The report of a lab (train/lab.hpp) as pages: claims with their verdicts, charts, and a table of all runs.

#include <filesystem>
#include <string_view>

namespace switchyard::observe {

// Writes report.json (the text itself), report.html (one file, no network, no script), report.md and the charts that it
// shows, plots/*.svg, into `folder`. `json` is what train::lab_report returned (docs/lab.md). Text in it cannot become
// markup. Throws kBadInput where it is not such a report, kResource where a file cannot be written.
void write_lab_report(const std::filesystem::path& folder, std::string_view json);

}  // namespace switchyard::observe
