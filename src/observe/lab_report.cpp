#include "switchyard/observe/lab_report.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "lab_charts.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/index.hpp"

namespace switchyard::observe {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// More lines than this in one chart cannot be told apart.
constexpr std::size_t kMostLines = 12;

constexpr const char* kStyle = R"css(
:root { --ink: #1d2430; --soft: #5d6877; --line: #d9dfe7; --paper: #fbfcfd; --card: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9f0; --soft: #98a4b3; --line: #313a46; --paper: #12161c; --card: #1a2028; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 24px; margin: 0 0 12px; }
h2 { font-size: 18px; margin: 28px 0 8px; }
h3 { font-size: 16px; margin: 0 0 4px; }
p { margin: 4px 0 8px; } p.note { color: var(--soft); font-size: 13px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 16px 18px; margin: 16px 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 14px 22px; margin-top: 12px; }
svg { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; }
td, th { text-align: left; padding: 3px 12px 3px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.verdict { font-weight: 600; white-space: nowrap; }
.agrees { color: #2f9e44; } .disagrees { color: #e03131; } .open { color: #b7791f; }
code { font: 13px ui-monospace, monospace; }
)css";

std::string text_of(const Json& json, const char* key) { return json.at(key).get<std::string>(); }

const char* class_of(const std::string& verdict) {
  if (verdict == "agrees") return "agrees";
  return verdict == "disagrees" ? "disagrees" : "open";
}

std::string spread_text(const Json& spread) {
  const auto seeds = spread.at("seeds").get<Index>();
  if (seeds == 0) return "-";
  const auto mean = spread.at("mean").get<double>(), deviation = spread.at("deviation").get<double>();
  return seeds > 1 ? fmt::format("{} ± {}", short_number(mean), fmt::format("{:.2g}", deviation)) : short_number(mean);
}

std::string with_seeds(const Json& spread) {
  const auto seeds = spread.at("seeds").get<Index>();
  return fmt::format("{} ({} seed{})", spread_text(spread), seeds, seeds == 1 ? "" : "s");
}

std::string optional_number(const Json& value) { return value.is_null() ? "-" : short_number(value.get<double>()); }

// A line of Markdown from any text.
std::string plain(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n' || c == '\r') {
      out += ' ';
    } else if (c == '<') {
      out += "&lt;";
    } else {
      if (c == '|' || c == '*' || c == '_' || c == '`' || c == '[' || c == '\\') out += '\\';
      out += c;
    }
  }
  return out;
}

// Where a claim is from and its published figures; empty where neither is told.
std::string origin_of(const Json& claim) {
  const std::string source = text_of(claim, "source"), published = text_of(claim, "published");
  std::string text = source.empty() ? "" : fmt::format("Source: {}. ", source);
  if (!published.empty()) text += fmt::format("Published: {}", published);
  return text;
}

struct Chart {
  std::string file;  // name in plots/
  std::string svg;
};

class LabPages {
 public:
  explicit LabPages(const Json& json) : json_(json) {
    make_overview();
    std::size_t number = 0;
    for (const Json& claim : json.at("claims")) claims_.push_back(claim_charts(claim, ++number));
  }

  std::string html() const;
  std::string markdown() const;
  std::vector<Chart> charts() const {
    std::vector<Chart> all = overview_;
    for (const auto& charts : claims_) all.insert(all.end(), charts.begin(), charts.end());
    return all;
  }

 private:
  const Json& run(const std::string& name) const {
    for (const Json& candidate : json_.at("runs")) {
      if (candidate.at("name") == name) return candidate;
    }
    fail(ErrorKind::kBadInput, "report.json: no run \"{}\"", name);
  }

