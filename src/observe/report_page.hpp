#pragma once

#include <string_view>

namespace switchyard::observe {

// Stands in the page where the run's data goes, as JSON.
inline constexpr std::string_view kReportDataMark = "@@DATA@@";

// The report's HTML, style and script in one text. The script only ever sets textContent: data never becomes markup.
std::string_view report_page();

}  // namespace switchyard::observe
