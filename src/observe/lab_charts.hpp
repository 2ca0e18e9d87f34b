#pragma once
// Charts as SVG text, the same for a page and for a file of its own.

#include <string>
#include <string_view>
#include <vector>

namespace switchyard::observe {

// With &, <, > and quotes as entities.
std::string escape_markup(std::string_view text);
// Four significant digits.
std::string short_number(double value);

struct ChartPoint {
  double x = 0.0, y = 0.0;
};
struct ChartLine {
  std::string name;
  std::vector<ChartPoint> points;
};
// Lines with a legend below. `from_zero`: the y axis starts there. `cut`: it ends at what the lines had come down to
// after a fifth of their way, so that the first steps do not flatten the rest.
std::string line_chart(std::string_view title, std::string_view x_label, const std::vector<ChartLine>& lines,
                       bool from_zero, bool cut);

struct ChartRow {
  std::string name;
  double mean = 0.0, deviation = 0.0;
};
// A dot a row with a whisker of one standard deviation to each side.
std::string dot_chart(std::string_view title, std::string_view x_label, const std::vector<ChartRow>& rows,
                      bool from_zero);

// A labelled dot for each line's only point.
std::string scatter_chart(std::string_view title, std::string_view x_label, const std::vector<ChartLine>& dots);

}  // namespace switchyard::observe