  // `x`: 0 = tokens, 1 = seconds.
  std::vector<ChartLine> lines(const std::vector<std::string>& names, const char* curve, std::size_t x) const {
    std::vector<ChartLine> result;
    for (const std::string& name : names) {
      ChartLine line{name, {}};
      for (const Json& p : run(name).at(curve)) line.points.push_back({p.at(x).get<double>(), p.at(2).get<double>()});
      // A dense run has no balance, an unfinished one nothing at all.
      if (!line.points.empty()) result.push_back(std::move(line));
    }
    return result;
  }
  std::vector<ChartRow> rows(const std::vector<std::string>& names, const std::string& metric) const {
    std::vector<ChartRow> result;
    for (const std::string& name : names) {
      const Json& figures = run(name).at("figures");
      if (!figures.contains(metric)) continue;
      const Json& spread = figures.at(metric);
      result.push_back({name, spread.at("mean").get<double>(), spread.at("deviation").get<double>()});
    }
    return result;
  }
  std::vector<Chart> curves(const std::vector<std::string>& names, const std::string& prefix) const {
    std::vector<Chart> charts;
    charts.push_back({prefix + "-loss-tokens.svg", line_chart("Training loss (bits per byte) against tokens", "tokens",
                                                              lines(names, "loss", 0), false, true)});
    charts.push_back(
        {prefix + "-loss-time.svg", line_chart("Training loss (bits per byte) against time", "seconds, one thread",
                                               lines(names, "loss", 1), false, true)});
    if (const auto balance = lines(names, "max_violation", 0); !balance.empty()) {
      charts.push_back({prefix + "-balance.svg",
                        line_chart("Balance: MaxVio of a step, mean of the layers", "tokens", balance, true, true)});
    }
    return charts;
  }

  void make_overview() {
    std::vector<std::string> names;
    for (const Json& r : json_.at("runs")) names.push_back(text_of(r, "name"));
    auto losses = rows(names, "bits_per_byte");
    std::sort(losses.begin(), losses.end(), [](const ChartRow& a, const ChartRow& b) { return a.mean < b.mean; });
    overview_.push_back(
        {"overview-loss.svg", dot_chart("Held-out loss, the lowest first; whiskers are one standard deviation",
                                        "bits per byte", losses, false)});
    std::vector<ChartLine> cost;
    for (const std::string& name : names) {
      const Json& figures = run(name).at("figures");
      if (!figures.contains("train_seconds") || !figures.contains("bits_per_byte")) continue;
      cost.push_back({name,
                      {{figures.at("train_seconds").at("mean").get<double>(),
                        figures.at("bits_per_byte").at("mean").get<double>()}}});
    }
    overview_.push_back({"overview-cost.svg", scatter_chart("Held-out loss (bits per byte) against training time",
                                                            "seconds, one thread", cost)});
    if (auto balance = rows(names, "max_violation"); !balance.empty()) {
      overview_.push_back({"overview-balance.svg", dot_chart("MaxVio on held-out text", "0 is even", balance, true)});
    }
    if (auto special = rows(names, "specialisation"); !special.empty()) {
      overview_.push_back(
          {"overview-specialisation.svg",
           dot_chart("Specialisation by domain", "0: none, 1: domains share no expert", special, true)});
    }
    if (json_.at("claims").empty() || names.size() <= kMostLines) {
      for (std::size_t begin = 0; begin < names.size(); begin += kMostLines) {
        const std::vector<std::string> part(
            names.begin() + static_cast<std::ptrdiff_t>(begin),
            names.begin() + static_cast<std::ptrdiff_t>(std::min(names.size(), begin + kMostLines)));
        for (Chart& chart : curves(part, begin == 0 ? "runs" : fmt::format("runs-{}", begin / kMostLines + 1))) {
          overview_.push_back(std::move(chart));
        }
      }
    }
  }

  std::vector<Chart> claim_charts(const Json& claim, std::size_t number) const {
    std::vector<std::string> names;
    for (const Json& name : claim.at("runs")) {
      if (std::find(names.begin(), names.end(), name.get<std::string>()) == names.end()) names.push_back(name);
    }
    const std::string prefix = fmt::format("claim-{:02}", number), metric = text_of(claim, "metric");
    std::vector<Chart> charts = {
        {prefix + "-figures.svg", dot_chart(metric, "mean and one standard deviation", rows(names, metric), false)}};
    for (Chart& chart : curves(names, prefix)) charts.push_back(std::move(chart));
    return charts;
  }

