#include "lab_charts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace switchyard::observe {
namespace {

constexpr std::array kPalette = {"#1f6feb", "#d9480f", "#2f9e44", "#9c36b5", "#0b7285",
                                 "#e67700", "#c2255c", "#5c7cfa", "#74b816", "#868e96"};
// The page's colours, and what a file of its own falls back to.
constexpr const char* kGrid = "stroke:var(--line,#d9dfe7)";
constexpr const char* kText = "fill:var(--soft,#5d6877);font:11px system-ui,sans-serif";
constexpr const char* kTitle = "fill:var(--ink,#1d2430);font:600 13px system-ui,sans-serif";

const char* color(std::size_t i) { return kPalette[i % kPalette.size()]; }
// Beyond the palette lines are told apart by dashes.
const char* dash(std::size_t i) { return i < kPalette.size() ? "none" : i < 2 * kPalette.size() ? "6 3" : "2 3"; }

struct Axis {
  double low = 0.0, high = 1.0, from = 0.0, to = 1.0;  // values, and where they lie in the picture

  double operator()(double value) const {
    return from + (to - from) * (std::clamp(value, low, high) - low) / (high - low);
  }
  std::vector<double> ticks(int count) const {
    const double raw = (high - low) / count, power = std::pow(10.0, std::floor(std::log10(raw)));
    double step = 10.0 * power;
    for (const double m : {5.0, 2.0, 1.0}) {
      if (m * power >= raw * 0.999) step = m * power;
    }
    std::vector<double> list;
    for (double k = std::ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1.0) list.push_back(k * step);
    return list;
  }
};

// Widens a range that is empty, and one that is not by a little room.
Axis make_axis(double low, double high, double from, double to, bool from_zero) {
  if (from_zero) low = std::min(low, 0.0);
  if (!(high > low)) {
    const double half = std::max(0.5, std::abs(low) * 0.05);
    high = low + half;
    if (!from_zero) low -= half;
  }
  const double room = 0.03 * (high - low);
  return {from_zero ? low : low - room, high + room, from, to};
}

class Svg {
 public:
  Svg(int width, std::string_view title) : width_(width) { text(0.0, 14.0, "start", kTitle, title); }
  void text(double x, double y, const char* anchor, const char* style, std::string_view value) {
    body_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" style=\"{}\">{}</text>\n", x, y, anchor,
                         style, escape_markup(value));
  }
  void line(double x1, double y1, double x2, double y2, std::string_view style) {
    body_ += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" style=\"{}\"/>\n", x1, y1, x2,
                         y2, style);
  }
  void dot(double x, double y, std::string_view fill, std::string_view tip) {
    body_ += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.6\" fill=\"{}\"><title>{}</title></circle>\n", x, y,
                         fill, escape_markup(tip));
  }
  void path(const std::string& data, std::string_view stroke, std::string_view dashes, std::string_view tip) {
    body_ += fmt::format(
        "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.6\" "
        "stroke-dasharray=\"{}\"><title>{}</title></path>\n",
        data, stroke, dashes, escape_markup(tip));
  }
  void x_axis(const Axis& x, double bottom, std::string_view label) {
    for (const double v : x.ticks(6)) text(x(v), bottom + 15.0, "middle", kText, short_number(v));
    text(x.to, bottom + 29.0, "end", kText, label);
  }
  std::string finish(double height) const {
    return fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {:.0f}\" role=\"img\">\n{}</svg>\n",
                       width_, height, body_);
  }

 private:
  int width_;
  std::string body_;
};

constexpr int kWidth = 520;
constexpr double kTop = 26.0, kLeft = 46.0, kRight = 10.0, kPlot = 210.0;

void grid(Svg& svg, const Axis& y) {
  for (const double v : y.ticks(5)) {
    svg.line(kLeft, y(v), kWidth - kRight, y(v), kGrid);
    svg.text(kLeft - 6.0, y(v) + 4.0, "end", kText, short_number(v));
  }
}

// Names with their colours below a chart; returns where they end.
double legend(Svg& svg, const std::vector<ChartLine>& lines, double y) {
  double x = 0.0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::string label = lines[i].points.empty()
                                  ? lines[i].name + " (none)"
                                  : fmt::format("{} ({})", lines[i].name, short_number(lines[i].points.back().y));
    const double width = 24.0 + 6.2 * static_cast<double>(label.size());
    if (x > 0.0 && x + width > kWidth) {
      x = 0.0;
      y += 16.0;
    }
    svg.line(x, y - 4.0, x + 14.0, y - 4.0,
             fmt::format("stroke:{};stroke-width:3;stroke-dasharray:{}", color(i), dash(i)));
    svg.text(x + 18.0, y, "start", kText, label);
    x += width;
  }
  return y;
}

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

}  // namespace