  std::vector<std::pair<std::string, std::string>> facts() const;
  // name of a metric -> heading; only those that a run has.
  std::vector<std::string> shown_metrics() const {
    std::vector<std::string> shown;
    for (const Json& metric : json_.at("metrics")) {
      const std::string name = text_of(metric, "name");
      const auto& runs = json_.at("runs");
      if (std::any_of(runs.begin(), runs.end(), [&](const Json& r) { return r.at("figures").contains(name); })) {
        shown.push_back(name);
      }
    }
    return shown;
  }
  std::vector<std::string> troubles() const {
    std::vector<std::string> list;
    for (const Json& r : json_.at("runs")) {
      for (const Json& seed : r.at("seeds")) {
        const std::string state = text_of(seed, "state");
        if (state == "finished") continue;
        list.push_back(fmt::format("{}, seed {}: {}{}", text_of(r, "name"), seed.at("seed").get<std::uint64_t>(), state,
                                   seed.contains("message") ? ": " + text_of(seed, "message") : ""));
      }
    }
    return list;
  }

  const Json& json_;
  std::vector<Chart> overview_;
  std::vector<std::vector<Chart>> claims_;
};

std::vector<std::pair<std::string, std::string>> LabPages::facts() const {
  std::vector<std::string> paths = json_.at("data").at("paths").get<std::vector<std::string>>();
  const Json& data = json_.at("data");
  return {
      {"Lab", text_of(json_, "source") + (json_.at("quick").get<bool>() ? " (--quick)" : "")},
      {"Runs", fmt::format("{} recipes, {} seed{} each, {} at a time with one thread each", json_.at("runs").size(),
                           json_.at("seeds").get<Index>(), json_.at("seeds").get<Index>() == 1 ? "" : "s",
                           json_.at("jobs").get<Index>())},
      {"Budget", fmt::format("{} training tokens a run, the same for all, in windows of {}",
                             short_number(json_.at("tokens_a_run").get<double>()), json_.at("sequence").get<Index>())},
      {"Text", fmt::format("{}; tokenizer {}; the last {} % of every file held out", fmt::join(paths, ", "),
                           text_of(data, "tokenizer"), short_number(100.0 * data.at("held_out_share").get<double>()))},
  };
}

std::string LabPages::html() const {
  const std::string title = escape_markup(text_of(json_, "title"));
  std::string page = fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{0} - Switchyard lab</title>\n"
      "<style>{1}</style>\n<body>\n<main>\n<h1>{0}</h1>\n<section><table>\n",
      title, kStyle);
  const auto add = [&](std::string_view text) { page += text; };
  const auto cell = [](std::string_view text) { return fmt::format("<td>{}</td>", escape_markup(text)); };
  const auto figure = [](std::string_view text) { return fmt::format("<td class=\"n\">{}</td>", escape_markup(text)); };
  const auto verdict = [](const std::string& text) {
    return fmt::format("<span class=\"verdict {}\">{}</span>", class_of(text), escape_markup(text));
  };
  const auto show = [&](const std::vector<Chart>& charts) {
    add("<div class=\"charts\">\n");
    for (const Chart& chart : charts) add("<div>" + chart.svg + "</div>\n");
    add("</div>\n");
  };
  for (const auto& [name, value] : facts()) add("<tr>" + cell(name) + cell(value) + "</tr>\n");
  add("</table></section>\n");
  if (const auto list = troubles(); !list.empty()) {
    add("<section><h3>Runs without a result</h3><ul>\n");
    for (const std::string& text : list) add("<li>" + escape_markup(text) + "</li>\n");
    add("</ul></section>\n");
  }
  if (!claims_.empty()) {
    add("<h2>Claims</h2>\n<section class=\"scroll\"><table><tr><th></th><th>Claim</th><th>Verdict</th></tr>\n");
    std::size_t number = 0;
    for (const Json& claim : json_.at("claims")) {
      ++number;
      add(fmt::format("<tr><td>{0}</td><td><a href=\"#claim-{0}\">{1}</a></td><td>{2}</td></tr>\n", number,
                      escape_markup(text_of(claim, "text")), verdict(text_of(claim, "verdict"))));
    }
    add("</table></section>\n");
  }
  add("<section><h3>How a verdict is reached</h3><p>" + escape_markup(text_of(json_, "rule")) + "</p></section>\n");
  add("<h2>All runs</h2>\n<section>");
  show(overview_);
  add("</section>\n");
  std::size_t number = 0;
  for (const Json& claim : json_.at("claims")) {
    ++number;
    add(fmt::format("<section id=\"claim-{0}\"><h3>{0}. {1}: {2}</h3>\n", number, escape_markup(text_of(claim, "text")),
                    verdict(text_of(claim, "verdict"))));
    if (const std::string origin = origin_of(claim); !origin.empty()) {
      add("<p class=\"note\">" + escape_markup(origin) + "</p>\n");
    }
    add("<p>Checked: <code>" + escape_markup(text_of(claim, "statement")) + "</code></p>\n");
    add("<div class=\"scroll\"><table><tr><th>first</th><th>second</th><th>first: mean ± sd</th><th>second: mean ± "
        "sd</th>"
        "<th>difference</th><th>2 x standard error</th><th>verdict</th></tr>\n");
    for (const Json& c : claim.at("comparisons")) {
      const Json& error = c.at("standard_error");
      add("<tr>" + cell(text_of(c, "first")) + cell(text_of(c, "second")) + figure(with_seeds(c.at("first_spread"))) +
          figure(with_seeds(c.at("second_spread"))) + figure(optional_number(c.at("difference"))) +
          figure(error.is_null() ? "-" : short_number(2.0 * error.get<double>())) + "<td>" +
          verdict(text_of(c, "verdict")) +
          (text_of(c, "reason").empty() ? "" : " (" + escape_markup(text_of(c, "reason")) + ")") + "</td></tr>\n");
    }
    add("</table></div>\n");
    show(claims_[number - 1]);
    add("</section>\n");
  }
  add("<h2>Figures</h2>\n<section class=\"scroll\"><p class=\"note\">Mean ± sample standard deviation over the "
      "seeds.</p>"
      "<table><tr><th>run</th>");
  const auto metrics = shown_metrics();
  for (const std::string& name : metrics) add("<th>" + escape_markup(name) + "</th>");
  std::set<std::string> domains;
  for (const Json& r : json_.at("runs")) {
    for (const auto& [name, spread] : r.at("domains").items()) domains.insert(name);
  }
  for (const std::string& name : domains) add("<th>bits per byte, " + escape_markup(name) + "</th>");
  add("</tr>\n");
  for (const Json& r : json_.at("runs")) {
    add(fmt::format("<tr><td title=\"{}\">{}</td>", escape_markup(text_of(r, "about")),
                    escape_markup(text_of(r, "name"))));
    for (const std::string& name : metrics) {
      add(figure(r.at("figures").contains(name) ? spread_text(r.at("figures").at(name)) : "-"));
    }
    for (const std::string& name : domains) {
      add(figure(r.at("domains").contains(name) ? spread_text(r.at("domains").at(name)) : "-"));
    }
    add("</tr>\n");
  }
  add("</table></section>\n<section><h3>What the runs are</h3><table>\n");
  for (const Json& r : json_.at("runs")) add("<tr>" + cell(text_of(r, "name")) + cell(text_of(r, "about")) + "</tr>\n");
  add("</table></section>\n<section><h3>What the figures are</h3><table>\n");
  for (const Json& metric : json_.at("metrics")) {
    const std::string unit = text_of(metric, "unit");
    add("<tr>" + cell(text_of(metric, "name")) +
        cell(text_of(metric, "meaning") + (unit.empty() ? "" : " [" + unit + "]")) + "</tr>\n");
  }
  add("</table><p class=\"note\">Times were taken while other runs shared the machine: they rank recipes, no more.</p>"
      "</section>\n</main>\n</body>\n</html>\n");
  return page;
}

std::string LabPages::markdown() const {
  std::string page = fmt::format("# {}\n\n", plain(text_of(json_, "title")));
  const auto add = [&](std::string_view text) { page += text; };
  const auto show = [&](const std::vector<Chart>& charts) {
    for (const Chart& chart : charts) add(fmt::format("![{0}](plots/{0})\n", chart.file));
    add("\n");
  };
  add("| | |\n|---|---|\n");
  for (const auto& [name, value] : facts()) add(fmt::format("| {} | {} |\n", name, plain(value)));
  add("\n");
  if (const auto list = troubles(); !list.empty()) {
    add("Runs without a result:\n\n");
    for (const std::string& text : list) add(fmt::format("- {}\n", plain(text)));
    add("\n");
  }
  if (!claims_.empty()) {
    add("## Claims\n\n| | claim | from | verdict |\n|---|---|---|---|\n");
    std::size_t number = 0;
    for (const Json& claim : json_.at("claims")) {
      add(fmt::format("| {} | {} | {} | **{}** |\n", ++number, plain(text_of(claim, "text")), plain(origin_of(claim)),
                      text_of(claim, "verdict")));
    }
    add("\n");
  }
  add(plain(text_of(json_, "rule")) + "\n\n## All runs\n\n");
  show(overview_);
  std::size_t number = 0;
  for (const Json& claim : json_.at("claims")) {
    ++number;
    add(fmt::format("## {}. {}: {}\n\n`{}`\n\n", number, plain(text_of(claim, "text")), text_of(claim, "verdict"),
                    text_of(claim, "statement")));
    add("| first | second | first: mean ± sd | second: mean ± sd | difference | 2 x standard error | verdict |\n"
        "|---|---|---|---|---|---|---|\n");
    for (const Json& c : claim.at("comparisons")) {
      const Json& error = c.at("standard_error");
      const std::string reason = text_of(c, "reason");
      add(fmt::format("| {} | {} | {} | {} | {} | {} | {}{} |\n", plain(text_of(c, "first")),
                      plain(text_of(c, "second")), with_seeds(c.at("first_spread")), with_seeds(c.at("second_spread")),
                      optional_number(c.at("difference")),
                      error.is_null() ? "-" : short_number(2.0 * error.get<double>()), text_of(c, "verdict"),
                      reason.empty() ? "" : fmt::format(" ({})", plain(reason))));
    }
    add("\n");
    show(claims_[number - 1]);
  }
  add("## Figures\n\nMean ± sample standard deviation over the seeds.\n\n| run |");
  const auto metrics = shown_metrics();
  for (const std::string& name : metrics) add(fmt::format(" {} |", plain(name)));
  add("\n|---|");
  for (std::size_t i = 0; i < metrics.size(); ++i) add("---|");
  add("\n");
  for (const Json& r : json_.at("runs")) {
    add(fmt::format("| {} |", plain(text_of(r, "name"))));
    for (const std::string& name : metrics) {
      add(fmt::format(" {} |", r.at("figures").contains(name) ? spread_text(r.at("figures").at(name)) : "-"));
    }
    add("\n");
  }
  add("\n## What the runs are\n\n");
  for (const Json& r : json_.at("runs")) {
    add(fmt::format("- {}: {}\n", plain(text_of(r, "name")), plain(text_of(r, "about"))));
  }
  add("\n## What the figures are\n\n");
  for (const Json& metric : json_.at("metrics")) {
    add(fmt::format("- {}: {}\n", plain(text_of(metric, "name")), plain(text_of(metric, "meaning"))));
  }
  add("\nTimes were taken while other runs shared the machine: they rank recipes, no more.\n");
  return page;
}

}  // namespace

void write_lab_report(const fs::path& folder, std::string_view text) {
  std::string html, markdown;
  std::vector<Chart> charts;
  try {
    const Json json = Json::parse(text);
    const LabPages pages(json);
    html = pages.html();
    markdown = pages.markdown();
    charts = pages.charts();
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::kBadInput, "{}: not the report of a lab: {}", (folder / "report.json").string(), error.what());
  }
  std::error_code error;
  fs::create_directories(folder / "plots", error);
  if (error)
    fail(ErrorKind::kResource, "{}: cannot make this folder: {}", (folder / "plots").string(), error.message());
  for (const Chart& chart : charts) write_file_atomically(folder / "plots" / chart.file, chart.svg);
  write_file_atomically(folder / "report.json", text);
  write_file_atomically(folder / "report.md", markdown);
  write_file_atomically(folder / "report.html", html);
}

}  // namespace switchyard::observe