std::string escape_markup(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string short_number(double value) {
  if (!std::isfinite(value)) return "-";
  if (std::abs(value) < 1e-12) return "0";  // also what is left of a tick that should be 0
  if (std::abs(value) >= 1e6) return fmt::format("{:.3g} M", value / 1e6);
  if (std::abs(value) >= 1e4) return fmt::format("{:.4g} k", value / 1e3);
  return fmt::format("{:.4g}", value);
}

std::string line_chart(std::string_view title, std::string_view x_label, const std::vector<ChartLine>& lines,
                       bool from_zero, bool cut) {
  Range xs, ys, late;
  for (const ChartLine& line : lines) {
    for (std::size_t i = 0; i < line.points.size(); ++i) {
      xs.add(line.points[i].x);
      ys.add(line.points[i].y);
      if (5 * (i + 1) >= line.points.size()) late.add(line.points[i].y);
    }
  }
  Svg svg(kWidth, title);
  if (!(xs.high >= xs.low)) {
    svg.text(0.0, 40.0, "start", kText, "Nothing was recorded.");
    return svg.finish(50.0);
  }
  const double bottom = kTop + kPlot;
  const Axis x{xs.low, xs.high > xs.low ? xs.high : xs.low + 1.0, kLeft, kWidth - kRight};
  const Axis y = make_axis(ys.low, cut ? late.high : ys.high, bottom, kTop, from_zero);
  grid(svg, y);
  svg.x_axis(x, bottom, x_label);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    std::string path;
    for (const ChartPoint& p : lines[i].points) {
      if (path.empty() && p.y > y.high) continue;  // the first steps, cut off
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x(p.x), y(p.y));
    }
    if (!path.empty()) svg.path(path, color(i), dash(i), lines[i].name);
  }
  return svg.finish(legend(svg, lines, bottom + 46.0) + 8.0);
}

std::string dot_chart(std::string_view title, std::string_view x_label, const std::vector<ChartRow>& rows,
                      bool from_zero) {
  constexpr double kRow = 17.0;
  Range range;
  std::size_t longest = 4;
  for (const ChartRow& row : rows) {
    range.add(row.mean - row.deviation);
    range.add(row.mean + row.deviation);
    longest = std::max(longest, row.name.size());
  }
  Svg svg(kWidth, title);
  if (rows.empty()) {
    svg.text(0.0, 40.0, "start", kText, "Nothing was recorded.");
    return svg.finish(50.0);
  }
  const double left = std::min(260.0, 6.4 * static_cast<double>(longest) + 8.0);
  const Axis x = make_axis(range.low, range.high, left, kWidth - 60.0, from_zero);
  const double bottom = kTop + kRow * static_cast<double>(rows.size());
  for (const double v : x.ticks(6)) svg.line(x(v), kTop, x(v), bottom, kGrid);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const ChartRow& row = rows[i];
    const double y = kTop + kRow * (static_cast<double>(i) + 0.5);
    const std::string figures = row.deviation > 0.0
                                    ? fmt::format("{} ± {}", short_number(row.mean), short_number(row.deviation))
                                    : short_number(row.mean);
    svg.text(left - 8.0, y + 4.0, "end", kText, row.name);
    svg.line(x(row.mean - row.deviation), y, x(row.mean + row.deviation), y,
             fmt::format("stroke:{};stroke-width:2", color(0)));
    svg.dot(x(row.mean), y, color(0), row.name + ": " + figures);
    svg.text(kWidth - 54.0, y + 4.0, "start", kText, short_number(row.mean));
  }
  svg.x_axis(x, bottom, x_label);
  return svg.finish(bottom + 36.0);
}

std::string scatter_chart(std::string_view title, std::string_view x_label, const std::vector<ChartLine>& dots) {
  Range xs, ys;
  for (const ChartLine& dot : dots) {
    for (const ChartPoint& p : dot.points) {
      xs.add(p.x);
      ys.add(p.y);
    }
  }
  Svg svg(kWidth, title);
  if (!(xs.high >= xs.low)) {
    svg.text(0.0, 40.0, "start", kText, "Nothing was recorded.");
    return svg.finish(50.0);
  }
  const double bottom = kTop + kPlot;
  const Axis x = make_axis(xs.low, xs.high, kLeft + 6.0, kWidth - kRight - 6.0, false);
  const Axis y = make_axis(ys.low, ys.high, bottom, kTop, false);
  grid(svg, y);
  svg.x_axis(x, bottom, x_label);
  for (std::size_t i = 0; i < dots.size(); ++i) {
    for (const ChartPoint& p : dots[i].points) {
      svg.dot(x(p.x), y(p.y), color(i),
              fmt::format("{}: {} at {}", dots[i].name, short_number(p.y), short_number(p.x)));
    }
  }
  return svg.finish(legend(svg, dots, bottom + 46.0) + 8.0);
}

}  // namespace switchyard::observe
